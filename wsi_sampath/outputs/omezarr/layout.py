"""Classes, levels and arrays of a result, held against what a run of ours writes.

Whatever lies on disk ends in a layout that can be read in the memory it seems to need, or in one
line that says what is damaged.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from wsi_sampath.errors import WsiError
from wsi_sampath.outputs.omezarr.bands import CHUNK
from wsi_sampath.outputs.omezarr.downsample import Unsigned, pyramid_shapes

LABELS = "labels/classes"
# What zarr, its codecs and our reading of its metadata raise on files that are cut or nonsense.
BROKEN_ZARR = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    RuntimeError,
    ArithmeticError,
    AssertionError,
    SystemError,
    MemoryError,
)
# How far the maps may reach past the slide's edge: a tile that covers it.
_OVERHANG_PX = 4096


@dataclass(frozen=True)
class ResultClass:
    """One class: its value in the class map, name and "#rrggbb"."""

    value: int
    name: str
    color: str


@dataclass(frozen=True)
class ResultLevel:
    """One level of the pyramid.

    Attributes
    ----------
    height, width
        In pixels of this level.
    um_x, um_y
        Um per pixel.
    offset_um_x, offset_um_y
        Where the centre of the first pixel lies, from the centre of the slide's first pixel.
    """

    height: int
    width: int
    um_x: float
    um_y: float
    offset_um_x: float
    offset_um_y: float


def damaged(path: Path, what: object) -> NoReturn:
    """Refuse a result.

    Raises
    ------
    WsiError
        ``bad-input``.
    """
    said = f"{type(what).__name__}: {what}" if isinstance(what, BaseException) else str(what)
    message = f"is damaged ({said[:300]}); run wsi-segment --force"
    raise WsiError("bad-input", message, subject=str(path))


def read_layout(
    path: Path, attributes: dict[str, Any]
) -> tuple[tuple[ResultClass, ...], tuple[ResultLevel, ...]]:
    """Read the classes, and the levels with the class map's arrays checked.

    Raises
    ------
    WsiError
        ``bad-input`` where the metadata are not what a run of ours writes.
    """
    import zarr

    try:
        group = zarr.open_group(str(path / LABELS), mode="r")
        metadata: Any = group.attrs.get("ome", group.attrs)
        classes = _classes(metadata["image-label"])
        datasets = metadata["multiscales"][0]["datasets"]
        shapes = [_shape(group, number, one) for number, one in enumerate(datasets)]
        levels = tuple(_level(shape, one) for shape, one in zip(shapes, datasets, strict=True))
    except (*BROKEN_ZARR, RecursionError) as error:
        damaged(path, error)
    _check_names(path, classes, attributes)
    _check_sizes(path, levels, attributes)
    return classes, levels


def _classes(label: dict[str, Any]) -> tuple[ResultClass, ...]:
    names = {one["label-value"]: one["class"] for one in label["properties"]}
    colors = {one["label-value"]: one["rgba"] for one in label["colors"]}
    return tuple(ResultClass(n, str(names[n]), _hex(colors[n])) for n in sorted(names) if n > 0)


def _hex(rgba: list[int]) -> str:
    red, green, blue, _ = bytes(rgba)
    return f"#{red:02x}{green:02x}{blue:02x}"


def _shape(group: Any, number: int, dataset: dict[str, Any]) -> tuple[int, int]:
    if dataset["path"] != str(number):
        raise ValueError(f"level {number} lies at {dataset['path']!r}")
    height, width = _plain(group[str(number)]).shape
    return height, width


def _plain(array: Any, dtype: str = "uint8") -> Any:
    """Return an array if it is stored as ours are: otherwise its values or size would mislead."""
    if array.dtype != np.dtype(dtype) or array.fill_value != 0 or array.order != "C":
        raise ValueError(f"an array of {array.dtype}, filled with {array.fill_value}")
    if array.filters or max(array.chunks) > CHUNK or min(array.shape) < 1:
        raise ValueError(f"an array of {array.shape} in chunks of {array.chunks}")
    return array


def _level(shape: tuple[int, int], dataset: dict[str, Any]) -> ResultLevel:
    scale, translation = dataset["coordinateTransformations"]
    (um_y, um_x), (off_y, off_x) = scale["scale"], translation["translation"]
    numbers = [float(value) for value in (um_x, um_y, off_x, off_y)]
    if not np.isfinite(numbers).all() or min(numbers[:2]) <= 0:
        raise ValueError(f"a scale of {scale['scale']}, {translation['translation']}")
    return ResultLevel(*shape, *numbers)


def _check_names(path: Path, classes: tuple[ResultClass, ...], attributes: dict[str, Any]) -> None:
    if [one.value for one in classes] != list(range(1, len(classes) + 1)):
        damaged(path, f"its classes have the values {[one.value for one in classes][:8]}")
    missing = [one.name for one in classes if one.name not in attributes["area_mm2"]]
    if missing:
        damaged(path, f"the area of class {missing[0]!r} is not stated")


def _check_sizes(path: Path, levels: tuple[ResultLevel, ...], attributes: dict[str, Any]) -> None:
    """Hold the arrays' sizes against the slide's, so that none asks for absurd memory."""
    if not levels:
        damaged(path, "it has no level")
    first, mpp = levels[0], attributes["mpp"]
    width, height = attributes["slide_size"]
    for pixels, extent_um, um in (
        (first.width, width * mpp["x"], first.um_x),
        (first.height, height * mpp["y"], first.um_y),
    ):
        if not extent_um / um - 2 <= pixels <= extent_um / um + _OVERHANG_PX:
            damaged(path, f"maps of {first.width} x {first.height} px do not fit the slide")
    wanted = pyramid_shapes(first.height, first.width, stop=CHUNK)
    if [(one.height, one.width) for one in levels] != wanted:
        damaged(path, "its levels do not halve one after the other")


class StoredPlane:
    """An array of a result that reads like numpy's, or says in one line what is damaged.

    Parameters
    ----------
    path, name
        The zarr, and the array in it.
    dtype
        Of what it holds.
    most
        The largest value that it may hold; None for any.

    Raises
    ------
    WsiError
        ``bad-input`` where the array is not there, or not as it should be.
    """

    def __init__(
        self, path: Path, name: str, *, dtype: str = "uint8", most: int | None = None
    ) -> None:
        import zarr

        self._path, self._name, self._most = path, name, most
        self.dtype = np.dtype(dtype)
        try:
            self._array = _plain(zarr.open_array(str(path / name), mode="r"), dtype)
        except (*BROKEN_ZARR, RecursionError) as error:
            damaged(path, error)
        self.shape: tuple[int, ...] = self._array.shape
        self.ndim, self.chunks = len(self.shape), self._array.chunks

    def of(self, *shape: int) -> StoredPlane:
        """Return this array, if it has the shape that it must have."""
        if self.shape != shape:
            damaged(self._path, f"{self._name} is {self.shape}, not {shape}")
        return self

    def __getitem__(self, place: Any) -> Unsigned:
        try:
            found: Unsigned = np.asarray(self._array[place])
        except BROKEN_ZARR as error:
            damaged(self._path, error)
        if self._most is not None and found.max(initial=0) > self._most:
            damaged(self._path, f"a label of {found.max()}, but {self._most} classes")
        return found
