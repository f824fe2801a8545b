"""How the pixels of a plane at the wanted mpp come from a slide's levels: pure arithmetic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

TOLERANCE = 0.02


@dataclass(frozen=True)
class Level:
    """One pyramid level.

    Attributes
    ----------
    width, height
        Size in this level's pixels.
    downsample_x, downsample_y
        Level-0 pixels per pixel of this level.
    """

    width: int
    height: int
    downsample_x: float
    downsample_y: float


@dataclass(frozen=True)
class Sampling:
    """A plane that covers the slide at the wanted mpp, and the level it is read from.

    Attributes
    ----------
    level
        Level that is read.
    factor_x, factor_y
        Pixels of that level per pixel of the plane.
    zoom_x, zoom_y
        Level-0 pixels per pixel of the plane.
    mpp_x, mpp_y
        Effective um per pixel of the plane.
    requested_mpp
        The requested mpp. Within 2 % the effective mpp may be a whole multiple of the level's own
        (pixels are then copied or averaged in whole blocks, never interpolated).
    width, height
        Size of the plane in pixels.
    """

    level: int
    factor_x: float
    factor_y: float
    zoom_x: float
    zoom_y: float
    mpp_x: float
    mpp_y: float
    requested_mpp: float
    width: int
    height: int

    @property
    def is_integer(self) -> bool:
        """Whether each plane pixel is a whole block of level pixels."""
        return self.factor_x == round(self.factor_x) and self.factor_y == round(self.factor_y)


def snap_levels(sizes: Sequence[tuple[int, int]]) -> tuple[Level, ...]:
    """Turn level sizes into levels with their true downsamples.

    Scanners drop the last pixels when they halve, so that size ratios come out as 4.0003 where the
    downsample is 4: a whole number is taken where it explains the size to within a pixel.

    Parameters
    ----------
    sizes
        (width, height) per level, level 0 first.
    """
    width, height = sizes[0]
    return tuple(Level(w, h, _downsample(width, w), _downsample(height, h)) for w, h in sizes)


def _downsample(full: int, size: int) -> float:
    ratio = full / size
    whole = round(ratio)
    return float(whole) if whole >= 1 and abs(full / whole - size) <= 1 else ratio


def plan_sampling(levels: Sequence[Level], mpp: tuple[float, float], requested: float) -> Sampling:
    """Choose the nearest better level, and how to get from it to the requested mpp.

    Parameters
    ----------
    levels
        Levels of the slide.
    mpp
        (x, y) um per level-0 pixel.
    requested
        Wanted um per pixel, the same on both axes.
    """
    index = _nearest_better(levels, mpp, requested)
    level = levels[index]
    factor_x = _factor(requested / (mpp[0] * level.downsample_x))
    factor_y = _factor(requested / (mpp[1] * level.downsample_y))
    zoom_x, zoom_y = factor_x * level.downsample_x, factor_y * level.downsample_y
    return Sampling(
        level=index,
        factor_x=factor_x,
        factor_y=factor_y,
        zoom_x=zoom_x,
        zoom_y=zoom_y,
        mpp_x=mpp[0] * zoom_x,
        mpp_y=mpp[1] * zoom_y,
        requested_mpp=requested,
        width=_extent(levels[0].width, zoom_x),
        height=_extent(levels[0].height, zoom_y),
    )


def read_from(sampling: Sampling, levels: Sequence[Level], level: int) -> Sampling:
    """Return the same plane, read from another level."""
    factor_x = sampling.zoom_x / levels[level].downsample_x
    factor_y = sampling.zoom_y / levels[level].downsample_y
    return replace(sampling, level=level, factor_x=factor_x, factor_y=factor_y)


def _nearest_better(levels: Sequence[Level], mpp: tuple[float, float], requested: float) -> int:
    limit = requested * (1 + TOLERANCE)
    fine = [
        index
        for index, level in enumerate(levels)
        if max(mpp[0] * level.downsample_x, mpp[1] * level.downsample_y) <= limit
    ]
    return max(fine, key=lambda index: levels[index].downsample_x, default=0)


def _factor(exact: float) -> float:
    whole = round(exact)
    near = whole >= 1 and abs(whole / exact - 1) <= TOLERANCE
    return float(whole) if near else exact


def _extent(pixels: int, zoom: float) -> int:
    # The small slack keeps 2967 / 1.0000001 from gaining an empty pixel.
    return max(1, math.ceil(pixels / zoom - 1e-3))
