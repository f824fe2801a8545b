"""Tiles that can be spared: they hold little tissue, and all of it lies in other tiles as well."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from wsi_sampath.slides.grid import Spans, TileGrid, count_tissue, select_tiles, tile_spans

Mask = NDArray[np.bool_]


def choose_tiles(grid: TileGrid, tissue: Mask, *, spare_below: float) -> TileGrid:
    """Select the tiles that answer for all tissue, without those that can be spared.

    The tiles with the least tissue go first, each only while those that remain hold its tissue.

    Parameters
    ----------
    grid
        All tiles.
    tissue
        bool (h, w): a mask that covers the whole plane at any lower resolution.
    spare_below
        Share of tissue in a tile under which it may go, 0..1. With 0 no tile with tissue does; one
        that is full of tissue never does.
    """
    shown = _shown(tissue)
    grid = select_tiles(grid, shown)
    columns, rows = tile_spans(grid)
    found, cells = count_tissue(grid, tissue, columns, rows)
    shares = found / cells
    # What touches a smooth corner alone goes in any case, if others hold it.
    places = np.argwhere(grid.selected & ((shares < spare_below) | (found == 0)))
    pieces_x, pieces_y = _pieces(columns), _pieces(rows)
    needed = count_tissue(grid, shown, pieces_x, pieces_y)[0] > 0
    of_column, of_row = _within(columns, pieces_x), _within(rows, pieces_y)
    holders = _holders(grid.selected, of_column, of_row, needed.shape)
    selected = grid.selected.copy()
    for row, column in places[np.argsort(shares[*places.T], kind="stable")]:
        box = slice(*of_row[row]), slice(*of_column[column])
        if (holders[box] > needed[box]).all():
            holders[box] -= 1
            selected[row, column] = False
    return replace(grid, selected=selected)


def _shown(tissue: Mask) -> Mask:
    """Return the cells of a mask in which a pixel may count as tissue, bool (h, w).

    Borders are smooth: within a corner between three cells of tissue, `mask_rows` adds to them a
    part of the fourth.
    """
    shown = tissue.copy()
    ahead, back = slice(None, -1), slice(1, None)
    for y, beside_y in ((ahead, back), (back, ahead)):
        for x, beside_x in ((ahead, back), (back, ahead)):
            shown[y, x] |= tissue[beside_y, x] & tissue[y, beside_x] & tissue[beside_y, beside_x]
    return shown


def _pieces(spans: Spans) -> Spans:
    """Cut an axis wherever a tile begins or ends."""
    edges = np.unique(spans)
    return np.stack([edges[:-1], edges[1:]], axis=1)


def _within(spans: Spans, pieces: Spans) -> NDArray[np.int64]:
    """Return the pieces of every span, int64 (n, 2): half-open ranges of them."""
    first = np.searchsorted(pieces[:, 0], spans[:, 0])
    return np.stack([first, np.searchsorted(pieces[:, 1], spans[:, 1]) + 1], axis=1)


def _holders(
    selected: Mask, of_column: NDArray[np.int64], of_row: NDArray[np.int64], shape: tuple[int, ...]
) -> NDArray[np.int32]:
    """Count the selected tiles that hold every piece of the plane, int32 (rows, columns)."""
    steps = np.zeros((shape[0] + 1, shape[1] + 1), np.int32)
    row, column = np.nonzero(selected)
    for side_y, sign_y in ((0, 1), (1, -1)):
        for side_x, sign_x in ((0, 1), (1, -1)):
            place = of_row[row, side_y], of_column[column, side_x]
            np.add.at(steps, place, sign_y * sign_x)
    return steps.cumsum(0, dtype=np.int32).cumsum(1, dtype=np.int32)[:-1, :-1]
