"""Half arcs of finished components chained to rings, and rings put together to polygons."""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray

from wsi_sampath.outputs.polygons.arcs import HalfArcs
from wsi_sampath.outputs.polygons.ragged import offsets_of, order_chains, positions_in, take_lists
from wsi_sampath.outputs.polygons.runs import Ints


def build_polygons(halves: HalfArcs, *, straighten: bool) -> tuple[Ints, NDArray[np.object_]]:
    """Build one polygon for each owner.

    Parameters
    ----------
    halves
        All half arcs of some components, and of no other.
    straighten
        Leave out vertices at which a ring goes straight on along the lattice.

    Returns
    -------
    owners, polygons
        (n,) owners in ascending order and (n,) shapely polygons: one counter-clockwise shell
        and its clockwise holes (y taken as pointing up), each ring beginning at its lowest
        (y, x) vertex.
    """
    if len(halves.owner) == 0:
        return np.zeros(0, np.int64), np.zeros(0, object)
    order, ring_offsets = order_chains(_next_halves(halves))
    owner_of_ring = halves.owner[order[ring_offsets[:-1]]]
    points, offsets = _ring_points(halves, order, ring_offsets, straighten=straighten)
    points = begin_at_lowest(points, offsets)
    hole = signed_areas(points, offsets) < 0
    sequence = np.lexsort((*points[offsets[:-1]].T, hole, owner_of_ring))
    owners, rings = np.unique(owner_of_ring, return_counts=True)
    closed, closed_offsets = close_rings(points, offsets, sequence)
    polygons = shapely.from_ragged_array(
        shapely.GeometryType.POLYGON,
        closed.astype(np.float64),
        (closed_offsets, offsets_of(rings)),
    )
    return owners, polygons


def _next_halves(halves: HalfArcs) -> Ints:
    """Link each half arc to the next of its ring.

    Where two pixels of one component touch only diagonally, two half arcs come in and two go
    out. The ring then turns right, staying with the pixel outside, so that it splits into rings
    that touch in a point instead of one ring that touches itself.
    """
    turned = (halves.end_direction.astype(np.int64) - 1) % 4
    leaving = np.lexsort((halves.start_direction, *halves.start.T, halves.owner))
    arriving = np.lexsort((turned, *halves.end.T, halves.owner))
    following = np.empty(len(halves.owner), np.int64)
    following[arriving] = leaving
    return following


def _ring_points(
    halves: HalfArcs, order: Ints, ring_offsets: Ints, *, straighten: bool
) -> tuple[Ints, Ints]:
    """Gather the vertices of each ring, unclosed."""
    starts = offsets_of(halves.sizes.astype(np.int64))
    flat = take_lists(starts, order)
    sizes = halves.sizes[order].astype(np.int64)
    per_ring = np.add.reduceat(sizes, ring_offsets[:-1])
    if straighten:
        preceding = np.arange(len(order)) - 1
        preceding[ring_offsets[:-1]] = ring_offsets[1:] - 1
        before = halves.end_direction[order[preceding]]
        through = before == halves.start_direction[order]
        kept = np.ones(len(flat), bool)
        kept[offsets_of(sizes)[:-1][through]] = False
        flat = flat[kept]
        per_ring -= np.add.reduceat(through.astype(np.int64), ring_offsets[:-1])
    return halves.points[flat].astype(np.int64), offsets_of(per_ring)


def begin_at_lowest(points: Ints, offsets: Ints) -> Ints:
    """Rotate each ring so that it begins at its lowest (y, x) vertex."""
    sizes = np.diff(offsets)
    pitch = int(points[:, 0].max()) + 1
    key = points[:, 1] * pitch + points[:, 0]
    lowest = np.minimum.reduceat(key, offsets[:-1])
    at = np.flatnonzero(key == np.repeat(lowest, sizes))
    ring_of = np.searchsorted(offsets, at, side="right") - 1
    shift = np.zeros(len(sizes), np.int64)
    shift[ring_of] = at - offsets[ring_of]
    turned = (positions_in(sizes) + np.repeat(shift, sizes)) % np.repeat(sizes, sizes)
    rotated: Ints = points[np.repeat(offsets[:-1], sizes) + turned]
    return rotated


def close_rings(points: Ints, offsets: Ints, sequence: Ints) -> tuple[Ints, Ints]:
    """Put rings into another sequence and repeat the first vertex of each at its end."""
    sizes = np.diff(offsets)[sequence]
    where = positions_in(sizes + 1) % np.repeat(sizes, sizes + 1)
    closed = points[np.repeat(offsets[:-1][sequence], sizes + 1) + where]
    return closed, offsets_of(sizes + 1)


def signed_areas(points: Ints, offsets: Ints) -> Ints:
    """Return twice the signed area of each unclosed ring, exactly."""
    following = np.roll(points, -1, axis=0)
    following[offsets[1:] - 1] = points[offsets[:-1]]
    # relative to the first vertex, so that products stay far below 2**63
    origin = np.repeat(points[offsets[:-1]], np.diff(offsets), axis=0)
    (x0, y0), (x1, y1) = (points - origin).T, (following - origin).T
    areas: Ints = np.add.reduceat(x0 * y1 - x1 * y0, offsets[:-1])
    return areas
