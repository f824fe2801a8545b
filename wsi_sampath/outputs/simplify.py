"""Simplify the arcs of a band, tile by tile, so that none crosses another.

Arcs never cross the frame of a tile, and no vertex on a frame moves. A fence along the frame
keeps simplified arcs from lying down upon it, so that tiles can be worked on one by one. They
are: the check that no line jumps over another takes time in the square of the lines in a tile.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import shapely
from numpy.typing import NDArray

from wsi_sampath.outputs.arcs import Arcs
from wsi_sampath.outputs.ragged import offsets_of
from wsi_sampath.outputs.runs import Ints

TILE_COLUMNS = 512
_ATTEMPTS = 3


@dataclass(frozen=True)
class Tiling:
    """Where the frames of a band's tiles lie.

    Attributes
    ----------
    columns
        (tiles + 1,) ascending lattice columns, from 0 to the width of the plane.
    height
        Lattice row at which the tiles end; they begin at row 0.
    """

    columns: Ints
    height: int

    def on_frame(self, points: Ints) -> NDArray[np.bool_]:
        """(n,) True where one of the (n, 2) points lies on the frame of a tile."""
        x, y = points.T
        on_frame: NDArray[np.bool_] = np.isin(x, self.columns) | (y == 0) | (y == self.height)
        return on_frame

    def tile_of(self, arcs: Arcs) -> Ints:
        """(arcs,) tile of each arc, -1 for one that lies on a frame."""
        first = arcs.offsets[:-1]
        second = arcs.points[first + 1]
        tile = np.searchsorted(self.columns, np.minimum(arcs.start, second)[:, 0], "right") - 1
        upright, level = (arcs.start == second).T
        column = np.isin(arcs.start[:, 0], self.columns)
        row = (arcs.start[:, 1] == 0) | (arcs.start[:, 1] == self.height)
        along = (upright & column) | (level & row)
        return np.where(along, -1, tile)


def tile_band(width: int, height: int) -> Tiling:
    """Return the tiles of a band of the given size."""
    return Tiling(np.append(np.arange(0, width, TILE_COLUMNS), width), height)


def simplify_arcs(arcs: Arcs, tolerance: float, tiling: Tiling) -> Arcs:
    """Drop vertices of arcs, their ends kept, without any two arcs crossing or touching anew.

    Parameters
    ----------
    arcs
        Arcs that meet only in their ends, each within one tile or along a frame.
    tolerance
        Largest distance in plane pixels between the old and the new line, above 0.
    tiling
        The tiles; all vertices on their frames are ends of arcs.

    Returns
    -------
    Arcs
        The same arcs with fewer vertices; those that stay are vertices of before.
    """
    tile = tiling.tile_of(arcs)
    movable = np.flatnonzero(tile >= 0)
    if len(movable) == 0:
        return arcs
    lines = _lines(arcs)
    movable = movable[np.argsort(tile[movable], kind="stable")]
    tiles, which = np.unique(tile[movable], return_inverse=True)
    fences, fenced = _fences(arcs, movable, which, tiling.columns, tiles, tiling.height)
    member = np.concatenate([which, fenced])
    order = np.argsort(member, kind="stable")
    every = np.concatenate([lines[movable], fences])
    groups = shapely.multilinestrings(every[order], indices=member[order])
    simple = shapely.get_parts(_simplify_groups(groups, tolerance))
    restored = np.empty(len(every), object)
    restored[order] = simple
    lines[movable] = restored[: len(movable)]
    points = shapely.get_coordinates(lines).astype(np.int64)
    return replace(arcs, points=points, offsets=offsets_of(shapely.get_num_coordinates(lines)))


def _simplify_groups(groups: NDArray[np.object_], tolerance: float) -> NDArray[np.object_]:
    """Simplify each group of lines; where that goes wrong, less, and in the end not at all."""
    result = groups.copy()
    left = np.arange(len(groups))
    for attempt in range(_ATTEMPTS):
        simple = shapely.simplify(groups[left], tolerance / 2**attempt, preserve_topology=True)
        sound = shapely.is_simple(simple)
        result[left[sound]] = simple[sound]
        left = left[~sound]
        if len(left) == 0:
            break
    return result


def _lines(arcs: Arcs) -> NDArray[np.object_]:
    owner = np.repeat(np.arange(len(arcs.left)), np.diff(arcs.offsets))
    lines: NDArray[np.object_] = shapely.linestrings(arcs.points.astype(np.float64), indices=owner)
    return lines


def _fences(
    arcs: Arcs, movable: Ints, which: Ints, columns: Ints, tiles: Ints, height: int
) -> tuple[NDArray[np.object_], Ints]:
    """Cut the frame of each tile at the ends of its arcs; return the pieces and their tiles."""
    x, y = np.concatenate([arcs.start[movable], arcs.end[movable]]).T
    tile = np.concatenate([which, which])
    near, far = columns[tiles], columns[tiles + 1]
    corners = np.arange(len(tiles))
    pieces, members = [], []
    for across, along, line, bounds in (
        (x, y, near, (0, height)),
        (x, y, far, (0, height)),
        (y, x, np.zeros_like(near), (near, far)),
        (y, x, np.full_like(near, height), (near, far)),
    ):
        here = across == line[tile]
        stops = np.concatenate([along[here], *(np.broadcast_to(b, len(tiles)) for b in bounds)])
        member = np.concatenate([tile[here], corners, corners])
        member, stops = np.unique(np.stack([member, stops]), axis=1)
        same = np.flatnonzero(member[1:] == member[:-1])
        ends = np.stack([stops[same], stops[same + 1]], axis=1)
        fixed = np.broadcast_to(line[member[same], None], ends.shape)
        upright = across is x
        pieces.append(np.stack([fixed, ends] if upright else [ends, fixed], axis=-1))
        members.append(member[same])
    return shapely.linestrings(np.concatenate(pieces)), np.concatenate(members)
