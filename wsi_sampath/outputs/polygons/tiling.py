"""Tiles within a band, each simplified on its own.

No arc crosses the frame of a tile and no vertex on a frame moves. Tiles are there for speed: the
check that no line jumps over another takes time in the square of the lines of a tile.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_sampath.outputs.polygons.arcs import Arcs
from wsi_sampath.outputs.polygons.components import Linked
from wsi_sampath.outputs.polygons.cracks import RIGHT, Cracks
from wsi_sampath.outputs.polygons.ragged import positions_in
from wsi_sampath.outputs.polygons.runs import Band, Ints

LARGEST_SIDE = 512
_SMALLEST_SIDE = 16
_REGIONS_PER_TILE = 250


@dataclass(frozen=True)
class Tiling:
    """Where the frames of a band's tiles lie.

    Attributes
    ----------
    columns, rows
        (tiles across + 1,) and (tiles down + 1,) ascending lattice columns and rows.
    """

    columns: Ints
    rows: Ints

    def on_frame(self, points: Ints) -> NDArray[np.bool_]:
        """(n,) True where one of the (n, 2) points lies on the frame of a tile."""
        x, y = points.T
        on_frame: NDArray[np.bool_] = np.isin(x, self.columns) | np.isin(y, self.rows)
        return on_frame

    def tile_of(self, arcs: Arcs) -> Ints:
        """(arcs,) tile of each arc, row by row, and -1 for an arc that lies on a frame."""
        second = arcs.points[arcs.offsets[:-1] + 1]
        x, y = np.minimum(arcs.start, second).T
        upright, level = (arcs.start == second).T
        along = (upright & np.isin(x, self.columns)) | (level & np.isin(y, self.rows))
        across = np.searchsorted(self.columns, x, side="right") - 1
        down = np.searchsorted(self.rows, y, side="right") - 1
        return np.where(along, -1, down * len(self.columns) + across)

    def corners(self, tiles: Ints) -> Ints:
        """(n, 2, 2) lowest and highest x, y of tiles."""
        down, across = np.divmod(tiles, len(self.columns))
        lowest = np.stack([self.columns[across], self.rows[down]], axis=1)
        highest = np.stack([self.columns[across + 1], self.rows[down + 1]], axis=1)
        return np.stack([lowest, highest], axis=1)


def one_tile(width: int, height: int) -> Tiling:
    """Return the band as a single tile."""
    return Tiling(np.array([0, width]), np.array([0, height]))


def choose_tiles(band: Band, linked: Linked, width: int, height: int) -> Tiling:
    """Return tiles that are small where a band is full of small regions.

    Parameters
    ----------
    band, linked
        The band and its components.
    width, height
        Size of the band in lattice columns and rows.
    """
    foreground = np.flatnonzero(linked.of_run >= 0)[::-1]
    first_run = np.zeros(len(linked.components), np.int64)
    first_run[linked.of_run[foreground]] = foreground
    strip = band.starts[first_run] % band.pitch // LARGEST_SIDE
    regions = int(np.bincount(strip, minlength=1).max())
    side = LARGEST_SIDE
    while side > _SMALLEST_SIDE and regions * side**2 > _REGIONS_PER_TILE * LARGEST_SIDE**2:
        side //= 2
    return Tiling(_steps(width, side), _steps(height, side))


def split_cracks(cracks: Cracks, tiling: Tiling) -> Cracks:
    """Cut the cracks that cross a frame.

    Parameters
    ----------
    cracks
        Border segments of the band.
    tiling
        The tiles of the same band.
    """
    level = cracks.direction == RIGHT
    first = np.where(
        level,
        np.searchsorted(tiling.columns, cracks.start[:, 0], side="right"),
        np.searchsorted(tiling.rows, cracks.start[:, 1], side="right"),
    )
    beyond = np.where(
        level,
        np.searchsorted(tiling.columns, cracks.end[:, 0], side="left"),
        np.searchsorted(tiling.rows, cracks.end[:, 1], side="left"),
    )
    pieces = np.maximum(beyond - first, 0) + 1
    piece, which = positions_in(pieces), np.repeat(np.arange(len(level)), pieces)
    start, end = cracks.start[which], cracks.end[which]
    for axis, lines in enumerate((tiling.columns, tiling.rows)):
        along = cracks.direction[which] == axis
        later, earlier = along & (piece > 0), along & (piece < pieces[which] - 1)
        start[later, axis] = lines[(first[which] + piece - 1)[later]]
        end[earlier, axis] = lines[(first[which] + piece)[earlier]]
    sides = cracks.left[which], cracks.right[which]
    return Cracks(start, end, cracks.direction[which], *sides)


def fence_tiles(tiling: Tiling, tiles: Ints, ends: Ints, members: Ints) -> tuple[Ints, Ints]:
    """Cut the frames of tiles at the ends of their arcs.

    Parameters
    ----------
    tiling
        All tiles of the band.
    tiles
        (t,) the tiles wanted.
    ends, members
        (n, 2) ends of arcs and (n,) which of `tiles` each belongs to.

    Returns
    -------
    pieces, owners
        (m, 2, 2) straight lines from point to point and (m,) which of `tiles` each belongs to.
    """
    corners = tiling.corners(tiles)
    parts = [_fence_side(corners, ends, members, axis, far) for axis in (0, 1) for far in (0, 1)]
    pieces, owners = zip(*parts, strict=True)
    return np.concatenate(pieces), np.concatenate(owners)


def _fence_side(corners: Ints, ends: Ints, members: Ints, axis: int, far: int) -> tuple[Ints, Ints]:
    """Cut the sides of all tiles on which the coordinate `axis` is constant."""
    line = corners[:, far, axis]
    here = ends[:, axis] == line[members]
    every = np.arange(len(corners))
    owner = np.concatenate([members[here], every, every])
    stop = np.concatenate([ends[here, 1 - axis], *corners[:, :, 1 - axis].T])
    owner, stop = np.unique(np.stack([owner, stop]), axis=1)
    begin = np.flatnonzero(owner[1:] == owner[:-1])
    pieces = np.empty((len(begin), 2, 2), np.int64)
    pieces[:, :, axis] = line[owner[begin], None]
    pieces[:, :, 1 - axis] = np.stack([stop[begin], stop[begin + 1]], axis=1)
    return pieces, owner[begin]


def _steps(length: int, side: int) -> Ints:
    return np.unique(np.append(np.arange(0, length, side), length))
