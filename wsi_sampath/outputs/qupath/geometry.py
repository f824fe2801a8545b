"""What QuPath 0.6 to 0.8 makes of the geometries of a GeoJSON.

It reads with JTS: a ring that is not closed is an error, points and lines beside areas are
dropped, and every coordinate becomes a 32-bit float, then goes to a grid of 0.01 px, where invalid
geometries are an error and small ones vanish.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

GRID_PX = 0.01
# Java rounds to a 64-bit integer, and stops at the largest.
_FARTHEST_PX = 9.2e16
# A valid ring of this area, its corners on the grid, does not vanish.
_SAFE_AREA_PX = 1.0
# Up to here a 32-bit float is finer than the grid.
_FINE_PX = 131_072
_DOUBLE = re.compile(
    r"[\x00-\x20]*[+-]?(?:NaN|Infinity|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?[fFdD]?)[\x00-\x20]*",
    re.ASCII,
)

Point = tuple[float, float]
Note = Callable[[str], None]


class Refused(Exception):
    """A value that QuPath refuses, and with it the whole file."""


def as_text(value: object, what: str) -> str:
    """Return a JSON value as the text that Gson makes of it."""
    if isinstance(value, list) and len(value) == 1:
        return as_text(value[0], what)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        return str(value)
    raise Refused(f"{what} is null" if value is None else f"{what} is not a text")


def as_double(value: object, what: str) -> float:
    """Return a JSON value as the number that Gson makes of it."""
    if isinstance(value, list) and len(value) == 1:
        return as_double(value[0], what)
    if isinstance(value, str) and _DOUBLE.fullmatch(value):
        return float(value.strip("\x00 \t\r\n").rstrip("fFdD") if value[-1:] in "fFdD" else value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Refused(f"{what} is null" if value is None else f"{what} is not a number")
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def as_list(value: object, what: str) -> list[Any]:
    """Return a JSON value if it is a list."""
    if not isinstance(value, list):
        raise Refused(f"{what} is not a list")
    return value


def read_geometry(node: object, note: Note) -> None:
    """Read a geometry as QuPath does.

    Parameters
    ----------
    node
        Parsed JSON.
    note
        Called with what QuPath would change, empty or lose.

    Raises
    ------
    Refused
        If QuPath refuses it.
    """
    if not isinstance(node, dict):
        raise Refused("geometry is null" if node is None else "geometry is not an object")
    if not node:
        note("geometry has nothing in it")
        return
    areas, lines, points = _parsed(node)
    if areas:
        if lines or points:
            note("points and lines beside areas are dropped")
        with np.errstate(all="ignore"):
            _reduce(areas, note)
    elif lines:
        if all(_is_point(line) for line in lines):
            note(f"the line is empty on QuPath's grid of {GRID_PX} px")
    elif not points:
        note("the geometry is empty")


Parsed = tuple[list[shapely.Polygon], list[list[Point]], list[Point]]


def _parsed(node: dict[str, Any]) -> Parsed:
    """Return the areas, lines and points of a geometry."""
    kind = as_text(node.get("type"), "the type of the geometry")
    coordinates = as_list(node.get("coordinates"), "coordinates")
    match kind:
        case "Point":
            return [], [], [_point(coordinates)]
        case "MultiPoint":
            return [], [], _points(coordinates)
        case "LineString":
            return [], [_line(coordinates)], []
        case "MultiLineString":
            return [], [_line(as_list(one, "a line")) for one in coordinates], []
        case "Polygon":
            return [_polygon(coordinates)], [], []
        case "MultiPolygon":
            return [_polygon(as_list(one, "a polygon")) for one in coordinates], [], []
        case "GeometryCollection":
            return _collection(as_list(node.get("geometries"), "geometries"))
    raise Refused(f"geometry {kind} is not one that QuPath knows")


def _collection(geometries: list[Any]) -> Parsed:
    areas: list[shapely.Polygon] = []
    lines: list[list[Point]] = []
    points: list[Point] = []
    for one in geometries:
        if not isinstance(one, dict):
            raise Refused("a geometry of a collection is not an object")
        parsed = _parsed(one)
        areas += parsed[0]
        lines += parsed[1]
        points += parsed[2]
    return areas, lines, points


def _point(values: object) -> Point:
    position = as_list(values, "a position")
    if len(position) < 2:
        raise Refused("a position has fewer than two numbers")
    x, y, *_ = [as_double(one, "a coordinate") for one in position[:3]]
    return x, y


def _points(values: list[Any]) -> list[Point]:
    return [_point(one) for one in values]


def _line(values: list[Any]) -> list[Point]:
    line = _points(values)
    if len(line) == 1:
        raise Refused("a line has only one position")
    return line


def _ring(values: object) -> list[Point]:
    ring = _points(as_list(values, "a ring"))
    if ring and ring[0] != ring[-1]:
        raise Refused("a ring is not closed")
    if 0 < len(ring) < 3:
        raise Refused("a ring has fewer than three positions")
    return ring + ring[-1:] if len(ring) == 3 else ring


def _polygon(values: list[Any]) -> shapely.Polygon:
    rings = [_ring(one) for one in values]
    if not rings or not rings[0]:
        if any(rings):
            raise Refused("a polygon has holes but no outline")
        return shapely.Polygon()
    return shapely.Polygon(rings[0], [hole for hole in rings[1:] if hole])


def _is_point(line: list[Point]) -> bool:
    return len({(round(x, 2), round(y, 2)) for x, y in line}) < 2


def _reduce(areas: list[shapely.Polygon], note: Note) -> None:
    """Note what happens to areas on QuPath's grid."""
    full = [one for one in areas if not one.is_empty]
    # Coordinates may be infinite here, and far too large for an area.
    given = full[0] if len(full) == 1 else shapely.MultiPolygon(full)
    values = shapely.get_coordinates(given)
    if np.isnan(values).any():
        note("it has coordinates that are NaN")
        return
    if np.isinf(values).any():
        note("it has infinite coordinates")
    elif _is_sound(given, values):
        return
    reduced, area = _on_grid(given), shapely.area(given)
    if not shapely.area(reduced) > 0:
        note(f"the geometry is empty on QuPath's grid of {GRID_PX} px")
    elif abs(shapely.area(reduced) - area) > max(GRID_PX, 0.01 * area):
        note("its area is another one in QuPath, on a grid of 0.01 px and in 32-bit floats")


def _is_sound(given: shapely.Geometry, values: NDArray[np.float64]) -> bool:
    """Return, at little cost, whether it certainly stays as it is."""
    if not len(values) or _is_far(values) or not (np.round(values, 2) == values).all():
        return False
    if not shapely.is_valid(given):
        return False
    rings = shapely.polygons(shapely.get_rings(shapely.get_parts(given)))
    return bool(shapely.area(rings).min() >= _SAFE_AREA_PX)


def _is_far(values: NDArray[np.float64]) -> bool:
    return bool(np.abs(values).max() >= _FINE_PX)


def _on_grid(given: shapely.Geometry) -> shapely.Geometry:
    try:
        reduced = shapely.set_precision(shapely.transform(given, _as_floats), GRID_PX)
        return shapely.transform(reduced, _as_floats)
    except shapely.GEOSException as error:
        raise Refused(f"the geometry is not valid: {shapely.is_valid_reason(given)}") from error


def _as_floats(values: NDArray[np.float64]) -> NDArray[np.float64]:
    near: NDArray[np.float64] = values.astype(np.float32).astype(np.float64)
    return near.clip(-_FARTHEST_PX, _FARTHEST_PX)
