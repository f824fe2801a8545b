"""Rings around the parts of nuclei, from the straight pieces of their borders."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_sampath.outputs.polygons.components import BACKGROUND
from wsi_sampath.outputs.polygons.cracks import Cracks
from wsi_sampath.outputs.polygons.ragged import offsets_of, order_chains
from wsi_sampath.outputs.polygons.rings import begin_at_lowest, close_rings, signed_areas
from wsi_sampath.outputs.polygons.runs import Ints

_NONE = -1


@dataclass(frozen=True)
class Rings:
    """Closed rings, part after part.

    Attributes
    ----------
    points
        int64 (vertices, 2), x and y; the first of a ring is repeated at its end.
    offsets
        (rings + 1,) where each ring begins.
    part
        (rings,) ascending; the first ring of a part is its shell, the others are holes.
    """

    points: Ints
    offsets: Ints
    part: Ints


@dataclass(frozen=True)
class _Sides:
    """Cracks as seen by the part on their left: one for each side that is not background."""

    start: Ints
    end: Ints
    direction: Ints
    part: Ints


def trace_rings(cracks: Cracks, rank: Ints, shape: tuple[int, int]) -> Rings:
    """Chain the border of each part to rings.

    Parameters
    ----------
    cracks
        All border segments between 4-connected parts.
    rank
        (parts,) by what the parts are put in order, instead of by the cracks' numbers.
    shape
        Rows and columns of the plane of pixels.
    """
    sides = _sides(cracks)
    order, chains = order_chains(_following(sides, shape))
    part = rank[sides.part[order[chains[:-1]]]]
    points, offsets = _corners(sides, order, chains)
    points = begin_at_lowest(points, offsets)
    hole = signed_areas(points, offsets) < 0
    sequence = np.lexsort((*points[offsets[:-1]].T, hole, part))
    points, offsets = close_rings(points, offsets, sequence)
    return Rings(points, offsets, part[sequence])


def _sides(cracks: Cracks) -> _Sides:
    left, right = cracks.left != BACKGROUND, cracks.right != BACKGROUND
    return _Sides(
        np.concatenate([cracks.start[left], cracks.end[right]]),
        np.concatenate([cracks.end[left], cracks.start[right]]),
        np.concatenate([cracks.direction[left], cracks.direction[right] + 2]),
        np.concatenate([cracks.left[left], cracks.right[right]]),
    )


def _following(sides: _Sides, shape: tuple[int, int]) -> Ints:
    """Link each side to the next of its ring.

    A ring turns right where it can, so that it never touches itself: where two pixels of one part
    touch by a corner, it becomes a shell and a hole that touch there.
    """
    pitch = shape[1] + 1
    leaving = np.full((shape[0] + 1) * pitch * 4, _NONE, np.int32)
    leaving[(sides.start[:, 1] * pitch + sides.start[:, 0]) * 4 + sides.direction] = np.arange(
        len(sides.part)
    )
    node = (sides.end[:, 1] * pitch + sides.end[:, 0]) * 4
    following = np.full(len(sides.part), _NONE, np.int64)
    for turn in (1, 0, -1):
        found = leaving[node + (sides.direction + turn) % 4]
        # the last entry stands for none
        own = (found != _NONE) & (sides.part[found] == sides.part)
        following[own] = found[own]
    return following


def _corners(sides: _Sides, order: Ints, chains: Ints) -> tuple[Ints, Ints]:
    """Return the points of unclosed rings at which they turn, and where each ring begins."""
    direction = sides.direction[order]
    before = np.roll(direction, 1)
    before[chains[:-1]] = direction[chains[1:] - 1]
    turns: NDArray[np.bool_] = direction != before
    sizes = np.add.reduceat(turns, chains[:-1], dtype=np.int64)
    return sides.start[order[turns]], offsets_of(sizes)
