"""A few places of a slide at full detail, spread over its tissue."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_sampath.slides.overview import read_in_parts
from wsi_sampath.slides.readers.base import TileError
from wsi_sampath.slides.slide import Slide

PLACE_MPP = 0.5
MOST_PLACES = 48
_SIDE_UM = 128.0
# Points per side of a cell at which the mask is asked.
_POINTS = 4


@dataclass(frozen=True)
class Places:
    """What was read.

    Attributes
    ----------
    pictures
        uint8 (n, h, w, 3).
    um_x, um_y
        Um per pixel of them.
    unread
        Number of places that could not be decoded.
    """

    pictures: NDArray[np.uint8]
    um_x: float
    um_y: float
    unread: int


def read_places(slide: Slide, mask: NDArray[np.bool_]) -> Places:
    """Read squares of up to 128 um that lie apart, at 0.5 um per pixel or as fine as the slide is.

    Parameters
    ----------
    slide
        The open slide.
    mask
        bool (h, w) over the whole slide. At most `MOST_PLACES` squares are read, which is all of
        them on a small slide; which ones depends on slide and mask alone.
    """
    sampling = slide.sampling(max(PLACE_MPP, slide.mpp.x, slide.mpp.y))
    across = math.ceil(sampling.width * sampling.mpp_x / _SIDE_UM)
    down = math.ceil(sampling.height * sampling.mpp_y / _SIDE_UM)
    width, height = sampling.width // across, sampling.height // down
    pictures = []
    chosen = _chosen(mask, across, down)
    for row, column in chosen.tolist():
        # Cells fill the slide: they may be a pixel larger than the squares in their corners.
        x, y = column * sampling.width // across, row * sampling.height // down
        try:
            pictures.append(read_in_parts(slide.read_sampled, sampling, (x, y, width, height)))
        except TileError:
            continue
    stack = np.stack(pictures) if pictures else np.zeros((0, height, width, 3), np.uint8)
    return Places(stack, sampling.mpp_x, sampling.mpp_y, len(chosen) - len(pictures))


def _chosen(mask: NDArray[np.bool_], across: int, down: int) -> NDArray[np.int64]:
    """Choose cells of a lattice of `down` x `across`, (n, 2) of row and column."""
    rows = _asked(down, mask.shape[0])
    columns = _asked(across, mask.shape[1])
    inside = mask[np.ix_(rows, columns)].reshape(down, _POINTS, across, _POINTS).mean((1, 3))
    # Cells mostly of tissue, or on small pieces those that have most of it.
    full = np.argwhere((inside > 0) & (inside >= 0.5 * inside.max()))
    picked = np.linspace(0, len(full) - 1, min(MOST_PLACES, len(full))).astype(int)
    chosen: NDArray[np.int64] = full[picked]
    return chosen


def _asked(cells: int, length: int) -> NDArray[np.int64]:
    """Return the rows or columns of a mask at `_POINTS` points of every cell."""
    places = (np.arange(cells * _POINTS) + 0.5) / (cells * _POINTS) * length
    return places.astype(np.int64)
