"""Pixels of OpenSlide as RGB, in one pass over the memory that its library fills.

The public call of openslide-python returns a Pillow image, out of which NumPy copies four bytes a
pixel twice before a colour is used. The function of the library below it is the same one; where
this version of openslide-python does not bind it as is known here, the public call is used.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_sampath.slides.readers.base import Rgb, flatten

_COLOURS = (2, 1, 0) if sys.byteorder == "little" else (1, 2, 3)
_OPAQUE = 0xFF000000
_LEAST_VISIBLE = 1 << 24
# A block of the tile stream fits; memory in use stays in the processor's cache from call to call.
_KEPT_PX = 1 << 18
# openslide_read_region(slide, dest, x, y, level, width, height)
_PIXELS = ctypes.POINTER(ctypes.c_uint32)
_PLACE = [ctypes.c_int64, ctypes.c_int64, ctypes.c_int32, ctypes.c_int64, ctypes.c_int64]


class _Scratch(threading.local):
    """Memory of one thread for the library to fill, and its address."""

    def __init__(self) -> None:
        self.kept = _memory(0)

    def of(self, pixels: int) -> tuple[NDArray[np.uint32], Any]:
        """Return memory for at least so many pixels; the next call in this thread reuses it."""
        if pixels > _KEPT_PX:
            return _memory(pixels)
        if not self.kept[0].size:
            self.kept = _memory(_KEPT_PX)
        return self.kept


def _memory(pixels: int) -> tuple[NDArray[np.uint32], Any]:
    argb = np.empty(pixels, np.uint32)
    return argb, argb.ctypes.data_as(_PIXELS)


_SCRATCH = _Scratch()


def read_rgb(
    handle: Any,
    location: tuple[int, int],
    level: int,
    size: tuple[int, int],
    background: tuple[int, int, int],
) -> Rgb:
    """Read a region on a background; the arguments of ``read_region``, and its errors.

    Parameters
    ----------
    handle
        An ``openslide.OpenSlide``.
    location, level, size
        Top left in level-0 pixels, the level, and (width, height) in its pixels.
    background
        What shows through where the region is not opaque.

    Returns
    -------
    uint8 (height, width, 3)
    """
    width, height = size
    read = _library_call(handle)
    if read is None or width <= 0 or height <= 0:
        return flatten(np.asarray(handle.read_region(location, level, size)), background)
    argb, address = _SCRATCH.of(width * height)
    read(handle._osr, address, *location, level, width, height)
    return rgb_of_premultiplied(argb[: width * height].reshape(height, width), background)


def _library_call(handle: Any) -> Any:
    """Return the library's function as openslide-python binds it, or None if not as expected."""
    from openslide import lowlevel

    bound = getattr(lowlevel, "_read_region", None)
    takes = getattr(bound, "argtypes", None)
    known = takes is not None and list(takes[1:]) == [_PIXELS, *_PLACE]
    return bound if known and hasattr(handle, "_osr") else None


def rgb_of_premultiplied(argb: NDArray[np.uint32], background: tuple[int, int, int]) -> Rgb:
    """Composite premultiplied ARGB on a background, to the bytes of openslide-python and `flatten`.

    Parameters
    ----------
    argb
        uint32 (height, width): alpha in the highest byte, blue in the lowest, contiguous.
    background
        The RGB below.

    Returns
    -------
    uint8 (height, width, 3)
    """
    rgb = np.empty((*argb.shape, 3), np.uint8)
    opaque = bool(argb.min(initial=_OPAQUE) == _OPAQUE)
    if not opaque and argb.max() < _LEAST_VISIBLE:
        # Much of a slide may never have been scanned.
        rgb[:] = background
        return rgb
    samples = argb.view(np.uint8).reshape(*argb.shape, 4)
    for colour, place in enumerate(_COLOURS):
        rgb[..., colour] = samples[..., place]
    if not opaque:
        clear = argb < _OPAQUE
        rgb[clear] = _mixed(rgb[clear], argb[clear], background)
    return rgb


def _mixed(rgb: Rgb, argb: NDArray[np.uint32], background: tuple[int, int, int]) -> Rgb:
    """Composite premultiplied pixels (n, 3) with the alpha in (n,)."""
    weight = (argb >> 24).astype(np.uint16)[:, None]
    straight = 255 * rgb.astype(np.uint16) // np.maximum(weight, 1)
    return flatten(np.hstack((straight, weight)).astype(np.uint8), background)
