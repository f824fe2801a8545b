"""Pure geometry of a run: output plane, overlapping tiles, strips, blend window.

Three pixel grids are in play. *Level-0* pixels are the slide's own. *Model* pixels are what the
network sees, `zoom` level-0 pixels each. *Output* pixels are what it answers with, `stride` model
pixels each; tiles, strips and all maps live on this grid, so that overlapping answers coincide.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from wsi_sampath.slides.sampling import Sampling

Spans = NDArray[np.int64]


@dataclass(frozen=True)
class Box:
    """A half-open box of output pixels: columns x to x + width, rows y to y + height."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class TileGrid:
    """Where the tiles of a run lie.

    Attributes
    ----------
    width, height
        The output plane (the whole slide), in output pixels.
    window
        The part that is analysed (the whole plane, or a region).
    tile, step
        Side of a tile and distance between neighbours, in output pixels.
    stride
        Model pixels per output pixel.
    xs, ys
        Left and upper edges of tile columns and rows, in output pixels of the plane.
    selected
        bool (rows, columns): the tiles that hold tissue.
    """

    width: int
    height: int
    window: Box
    tile: int
    step: int
    stride: int
    xs: tuple[int, ...]
    ys: tuple[int, ...]
    selected: NDArray[np.bool_]

    @property
    def n_tiles(self) -> int:
        """Count the selected tiles."""
        return int(self.selected.sum())

    def strip_rows(self, row: int) -> tuple[int, int]:
        """Return the rows of the plane that are final after tile row `row`: [first, last)."""
        first = self.ys[row]
        last = self.ys[row + 1] if row + 1 < len(self.ys) else self.window.y + self.window.height
        return first, last

    def strip_columns(self, row: int) -> tuple[int, ...]:
        """Return the indices of the selected tile columns of a row."""
        return tuple(np.flatnonzero(self.selected[row]).tolist())


def tile_starts(first: int, length: int, tile: int, step: int) -> tuple[int, ...]:
    """Place tiles along one axis so that they cover [first, first + length).

    The last tile is pulled inwards to end at the edge, so that the network sees real pixels
    rather than padding; only an axis shorter than a tile is padded.

    Examples
    --------
    >>> tile_starts(0, 1000, 256, 192)
    (0, 192, 384, 576, 744)
    """
    if length <= tile:
        return (first,)
    count = math.ceil((length - tile) / step) + 1
    return tuple(first + min(index * step, length - tile) for index in range(count))


def tile_step(tile: int, overlap: int, stride: int) -> int:
    """Output pixels between tiles of `tile` model pixels that overlap by at least `overlap`."""
    return max(1, (tile - overlap) // stride)


def plan_grid(
    sampling: Sampling,
    *,
    tile: int,
    overlap: int,
    stride: int,
    region: tuple[float, float, float, float] | None = None,
) -> TileGrid:
    """Lay out the tiles of a slide, all selected.

    Parameters
    ----------
    sampling
        The slide's plane at the model's mpp.
    tile, overlap
        In model pixels.
    stride
        Model pixels per output pixel; divides `tile`.
    region
        x, y, width, height in level-0 pixels; None for the whole slide. It grows to whole output
        pixels and is cut at the slide's edges.
    """
    width, height = math.ceil(sampling.width / stride), math.ceil(sampling.height / stride)
    window = Box(0, 0, width, height)
    if region is not None:
        window = _region_window(region, sampling, stride, width, height)
    side, step = tile // stride, tile_step(tile, overlap, stride)
    xs = tile_starts(window.x, window.width, side, step)
    ys = tile_starts(window.y, window.height, side, step)
    selected = np.ones((len(ys), len(xs)), bool)
    return TileGrid(width, height, window, side, step, stride, xs, ys, selected)


def _region_window(
    region: tuple[float, float, float, float],
    sampling: Sampling,
    stride: int,
    width: int,
    height: int,
) -> Box:
    x, y, w, h = region
    left, right = _snap(x, w, sampling.zoom_x * stride, width)
    top, bottom = _snap(y, h, sampling.zoom_y * stride, height)
    return Box(left, top, right - left, bottom - top)


def _snap(start: float, length: float, zoom: float, limit: int) -> tuple[int, int]:
    low = min(max(math.floor(start / zoom + 1e-6), 0), limit)
    high = min(max(math.ceil((start + length) / zoom - 1e-6), low), limit)
    return low, high


def select_tiles(grid: TileGrid, tissue: NDArray[np.bool_]) -> TileGrid:
    """Keep the tiles that overlap the tissue mask.

    Parameters
    ----------
    tissue
        bool (h, w): a mask that covers the whole plane at any lower resolution.
    """
    found, _ = count_tissue(grid, tissue, *tile_spans(grid))
    return replace(grid, selected=found > 0)


def tile_spans(grid: TileGrid) -> tuple[Spans, Spans]:
    """Return from where to where the columns and the rows of tiles reach within the window.

    Returns
    -------
    (columns, rows), int64 (n, 2) each
        Half-open ranges of output pixels.
    """
    window = grid.window
    axes = (grid.xs, window.x + window.width), (grid.ys, window.y + window.height)
    columns, rows = (
        np.stack([starts, np.minimum(np.add(starts, grid.tile), end)], axis=1)
        for starts, end in axes
    )
    return columns, rows


def count_tissue(
    grid: TileGrid, tissue: NDArray[np.bool_], columns: Spans, rows: Spans
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count the cells of a tissue mask that boxes touch.

    Parameters
    ----------
    tissue
        bool (h, w): a mask that covers the whole plane at any lower resolution.
    columns, rows
        The sides of the boxes, int64 (n, 2): half-open ranges of output pixels.

    Returns
    -------
    (tissue, all), int64 (rows, columns) each
    """
    counts = np.zeros((tissue.shape[0] + 1, tissue.shape[1] + 1), np.int64)
    counts[1:, 1:] = tissue.cumsum(0, dtype=np.int64).cumsum(1)
    x0, x1 = _mask_spans(columns, tissue.shape[1] / grid.width)
    y0, y1 = _mask_spans(rows, tissue.shape[0] / grid.height)
    found = counts[y1][:, x1] - counts[y0][:, x1] - counts[y1][:, x0] + counts[y0][:, x0]
    return found, (y1 - y0)[:, None] * (x1 - x0)


def _mask_spans(spans: Spans, zoom: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    low = np.floor(spans[:, 0] * zoom + 1e-9).astype(np.int64)
    return low, np.maximum(np.ceil(spans[:, 1] * zoom - 1e-9).astype(np.int64), low + 1)


def blend_profile(tile: int, overlap: int) -> NDArray[np.float32]:
    """Weights of a tile along one axis: rising linearly over the overlap, positive everywhere.

    Parameters
    ----------
    tile, overlap
        In output pixels.

    Returns
    -------
    float32 (tile,)
        At most 1. Two neighbours at the planned step add up to a constant.

    Examples
    --------
    >>> blend_profile(6, 2)
    array([0.33333334, 0.6666667 , 1.        , 1.        , 0.6666667 ,
           0.33333334], dtype=float32)
    """
    distance = np.minimum(np.arange(1, tile + 1), np.arange(tile, 0, -1))
    return np.minimum(distance / (overlap + 1), 1.0).astype(np.float32)


def mask_rows(
    mask: NDArray[np.bool_], rows: tuple[int, int], columns: tuple[int, int], plane: tuple[int, int]
) -> NDArray[np.bool_]:
    """Enlarge a part of a low-resolution mask to the output grid, with smooth borders.

    Parameters
    ----------
    mask
        bool (h, w) over the whole plane.
    rows, columns
        Half-open ranges of output pixels.
    plane
        (height, width) of the output plane.

    Returns
    -------
    bool (rows, columns)
        The bilinear interpolation of the mask, at least one half.
    """
    low, high, weight = _linear(rows, plane[0], mask.shape[0])
    near = mask[low[0] : high[-1] + 1]
    if near.all():
        return np.ones((rows[1] - rows[0], columns[1] - columns[0]), bool)
    # Only for these rows: memory must not depend on the height of the slide.
    bands, first = near.astype(np.float32), low[0]
    lines = bands[low - first] * (1 - weight)[:, None] + bands[high - first] * weight[:, None]
    low, high, weight = _linear(columns, plane[1], mask.shape[1])
    return np.asarray(lines[:, low] * (1 - weight) + lines[:, high] * weight >= 0.5)


def _linear(
    span: tuple[int, int], plane: int, mask: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    centre = ((np.arange(*span) + 0.5) * mask / plane - 0.5).clip(0, mask - 1)
    low = np.floor(centre).astype(np.int64)
    return low, np.minimum(low + 1, mask - 1), (centre - low).astype(np.float32)
