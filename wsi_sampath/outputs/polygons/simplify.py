"""Simplify the arcs of a band, tile by tile, so that none crosses another."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import shapely
from numpy.typing import NDArray

from wsi_sampath.outputs.polygons.arcs import Arcs
from wsi_sampath.outputs.polygons.ragged import offsets_of
from wsi_sampath.outputs.polygons.tiling import Tiling, fence_tiles

_ATTEMPTS = 3


def simplify_arcs(arcs: Arcs, tolerance: float, tiling: Tiling) -> Arcs:
    """Drop vertices of arcs, their ends kept, without any two arcs crossing or touching anew.

    A fence along the frame of each tile keeps arcs from lying down upon it, where they could
    meet those of the next tile.

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
    tiles, member = np.unique(tile[movable], return_inverse=True)
    ends = np.concatenate([arcs.start[movable], arcs.end[movable]])
    fences, fenced = fence_tiles(tiling, tiles, ends, np.concatenate([member, member]))
    every = np.concatenate([lines[movable], shapely.linestrings(fences)])
    group = np.concatenate([member, fenced])
    order = np.argsort(group, kind="stable")
    groups = shapely.multilinestrings(every[order], indices=group[order])
    every[order] = shapely.get_parts(_simplify_groups(groups, tolerance))
    lines[movable] = every[: len(movable)]
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
