"""Fields that cover a region: squares on a fixed lattice, and which objects are whose."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from wsi_sampath.inference.prompted.masks import Edges, Flags, Mask
from wsi_sampath.slides.grid import Box, TileGrid, plan_grid, select_tiles
from wsi_sampath.slides.sampling import Sampling

OVERLAP_PART = 4
"""Fields overlap by their side divided by this, and find every object that is smaller."""
_SLACK_PART = 4
"""Two fields may differ on an object's centre by this part of the overlap."""


@dataclass(frozen=True)
class Fields:
    """Overlapping squares on the plane of a slide, laid out from its corner.

    What they find does not depend on the region that is asked for: it only decides which of them
    are looked at. Some are beside it, for what they find may be the better view of an object in it.

    Attributes
    ----------
    grid
        The squares of the whole plane, in its pixels; those to look at are selected.
    overlap
        Pixels that neighbours share, at least.
    window
        The region.
    tissue
        bool (h, w) over the whole plane: an object counts if its centre lies on it.
    """

    grid: TileGrid
    overlap: int
    window: Box
    tissue: Flags

    @property
    def rows(self) -> tuple[int, ...]:
        """Rows of the grid that hold fields to look at."""
        return tuple(np.flatnonzero(self.grid.selected.any(axis=1)).tolist())

    @property
    def span(self) -> tuple[int, int]:
        """Columns of the plane that the fields to look at cover: [first, last)."""
        columns = np.flatnonzero(self.grid.selected.any(axis=0))
        if not len(columns):
            return 0, 0
        return self.grid.xs[columns[0]], self.grid.xs[columns[-1]] + self.grid.tile

    def only(self, row: int) -> TileGrid:
        """Return the grid with the fields of one row alone."""
        is_row = np.arange(len(self.grid.ys)) == row
        return replace(self.grid, selected=self.grid.selected & is_row[:, None])

    def edges(self, row: int, column: int) -> Edges:
        """Return at which edges of a field the plane goes on."""
        y, x, side = self.grid.ys[row], self.grid.xs[column], self.grid.tile
        return Edges(
            top=y > 0,
            bottom=y + side < self.grid.height,
            left=x > 0,
            right=x + side < self.grid.width,
        )

    def own(self, row: int, column: int, mask: Mask) -> bool:
        """Return whether a field may be the one to find an object: whether no other is far nearer.

        Parameters
        ----------
        row, column
            The field.
        mask
            The object, on the plane.
        """
        y, x = mask.centroid
        grid, slack = self.grid, self.overlap // _SLACK_PART
        return _is_near(y, grid.ys, row, grid.tile, slack) and _is_near(
            x, grid.xs, column, grid.tile, slack
        )

    def on_tissue(self, mask: Mask) -> bool:
        """Return whether the centre of an object lies on tissue."""
        place = tuple(
            min(int((middle + 0.5) * cells / px), cells - 1)
            for middle, cells, px in zip(
                mask.centroid, self.tissue.shape, (self.grid.height, self.grid.width), strict=True
            )
        )
        return bool(self.tissue[place])

    def wanted(self, mask: Mask) -> bool:
        """Return whether the centre of an object lies in the region."""
        (y, x), window = mask.centroid, self.window
        return (
            window.y <= y + 0.5 < window.y + window.height
            and window.x <= x + 0.5 < window.x + window.width
        )


def plan_fields(
    sampling: Sampling,
    *,
    tile: int,
    window: Box,
    tissue: NDArray[np.bool_],
    overlap: int | None = None,
) -> Fields:
    """Lay fields over a slide, and choose those that a region needs.

    Parameters
    ----------
    sampling
        The slide's plane at the model's mpp.
    tile
        Side of a field, px.
    window
        The region, in px of the plane.
    tissue
        bool (h, w) over the whole plane, at any lower resolution.
    overlap
        Pixels that neighbours share; a quarter of the field if None.
    """
    overlap = tile // OVERLAP_PART if overlap is None else overlap
    grid = select_tiles(plan_grid(sampling, tile=tile, overlap=overlap, stride=1), tissue)
    # An object in the region may be decided about by one beside it, and that by another.
    reach = overlap + overlap // _SLACK_PART
    rows = _cores_in(grid.ys, tile, window.y - reach, window.y + window.height + reach)
    columns = _cores_in(grid.xs, tile, window.x - reach, window.x + window.width + reach)
    selected = grid.selected & rows[:, None] & columns
    return Fields(replace(grid, selected=selected), overlap, window, tissue)


def _core(starts: tuple[int, ...], index: int, tile: int) -> tuple[float, float]:
    """Return from where to where no other field has its middle nearer."""
    begin = (starts[index - 1] + starts[index] + tile) / 2 if index else -np.inf
    is_last = index == len(starts) - 1
    end = np.inf if is_last else (starts[index] + starts[index + 1] + tile) / 2
    return begin, end


def _is_near(middle: float, starts: tuple[int, ...], index: int, tile: int, slack: int) -> bool:
    begin, end = _core(starts, index, tile)
    return begin - slack <= middle + 0.5 < end + slack


def _cores_in(starts: tuple[int, ...], tile: int, first: int, last: int) -> Flags:
    cores = np.array([_core(starts, index, tile) for index in range(len(starts))])
    inside: Flags = (cores[:, 0] < last) & (cores[:, 1] > first)
    return inside
