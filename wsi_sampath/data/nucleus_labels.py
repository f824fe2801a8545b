"""Labels of nuclei as people have them: pictures, ``.npy`` and ``.mat``, in one form.

Of every nucleus its number, and perhaps the number of its type. What cannot be told apart (black
and white, colours, fractions) is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat, whosmat
from scipy.io.matlab import MatReadError
from scipy.ndimage import find_objects, label

from wsi_sampath.data.pairing import SOURCE_SUFFIXES
from wsi_sampath.errors import WsiError
from wsi_sampath.shown import shortened
from wsi_sampath.slides.pictures import read_picture

LABEL_SUFFIXES = (*SOURCE_SUFFIXES, ".npy", ".mat")
MOST = np.iinfo(np.uint16).max
"""How many nuclei a patch can hold."""
_INSTANCES, _TYPES = "inst_map", "type_map"
_EIGHT_NEIGHBOURS = np.ones((3, 3), np.bool_)
_PICKLED = ("allow_pickle", "Python objects")
"""What numpy says of a file that could run code."""
_IN_PIECES = 0.1
"""Share of the nuclei in several pieces from which their numbers are doubted."""
_DAMAGED = (
    *(OSError, ValueError, TypeError, KeyError, IndexError, EOFError, NotImplementedError),
    *(MatReadError, MemoryError, OverflowError, AttributeError),
)


@dataclass(frozen=True)
class NucleusLabels:
    """The labels of one image.

    Attributes
    ----------
    instances
        (height, width) numbers of any type, 0 = background; not checked yet.
    types
        The same of types, or None where the file has none.
    turned
        Whether the file had to be turned, as its orientation tag says.
    """

    instances: NDArray[Any]
    types: NDArray[Any] | None = None
    turned: bool = False


def read_nucleus_labels(path: Path) -> NucleusLabels:
    """Read a file of labels.

    A picture holds one number a pixel; a ``.npy`` numbers (height, width), or (height, width, 2)
    with the types second, as HoVer-Net keeps them; a ``.mat`` an ``inst_map`` and perhaps a
    ``type_map``, as CoNSeP.

    Raises
    ------
    WsiError
        ``bad-input`` if it cannot be read, or is none of these.
    """
    match path.suffix.lower():
        case ".npy":
            return _of_numpy(path)
        case ".mat":
            return _of_matlab(path)
        case _:
            return _of_picture(path)


def read_array(path: Path) -> NDArray[Any]:
    """Return the array of a ``.npy`` file, mapped into memory; nothing in it is run.

    Raises
    ------
    WsiError
        ``bad-input`` if it is damaged, or holds objects of Python.
    """
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except _DAMAGED as error:
        if any(word in str(error) for word in _PICKLED):
            message = (
                "holds objects of Python, which are never unpickled; save the plain numbers: "
                "numpy.save(FILE, instances)"
            )
        else:
            message = f"is damaged or not a .npy file ({_in_short(error)})"
        raise _bad(path, message) from None
    return array


def checked_instances(
    values: NDArray[Any], path: Path
) -> tuple[NDArray[np.uint16], tuple[str, ...]]:
    """Return instances as uint16 (height, width), and what is doubtful about them.

    Raises
    ------
    WsiError
        ``bad-input`` for what cannot be the numbers of nuclei.
    """
    numbers = whole_numbers(values, "instances", path)
    notes: tuple[str, ...] = ()
    if int(numbers.max(initial=0)) > MOST:
        found, positions = np.unique(numbers, return_inverse=True)
        if len(found) - (found[0] == 0) > MOST:
            raise _bad(path, f"holds {len(found) - 1} nuclei; a patch can hold {MOST}")
        numbers = positions.reshape(numbers.shape) + (found[0] != 0)
        notes = (f"numbers above {MOST}, so its nuclei are numbered anew",)
    instances = numbers.astype(np.uint16)
    return instances, (*notes, *_doubts(instances, path))


def whole_numbers(values: NDArray[Any], what: str, path: Path) -> NDArray[np.int64]:
    """Return numbers (height, width) that are whole and not negative.

    Raises
    ------
    WsiError
        ``bad-input`` otherwise.
    """
    if values.ndim != 2 or values.dtype.kind not in "biuf":
        message = f"its {what} are {values.dtype} of shape {values.shape}, not one number a pixel"
        raise _bad(path, message)
    if values.dtype.kind == "f" and not bool(np.isfinite(values).all()):
        raise _bad(path, f"its {what} hold NaN or infinity")
    if values.dtype.kind == "f" and bool((values != np.rint(values)).any()):
        raise _bad(path, f"its {what} hold fractions, which are not numbers of anything")
    if values.size and (values.min() < 0 or float(values.max()) > np.iinfo(np.int64).max // 2):
        raise _bad(path, f"its {what} hold negative or absurdly large numbers")
    return values.astype(np.int64)


def type_by_nucleus(
    instances: NDArray[np.uint16], types: NDArray[np.int64], path: Path
) -> tuple[NDArray[np.uint16], tuple[str, ...]]:
    """Return types that are the same all over each nucleus, and notes on what was mended.

    Parameters
    ----------
    instances
        (height, width), 0 = background.
    types
        The type of every pixel. The most frequent one of a nucleus counts, even if it is 0.

    Raises
    ------
    WsiError
        ``bad-input`` for sizes that differ, and types above 65535.
    """
    if types.shape != instances.shape:
        sizes = [f"{one.shape[1]} x {one.shape[0]} px" for one in (types, instances)]
        raise _bad(path, f"its types are {sizes[0]}, its instances {sizes[1]}")
    if int(types.max(initial=0)) > MOST:
        raise _bad(path, f"holds types above {MOST}")
    notes = []
    if bool(((types > 0) & (instances == 0)).any()):
        notes.append("types outside of nuclei are left out")
    inside = instances > 0
    codes, counts = np.unique(
        instances[inside] * np.int64(MOST + 1) + types[inside], return_counts=True
    )
    owners, kinds = np.divmod(codes, MOST + 1)
    if len(np.unique(owners)) < len(owners):
        notes.append("nuclei with pixels of several types get the most frequent one")
    # By the nucleus, the most frequent type last; of equals the smaller.
    order = np.lexsort((-kinds, counts, owners))
    table = np.zeros(int(instances.max(initial=0)) + 1, np.uint16)
    table[owners[order]] = kinds[order]
    return table[instances], tuple(notes)


def _doubts(instances: NDArray[np.uint16], path: Path) -> tuple[str, ...]:
    """Refuse black and white, and doubt numbers that many nuclei have several pieces of."""
    boxes = [(i + 1, box) for i, box in enumerate(find_objects(instances)) if box is not None]
    pieces = [label(instances[box] == i, _EIGHT_NEIGHBOURS)[1] for i, box in boxes]
    if len(pieces) == 1 and pieces[0] > 1:
        message = (
            f"has one number, {boxes[0][0]}, in {pieces[0]} places: its nuclei are not told apart; "
            "every nucleus needs a number of its own"
        )
        raise _bad(path, message)
    ground = _ground(instances)
    if ground is not None:
        raise _bad(path, f"has the number {ground} at all its edges; the background must be 0")
    several = sum(count > 1 for count in pieces)
    if several > _IN_PIECES * len(pieces):
        return ("many nuclei are in several pieces; do nuclei share their numbers?",)
    return ()


def _ground(instances: NDArray[np.uint16]) -> int | None:
    """Return the number that lies along all edges and fills most of the rest, as ground does."""
    number = int(np.bincount(instances.ravel(), minlength=1).argmax())
    edges = (instances[0], instances[-1], instances[:, 0], instances[:, -1])
    if number == 0 or not all(bool((edge == number).any()) for edge in edges):
        return None
    return number if np.count_nonzero(instances == number) > instances.size / 2 else None


def _of_picture(path: Path) -> NucleusLabels:
    picture = read_picture(path)
    if picture.lossy:
        raise _bad(path, "is compressed with losses, which change labels; save it as PNG")
    if picture.pixels.ndim != 2:
        raise _bad(path, "is coloured; labels are one number a pixel (16-bit grey)")
    if picture.alpha is not None or picture.hidden or picture.inverted:
        raise _bad(path, "is transparent or inverted; save its numbers as plain 16-bit grey")
    return NucleusLabels(picture.pixels, turned=picture.turned)


def _of_numpy(path: Path) -> NucleusLabels:
    values = read_array(path)
    if values.ndim == 3 and values.shape[2] == 2:
        return NucleusLabels(values[..., 0], values[..., 1])
    return NucleusLabels(values)


def _of_matlab(path: Path) -> NucleusLabels:
    try:
        names = [name for name, *_ in whosmat(path)]
        if _INSTANCES not in names:
            has = ", ".join(map(shortened, names[:3])) or "nothing"
            raise _bad(path, f"has no {_INSTANCES}, the instances of CoNSeP; it holds {has}")
        content = loadmat(path, variable_names=[_INSTANCES, _TYPES])
    except _DAMAGED as error:
        message = f"is damaged or not a .mat file before version 7.3 ({_in_short(error)})"
        raise _bad(path, message) from None
    return NucleusLabels(content[_INSTANCES], content.get(_TYPES))


def _bad(path: Path, message: str) -> WsiError:
    return WsiError("bad-input", message, subject=str(path))


def _in_short(error: Exception) -> str:
    return shortened(" ".join(str(error).split())) or type(error).__name__
