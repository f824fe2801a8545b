"""Lists of coordinates to valid polygons, many at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import shapely
from numpy.typing import NDArray

FARTHEST_PX = 1e12
"""Beyond any slide."""
UNPLACED = (TypeError, ValueError, OverflowError, IndexError, KeyError)
"""What `positions_of` raises."""


class Broken(Exception):
    """Coordinates that do not make a polygon."""

    def __init__(self, how: Literal["not finite", "far", "broken"]) -> None:
        super().__init__(how)
        self.how = how


def areas_of(objects: Sequence[Any]) -> list[shapely.MultiPolygon | Broken | None]:
    """Turn the coordinates of MultiPolygons into areas, for all objects of a file at once.

    Parameters
    ----------
    objects
        Per object a list of polygons, each a list of rings, the first of which is the outline; a
        ring is a list of positions of two numbers or more, closed or not.

    Returns
    -------
    list
        Per object its area of valid parts, mended where an outline crosses itself; None where it
        is empty; a `Broken` where a coordinate is not a number, not finite, or beyond any slide.
    """
    try:
        return _areas_at_once(objects)
    except Broken as broken:
        if len(objects) == 1:
            return [broken]
        half = len(objects) // 2
        return areas_of(objects[:half]) + areas_of(objects[half:])


def _areas_at_once(objects: Sequence[Any]) -> list[shapely.MultiPolygon | Broken | None]:
    areas: list[shapely.MultiPolygon | Broken | None] = [None] * len(objects)
    try:
        rings = [
            (number, index, ring)
            for number, parts in enumerate(objects)
            for index, part in enumerate(parts)
            for ring in part
            if ring
        ]
        positions = np.concatenate([positions_of(ring) for *_, ring in rings]) if rings else None
    except UNPLACED as error:
        raise Broken("broken") from error
    if positions is None:
        return areas
    if not np.isfinite(positions).all():
        raise Broken("not finite")
    if np.abs(positions).max() > FARTHEST_PX:
        raise Broken("far")
    lengths = np.array([len(ring) for *_, ring in rings])
    places = np.array([(number, index) for number, index, _ in rings])
    is_new = (np.diff(places, axis=0, prepend=-1) != 0).any(axis=1)
    polygons, part = _polygons(positions, lengths, np.cumsum(is_new) - 1)
    polygons, part = _valid_parts(polygons, part)
    owner = places[is_new, 0][part]
    if len(polygons):
        made = shapely.multipolygons(polygons, indices=_renumbered(owner))
        for number, area in zip(np.unique(owner).tolist(), made, strict=True):
            areas[number] = area
    return areas


def positions_of(ring: Any) -> NDArray[np.float64]:
    """Return a list of positions, of two numbers or more each, as (n, 2), x and y.

    Parameters
    ----------
    ring
        Parsed JSON; null becomes NaN.

    Raises
    ------
    TypeError, ValueError, OverflowError, IndexError, KeyError
        Those of `UNPLACED`, where it is no such list.
    """
    try:
        positions = np.array(ring, np.float64)
    except ValueError:
        # Some positions have a third number, others do not.
        positions = np.array([position[:2] for position in ring], np.float64)
    if positions.ndim != 2 or positions.shape[1] < 2:
        raise ValueError("not a list of positions")
    return positions[:, :2]


def _polygons(
    positions: NDArray[np.float64], lengths: NDArray[np.int64], owner: NDArray[np.int64]
) -> tuple[NDArray[np.object_], NDArray[np.int64]]:
    """Make polygons of rings by owner, and return their owners."""
    # A line there and back is not an area, and a ring of shapely needs four positions.
    ends = np.cumsum(lengths)
    closed = (positions[ends - lengths] == positions[ends - 1]).all(axis=1)
    large = lengths - closed >= 3
    first = np.diff(owner, prepend=-1) > 0
    kept = large & (large[first])[owner]
    if not kept.any():
        return np.empty(0, object), np.empty(0, np.int64)
    member = np.repeat(np.arange(len(lengths)), lengths)
    inside = kept[member]
    rings = shapely.linearrings(positions[inside], indices=_renumbered(member[inside]))
    made = shapely.polygons(rings, indices=_renumbered(owner[kept]))
    return made, np.unique(owner[kept])


def _renumbered(values: NDArray[np.int64]) -> NDArray[np.int64]:
    steps: NDArray[np.int64] = np.cumsum(np.diff(values, prepend=values[0]) > 0)
    return steps


def _valid_parts(
    polygons: NDArray[np.object_], owner: NDArray[np.int64]
) -> tuple[NDArray[np.object_], NDArray[np.int64]]:
    valid = shapely.is_valid(polygons)
    if not valid.all():
        mended = [
            [polygon] if good else _mended(polygon)
            for polygon, good in zip(polygons, valid, strict=True)
        ]
        owner = np.repeat(owner, [len(parts) for parts in mended])
        polygons = np.array([part for several in mended for part in several], object)
    large = shapely.area(polygons) > 0
    return polygons[large], owner[large]


def _mended(polygon: shapely.Polygon) -> list[shapely.Polygon]:
    made = shapely.make_valid(polygon, method="structure", keep_collapsed=False)
    parts = shapely.get_parts(shapely.get_parts(made))
    return [part for part in parts if part.geom_type == "Polygon" and not part.is_empty]
