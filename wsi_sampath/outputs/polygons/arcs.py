"""Cracks joined to arcs: the pieces of border between two fixed points of the lattice.

Fixed are the points where three or four labels meet and all points on the frame of the band.
Both neighbours of an arc use the same arc, which is why it can be simplified without a gap.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_sampath.outputs.polygons.components import BACKGROUND
from wsi_sampath.outputs.polygons.cracks import Cracks
from wsi_sampath.outputs.polygons.ragged import END, offsets_of, order_chains, take_lists
from wsi_sampath.outputs.polygons.runs import Ints


@dataclass(frozen=True)
class Arcs:
    """Polylines with one component on either side.

    Attributes
    ----------
    points, offsets
        (vertices, 2) int64 x, y and (arcs + 1,) where each arc begins, both its ends included.
    left, right
        (arcs,) component on either side.
    start, end
        (arcs, 2) the lattice points by which the arc is joined to others.
    start_direction, end_direction
        (arcs,) direction of the first and of the last crack.
    """

    points: Ints
    offsets: Ints
    left: Ints
    right: Ints
    start: Ints
    end: Ints
    start_direction: Ints
    end_direction: Ints


@dataclass(frozen=True)
class HalfArcs:
    """Arcs as seen by the component on their left: what a ring is made of.

    Attributes
    ----------
    owner
        (n,) component on the left.
    start, end
        (n, 2) the lattice points by which it is joined to others.
    start_direction, end_direction
        (n,) direction of the first and of the last crack.
    sizes
        (n,) vertices of each, the last one left out because the next half arc begins with it.
    points
        (sizes.sum(), 2) those vertices.
    """

    owner: Ints
    start: NDArray[np.int32]
    end: NDArray[np.int32]
    start_direction: NDArray[np.int8]
    end_direction: NDArray[np.int8]
    sizes: NDArray[np.int32]
    points: NDArray[np.int32]

    def take(self, chosen: NDArray[np.bool_]) -> HalfArcs:
        """Return the chosen half arcs, in the same order."""
        return HalfArcs(
            self.owner[chosen],
            self.start[chosen],
            self.end[chosen],
            self.start_direction[chosen],
            self.end_direction[chosen],
            self.sizes[chosen],
            self.points[np.repeat(chosen, self.sizes)],
        )

    def owned_by(self, owner: Ints) -> HalfArcs:
        """Return the same half arcs with other owners."""
        return HalfArcs(
            owner,
            self.start,
            self.end,
            self.start_direction,
            self.end_direction,
            self.sizes,
            self.points,
        )

    @classmethod
    def joined(cls, first: HalfArcs, second: HalfArcs) -> HalfArcs:
        """Return both tables as one."""
        names = cls.__dataclass_fields__
        return cls(*(np.concatenate([getattr(first, n), getattr(second, n)]) for n in names))

    @classmethod
    def none(cls) -> HalfArcs:
        """Return an empty table."""
        pairs, bytes_ = np.zeros((0, 2), np.int32), np.zeros(0, np.int8)
        sizes = np.zeros(0, np.int32)
        return cls(np.zeros(0, np.int64), pairs, pairs, bytes_, bytes_, sizes, pairs)


def join_cracks(cracks: Cracks, pitch: int, fixed: NDArray[np.bool_]) -> Arcs:
    """Join cracks at points where nothing branches.

    Parameters
    ----------
    cracks
        All border segments of a band.
    pitch
        More than the largest x.
    fixed
        (2 * n,) True where an end of a crack must stay: starts first, then ends.

    Returns
    -------
    Arcs
        Each crack lies in exactly one arc. No arc begins and ends in the same fixed point.
    """
    count = len(cracks.direction)
    following = _next_darts(cracks, pitch, fixed)
    darts, offsets = order_chains(following)
    chosen = _one_of_each_pair(darts, offsets, count)
    flat = take_lists(offsets, chosen)
    darts, offsets = darts[flat], offsets_of(np.diff(offsets)[chosen])
    offsets = _split_loops(darts, offsets, cracks, following)
    forward = darts < count
    crack = np.where(forward, darts, darts - count)
    begin = np.where(forward[:, None], cracks.start[crack], cracks.end[crack])
    finish = np.where(forward[:, None], cracks.end[crack], cracks.start[crack])
    direction = np.where(forward, cracks.direction[crack], cracks.direction[crack] + 2)
    first, last = offsets[:-1], offsets[1:] - 1
    return Arcs(
        points=np.insert(begin, offsets[1:], finish[last], axis=0),
        offsets=offsets + np.arange(len(offsets)),
        left=np.where(forward, cracks.left[crack], cracks.right[crack])[first],
        right=np.where(forward, cracks.right[crack], cracks.left[crack])[first],
        start=begin[first],
        end=finish[last],
        start_direction=direction[first],
        end_direction=direction[last],
    )


def _next_darts(cracks: Cracks, pitch: int, fixed: NDArray[np.bool_]) -> Ints:
    """Link each dart (crack with a direction: n forward, then n backward) to the one after it."""
    count = len(cracks.direction)
    corner = np.concatenate([cracks.start, cracks.end])
    node = corner[:, 1] * pitch + corner[:, 0]
    order = np.argsort(node, kind="stable")
    in_order = node[order]
    first = np.flatnonzero(np.diff(in_order, prepend=-1))
    degree = np.diff(first, append=len(order))
    free = first[(degree == 2) & ~fixed[order[first]]]
    one, other = order[free], order[free + 1]
    following = np.full(2 * count, END, np.int64)
    following[(one + count) % (2 * count)] = other
    following[(other + count) % (2 * count)] = one
    return following


def _one_of_each_pair(darts: Ints, offsets: Ints, count: int) -> Ints:
    """Choose one of the two ways along each arc: that which runs its lowest crack forward."""
    if len(darts) == 0:
        return np.zeros(0, np.int64)
    # twice the crack, plus one if backward: the least of a chain tells its lowest crack's way
    code = np.where(darts < count, 2 * darts, 2 * (darts - count) + 1)
    return np.flatnonzero(np.minimum.reduceat(code, offsets[:-1]) % 2 == 0)


def _split_loops(darts: Ints, offsets: Ints, cracks: Cracks, following: Ints) -> Ints:
    """Cut arcs that return to their own fixed point in two, for simplification moves ring ends."""
    count = len(cracks.direction)
    first, last = darts[offsets[:-1]], darts[offsets[1:] - 1]
    corner = np.concatenate([cracks.start, cracks.end])
    back = (last + count) % (2 * count)
    loop = (corner[first] == corner[back]).all(axis=1) & (following[last] == END)
    middle = (offsets[:-1] + offsets[1:]) // 2
    return np.sort(np.concatenate([offsets, middle[loop]]))


def halve_arcs(arcs: Arcs, top: int) -> HalfArcs:
    """Give each side of each arc its own half, with the owner on the left.

    Parameters
    ----------
    arcs
        Arcs of a band.
    top
        The plane row at which the band begins.
    """
    sizes = np.diff(arcs.offsets) - 1
    shift = np.array([0, top])
    kept = np.ones(len(arcs.points), bool)
    kept[arcs.offsets[1:] - 1] = False
    onward = HalfArcs(
        arcs.left,
        (arcs.start + shift).astype(np.int32),
        (arcs.end + shift).astype(np.int32),
        arcs.start_direction.astype(np.int8),
        arcs.end_direction.astype(np.int8),
        sizes.astype(np.int32),
        (arcs.points[kept] + shift).astype(np.int32),
    )
    mirror = np.repeat(arcs.offsets[:-1] + arcs.offsets[1:] - 1, sizes + 1)
    backward_points = arcs.points[mirror - np.arange(len(arcs.points))][kept]
    backward = HalfArcs(
        arcs.right,
        onward.end,
        onward.start,
        ((onward.end_direction + 2) % 4).astype(np.int8),
        ((onward.start_direction + 2) % 4).astype(np.int8),
        onward.sizes,
        (backward_points + shift).astype(np.int32),
    )
    both = HalfArcs.joined(onward, backward)
    return both.take(both.owner != BACKGROUND)
