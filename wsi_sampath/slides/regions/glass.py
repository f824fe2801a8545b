"""The bare glass of a bright-field image, and how much light everything else takes from it.

Without scipy, so that checking the colours of a slide costs no import.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

UInt8Array = npt.NDArray[np.uint8]
BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float32]

# Share of the image below which glass counts as absent.
LEAST_GLASS = 0.005
_GLASS_BESIDE_FILLING = 0.05
_FLAT_RANGE, _DIMMEST_GLASS, _GLASS_CAST = 6, 110, 0.12
_WHITE_FROM, _WHITE_RANGE = 195, 15
# A strong tint is glass only where it is bright, and fills as much as pale tissue never does in
# one colour.
_DIMMEST_TINTED, _LEAST_TINTED = 180, 0.15
_DARK, _BRIGHT = 40, 150
_DARK_FIELD_BLACK, _DARK_FIELD_GLASS = 0.3, 0.02


def even_places(rgb: UInt8Array) -> BoolArray:
    """Find bright pixels without any structure around them, as glass is, bool (h, w)."""
    even: BoolArray = np.ones(rgb.shape[:2], bool)
    for channel in range(3):
        plane = rgb[..., channel]
        even &= (_neighbours(plane, np.maximum) - _neighbours(plane, np.minimum)) <= _FLAT_RANGE
    even &= rgb.min(2) >= _DIMMEST_GLASS
    return even


def _neighbours(plane: UInt8Array, combine: np.ufunc) -> UInt8Array:
    """Combine each pixel with its eight neighbours, (h, w); the frame repeats its edge."""
    for axis in (0, 1):
        padded = np.pad(plane, [(1, 1) if a == axis else (0, 0) for a in (0, 1)], mode="edge")
        parts = [
            padded[n : n + len(plane)] if axis == 0 else padded[:, n : n + plane.shape[1]]
            for n in range(3)
        ]
        plane = combine(combine(parts[0], parts[1]), parts[2])
    return plane


def glass_colour(rgb: UInt8Array, flat: BoolArray | None = None) -> FloatArray:
    """Find the colour of bare glass, float32 (3,): a usual white where hardly any is visible.

    Glass is the brightest that is even and nearly without colour; its white balance and its
    brightness are the scanner's. Pure white beside it is what scanners fill unscanned places with.

    Parameters
    ----------
    rgb
        uint8 (h, w, 3).
    flat
        bool (h, w): where the image is even; found if None.
    """
    step = _stride(rgb)
    pixels = rgb[::step, ::step].reshape(-1, 3)
    even = (even_places(rgb) if flat is None else flat)[::step, ::step].reshape(-1)
    low, high = pixels.min(1).astype(np.float32), pixels.max(1).astype(np.float32)
    bright = (low > _WHITE_FROM) & (high - low < _WHITE_RANGE)
    likely = bright | (even & (high - low <= _GLASS_CAST * high) & ~_is_eosin_coloured(pixels))
    filled = (pixels == 255).all(1)
    if (likely & ~filled).mean() > _GLASS_BESIDE_FILLING:
        likely &= ~filled
    tinted = None
    if (likely & ~filled).mean() < LEAST_GLASS:
        tinted = _tinted_glass(pixels, even & ~filled)
    if tinted is not None:
        return tinted
    if likely.mean() < LEAST_GLASS:
        return np.array([243, 243, 243], np.float32)
    level = low[likely]
    top = level >= np.percentile(level, 90) - 8
    white: FloatArray = np.median(pixels[likely][top], axis=0).astype(np.float32)
    return white


def _tinted_glass(pixels: UInt8Array, even: BoolArray) -> FloatArray | None:
    """Find glass of a strong tint, which fills a large area in one colour."""
    bright = pixels[even & (pixels.min(1) >= _DIMMEST_TINTED)]
    if not len(bright):
        return None
    light = bright.sum(1, dtype=np.int32)
    top = bright[light >= np.percentile(light, 95) - _FLAT_RANGE]
    colour: FloatArray = np.median(top, axis=0).astype(np.float32)
    alike = even & (np.abs(pixels - colour).max(1) <= _FLAT_RANGE)
    return colour if alike.mean() > _LEAST_TINTED else None


def _is_eosin_coloured(pixels: UInt8Array) -> BoolArray:
    """Return the colours in which green is clearly weakest, as in tissue that is pale and even."""
    red, green, blue = (pixels[:, channel].astype(np.int16) for channel in range(3))
    found: BoolArray = (green < red - 4) & (green < blue - 4)
    return found


def _stride(rgb: UInt8Array) -> int:
    return max(1, int(np.sqrt(rgb.shape[0] * rgb.shape[1] / 1_000_000)))


def is_dark_field(rgb: UInt8Array) -> bool:
    """Return whether it is a fluorescence image: much black and no glass."""
    black = float((rgb.max(2) < _DARK).mean())
    glass = float((rgb.min(2) > _BRIGHT).mean())
    return black > _DARK_FIELD_BLACK and glass < _DARK_FIELD_GLASS


def optical_density(rgb: UInt8Array, glass: FloatArray) -> FloatArray:
    """Return the decadic optical density against the glass, float32 (3, h, w), never below 0."""
    levels = np.arange(256, dtype=np.float32)
    table = np.log10((glass[:, None] + 1) / (levels + 1)).clip(0, None)
    return np.stack([table[c][rgb[..., c]] for c in range(3)])
