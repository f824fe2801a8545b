"""What every reader is, and what all of them share."""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from wsi_sampath.slides.readers.metadata import SlideMetadata
from wsi_sampath.slides.remote.place import RemotePath

if TYPE_CHECKING:
    import tifffile

# Faults of a file are reported once, by us, whichever process reads it; a program that has set its
# own level keeps it.
if logging.getLogger("tifffile").level == logging.NOTSET:
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)

Rgb = NDArray[np.uint8]
Box = tuple[int, int, int, int]

# What the TIFF libraries raise on files that are cut off or nonsense, as found by damaging files.
BROKEN_TIFF = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    RuntimeError,
    ArithmeticError,
    AssertionError,
    EOFError,
    StopIteration,
    SyntaxError,
    struct.error,
)


class TileError(Exception):
    """A region, or a whole file, that this reader cannot decode; another reader may."""


class RefusedError(TileError):
    """A file whose content is known, and that no reader can turn into an RGB slide."""


class Reader(Protocol):
    """One open slide file; `read` may be called from several threads at once."""

    name: str
    metadata: SlideMetadata

    @property
    def decoded_px(self) -> int | None:
        """Source pixels decoded so far; None where the reader does not count them."""
        ...

    def read(self, level: int, x: int, y: int, width: int, height: int) -> Rgb:
        """Read a box of a level, in that level's pixels, as uint8 (height, width, 3)."""
        ...

    def reads_wide(self, level: int) -> bool:
        """Return whether a wide box of a level costs less to read than its parts one by one."""
        ...

    def close(self) -> None:
        """Release the file."""
        ...


def tiff_file(path: Path) -> tifffile.TiffFile:
    """Open a TIFF by tifffile, which knows no paths but local ones; its errors are passed on."""
    import tifffile

    return tifffile.TiffFile(path.open("rb") if isinstance(path, RemotePath) else path)


def read_clipped(
    size: tuple[int, int],
    background: tuple[int, int, int],
    box: Box,
    raw: Callable[[Box], Rgb],
) -> Rgb:
    """Read a box (x, y, width, height), of which only the part inside `size` can be read."""
    x, y, width, height = box
    left, top = max(x, 0), max(y, 0)
    right, bottom = min(x + width, size[0]), min(y + height, size[1])
    if (left, top, right, bottom) == (x, y, x + width, y + height):
        return raw(box)
    out = np.empty((height, width, 3), np.uint8)
    out[:] = background
    if left < right and top < bottom:
        inside = raw((left, top, right - left, bottom - top))
        out[top - y : bottom - y, left - x : right - x] = inside
    return out


def flatten(pixels: NDArray[np.uint8], background: tuple[int, int, int]) -> Rgb:
    """Composite (h, w, 4) with straight alpha on the background; (h, w, 3) passes."""
    if pixels.shape[-1] == 3:
        return pixels
    alpha = pixels[..., 3:]
    colour = pixels[..., :3]
    if alpha.min(initial=255) == 255:
        return _three_of_four(pixels)
    weight = alpha.astype(np.uint16)
    ground = np.asarray(background, np.uint16)
    mixed = (colour * weight + ground * (255 - weight) + 127) // 255
    return mixed.astype(np.uint8)


def _three_of_four(pixels: NDArray[np.uint8]) -> Rgb:
    """Leave out the last sample: one copy per colour, far faster than one of three bytes each."""
    out = np.empty((*pixels.shape[:-1], 3), np.uint8)
    for colour in range(3):
        out[..., colour] = pixels[..., colour]
    return out


def as_rgb(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Return 8-bit RGB or RGBA as it is, grey as RGB; anything else raises `TileError`."""
    if pixels.dtype != np.uint8:
        raise TileError(f"pixels are {pixels.dtype}, not 8-bit")
    if pixels.ndim == 2:
        return np.repeat(pixels[..., None], 3, axis=-1)
    if pixels.ndim == 3 and pixels.shape[-1] == 1:
        return np.repeat(pixels, 3, axis=-1)
    if pixels.ndim != 3 or pixels.shape[-1] not in (3, 4):
        raise TileError(f"pixels of shape {pixels.shape} are not RGB")
    return pixels
