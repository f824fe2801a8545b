"""Where the pixels of a result's levels lie on the slide."""

from __future__ import annotations

import math
from dataclasses import dataclass

from wsi_sampath.outputs.result import Result


@dataclass(frozen=True)
class LevelPlace:
    """The grid of one level, in level-0 pixels of the slide.

    Attributes
    ----------
    width, height
        In pixels of the level.
    scale
        Level-0 pixels in one pixel of the level, x and y.
    origin
        Level-0 x and y of the corner of its first pixel.
    """

    width: int
    height: int
    scale: tuple[float, float]
    origin: tuple[float, float]

    def pixel_at(self, x: float, y: float) -> tuple[int, int] | None:
        """Return column and row of the pixel at a level-0 point; None beside the map."""
        # A point far away may be at infinity when counted in pixels.
        column, row = (x - self.origin[0]) / self.scale[0], (y - self.origin[1]) / self.scale[1]
        inside = 0 <= column < self.width and 0 <= row < self.height
        return (math.floor(column), math.floor(row)) if inside else None


def slide_size(result: Result) -> tuple[float, float]:
    """Return width and height of the slide in level-0 pixels."""
    width, height = result.attributes["slide_size"]
    return width, height


def level_places(result: Result) -> tuple[LevelPlace, ...]:
    """Return where every level lies, the finest first."""
    mpp = result.attributes["mpp"]
    return tuple(
        LevelPlace(
            one.width,
            one.height,
            scale := (one.um_x / mpp["x"], one.um_y / mpp["y"]),
            # Offsets are from pixel centre to pixel centre; corners are what is wanted.
            (
                one.offset_um_x / mpp["x"] + (1 - scale[0]) / 2,
                one.offset_um_y / mpp["y"] + (1 - scale[1]) / 2,
            ),
        )
        for one in result.levels
    )
