"""Lists of coordinates to valid polygons, many at a time."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import shapely
from numpy.typing import NDArray

_FARTHEST_PX = 1e12


class Broken(Exception):
    """Coordinates of which no polygon can be made."""

    def __init__(self, how: Literal["not finite", "far", "broken"]) -> None:
        super().__init__(how)
        self.how = how


def polygons_of(parts: Any) -> list[shapely.Polygon]:  # noqa: ANN401 - parsed JSON
    """Make valid polygons of the coordinates of a MultiPolygon.

    Parameters
    ----------
    parts
        List of polygons, each a list of rings, the first of which is the outline; a ring is a list
        of positions of two numbers or more, closed or not.

    Returns
    -------
    list of Polygon
        Without those that are empty; one whose outline crosses itself is mended.

    Raises
    ------
    Broken
        If a coordinate is not a number, or no finite one, or farther away than any slide reaches.
    """
    try:
        rings = [(number, ring) for number, part in enumerate(parts) for ring in part if ring]
        positions = np.concatenate([_positions(ring) for _, ring in rings]) if rings else None
    except (TypeError, ValueError, OverflowError, IndexError, KeyError) as error:
        raise Broken("broken") from error
    if positions is None:
        return []
    if not np.isfinite(positions).all():
        raise Broken("not finite")
    if np.abs(positions).max() > _FARTHEST_PX:
        raise Broken("far")
    lengths = np.array([len(ring) for _, ring in rings])
    owner = np.array([number for number, _ in rings])
    return _valid_parts(_polygons(positions, lengths, owner))


def _positions(ring: Any) -> NDArray[np.float64]:  # noqa: ANN401 - parsed JSON
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
) -> NDArray[np.object_]:
    # A line there and back is no area, and a ring of shapely needs four positions.
    ends = np.cumsum(lengths)
    closed = (positions[ends - lengths] == positions[ends - 1]).all(axis=1)
    large = lengths - closed >= 3
    has_outline = np.zeros(owner[-1] + 1, np.bool_)
    first = np.diff(owner, prepend=-1) > 0
    has_outline[owner[first]] = large[first]
    kept = large & has_outline[owner]
    if not kept.any():
        return np.empty(0, object)
    member = np.repeat(np.arange(len(lengths)), lengths)
    inside = kept[member]
    rings = shapely.linearrings(positions[inside], indices=_renumbered(member[inside]))
    made: NDArray[np.object_] = shapely.polygons(rings, indices=_renumbered(owner[kept]))
    return made


def _renumbered(values: NDArray[np.int64]) -> NDArray[np.int64]:
    steps: NDArray[np.int64] = np.cumsum(np.diff(values, prepend=values[0]) > 0)
    return steps


def _valid_parts(polygons: NDArray[np.object_]) -> list[shapely.Polygon]:
    found: list[shapely.Polygon] = []
    for polygon, valid in zip(polygons, shapely.is_valid(polygons), strict=True):
        found += [polygon] if valid else _mended(polygon)
    return [one for one, area in zip(found, shapely.area(found), strict=True) if area > 0]


def _mended(polygon: shapely.Polygon) -> list[shapely.Polygon]:
    made = shapely.make_valid(polygon, method="structure", keep_collapsed=False)
    parts = shapely.get_parts(shapely.get_parts(made))
    return [one for one in parts if one.geom_type == "Polygon" and not one.is_empty]
