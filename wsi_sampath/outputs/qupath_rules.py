"""What QuPath 0.7 wants of a GeoJSON file, as a checker.

QuPath drops the whole file for one bad feature, so every rule here is about a file that would
not load, would load as something else, or would lose objects. Where QuPath forgives, the
checker is the stricter of the two.
"""

from __future__ import annotations

import json
import math
import uuid
import zlib
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import shapely
from shapely.geometry import shape

from wsi_sampath.outputs.packing import MEMBER_FEATURES, read_members

OBJECT_TYPES = ("annotation", "detection", "tile", "cell")
GEOMETRY_TYPES = ("Polygon", "MultiPolygon")
GRID_PX = 0.01
_MAX_PROBLEMS = 100


def check_geojson(path: Path) -> list[str]:
    """Tell why QuPath would not load a file as it is meant.

    Parameters
    ----------
    path
        A .geojson or .json file, either with .gz after it, or a .zip of them.

    Returns
    -------
    list of str
        At most 100 problems, each with the number of its feature; empty if all is well.
    """
    return list(islice(_file_problems(path), _MAX_PROBLEMS))


def _file_problems(path: Path) -> Iterator[str]:
    ids: Counter[str] = Counter()
    members = 0
    try:
        for name, text in read_members(path):
            members += 1
            where = f"{name}: " if name else ""
            yield from (where + problem for problem in _member_problems(name, text, ids))
    except (OSError, EOFError, zlib.error, BadZipFile) as error:
        yield f"not readable: {error}"
        return
    if not members:
        yield "the zip is empty"
    for name, times in ids.items():
        if times > 1:
            yield f"id {name} is used {times} times"


def _member_problems(name: str, text: bytes, ids: Counter[str]) -> Iterator[str]:
    if name and not name.endswith((".geojson", ".json")):
        yield "a member that is no .geojson is passed over"
        return
    try:
        collection = json.loads(text.decode("utf-8"), parse_constant=_refuse_constant)
    except ValueError as error:
        yield f"not readable as JSON: {error}"
        return
    yield from _collection_problems(collection, ids, most=MEMBER_FEATURES if name else math.inf)


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def _collection_problems(collection: object, ids: Counter[str], *, most: float) -> Iterator[str]:
    if not isinstance(collection, dict) or collection.get("type") != "FeatureCollection":
        yield "not a FeatureCollection"
        return
    features = collection.get("features")
    if not isinstance(features, list):
        yield "features is not a list"
        return
    if len(features) > most:
        yield f"{len(features):,} features are too many for one member of a zip"
    for number, feature in enumerate(features):
        for problem in _feature_problems(feature):
            yield f"feature {number}: {problem}"
    ids.update(f["id"] for f in features if isinstance(f, dict) and _is_text(f.get("id")))


def _feature_problems(feature: object) -> Iterator[str]:
    if not isinstance(feature, dict) or feature.get("type") != "Feature":
        yield "not a Feature"
        return
    yield from (f"{where} is null" for where in _nulls(feature, ""))
    if not _is_uuid(feature.get("id")):
        yield "id is not a UUID"
    properties = feature.get("properties")
    if isinstance(properties, dict):
        yield from _property_problems(properties)
    else:
        yield "properties is not an object"
    geometry = feature.get("geometry")
    if isinstance(geometry, dict):
        yield from _geometry_problems(geometry)
    else:
        yield "geometry is not an object"


def _nulls(value: object, where: str) -> Iterator[str]:
    if value is None:
        yield where.lstrip(".")
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _nulls(inner, f"{where}.{key}")
    elif isinstance(value, list) and None in value:
        yield where.lstrip(".")


def _property_problems(properties: dict[str, Any]) -> Iterator[str]:
    if properties.get("objectType") not in OBJECT_TYPES:
        yield f"objectType is not one of {', '.join(OBJECT_TYPES)}"
    if "name" in properties and not _is_text(properties["name"]):
        yield "name is not a text"
    if "isLocked" in properties and not isinstance(properties["isLocked"], bool):
        yield "isLocked is not true or false"
    if "classification" in properties:
        yield from _classification_problems(properties["classification"])
    measurements = properties.get("measurements", {})
    if not isinstance(measurements, dict):
        yield "measurements is not an object"
        return
    for name, value in measurements.items():
        if not _is_number(value):
            yield f"measurement {name!r} is not a finite number"


def _classification_problems(classification: object) -> Iterator[str]:
    if not isinstance(classification, dict):
        yield "classification is not an object with name and color"
        return
    if not _is_text(classification.get("name")):
        yield "classification has no name"
    color = classification.get("color")
    channels = color if isinstance(color, list) and len(color) in (3, 4) else [None]
    if not all(type(one) is int and 0 <= one <= 255 for one in channels):
        yield "classification has no color of three or four integers from 0 to 255"


def _geometry_problems(geometry: dict[str, Any]) -> Iterator[str]:
    kind = geometry.get("type")
    if kind not in GEOMETRY_TYPES:
        yield f"geometry {kind} is not one of {', '.join(GEOMETRY_TYPES)}"
        return
    plane = geometry.get("plane", {})
    if not isinstance(plane, dict) or not set(plane) <= {"c", "z", "t"}:
        yield "plane has other members than c, z and t"
    polygons = [geometry.get("coordinates")] if kind == "Polygon" else geometry.get("coordinates")
    if not isinstance(polygons, list) or not polygons or not all(map(_is_polygon, polygons)):
        yield "coordinates are not rings of x, y pairs of finite numbers"
        return
    rings = [ring for polygon in polygons for ring in polygon]
    if any(ring[0] != ring[-1] for ring in rings):
        yield "a ring is not closed"
        return
    if any(len(ring) < 4 for ring in rings):
        yield "a ring has fewer than four positions"
        return
    if any(round(value, 2) != value for ring in rings for point in ring for value in point):
        yield "a coordinate has more than 2 decimals"
    yield from _shape_problems(geometry)


def _shape_problems(geometry: dict[str, Any]) -> Iterator[str]:
    read = shape({"type": geometry["type"], "coordinates": geometry["coordinates"]})
    rounded = shapely.transform(read, lambda points: points.round(2))
    if not shapely.is_valid(rounded):
        yield f"the geometry is not valid: {shapely.is_valid_reason(rounded)}"
    elif rounded.area < GRID_PX**2:
        yield f"the geometry is empty on QuPath's grid of {GRID_PX} px"


def _is_polygon(polygon: object) -> bool:
    return isinstance(polygon, list) and bool(polygon) and all(map(_is_ring, polygon))


def _is_ring(ring: object) -> bool:
    return (
        isinstance(ring, list)
        and bool(ring)
        and all(isinstance(p, list) and len(p) == 2 and all(map(_is_number, p)) for p in ring)
    )


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _is_uuid(value: object) -> bool:
    try:
        return isinstance(value, str) and str(uuid.UUID(value)) == value
    except ValueError:
        return False
