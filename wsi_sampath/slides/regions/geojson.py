"""The one reader of drawn objects: QuPath's GeoJSON, from 0.2 to 0.8, and its relatives.

It knows three ways of naming the kind of an object (the ``id`` of 0.2, ``object_type`` of 0.3,
``objectType`` since), children within their parents, classes by name, by parts or with a parent,
collections in collections, bare lists, features and geometries. What is of no use is reported as a
`Lack` of the object, so that whoever asked for areas can say what was left out, and why.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import geojson
import shapely

from wsi_sampath.errors import WsiError
from wsi_sampath.garbage_collection import collection_paused
from wsi_sampath.slides.regions.polygon_parts import Broken, areas_of
from wsi_sampath.unpacking import UNREADABLE, container_by_content, read_texts

Kind = Literal["annotation", "detection", "cell", "tile", "tma core", "root"]

_KINDS: dict[str, Kind] = {
    "detection": "detection",
    "cell": "cell",
    "tile": "tile",
    "tmacore": "tma core",
    "root": "root",
}
_POINTS, _LINES = ("Point", "MultiPoint"), ("LineString", "MultiLineString")
_MEMBERS = (".geojson", ".json", ".geojson.gz", ".json.gz")


class Lack(Enum):
    """Why an object, or a part of it, is left out: for one of them, and for several."""

    DETECTION = "detection", "detections"
    CELL = "cell", "cells"
    TILE = "tile", "tiles"
    CORE = "TMA core", "TMA cores"
    POINT = "point", "points"
    LINE = "line", "lines"
    EMPTY = "empty area", "empty areas"
    CLASSLESS = "area without a class", "areas without a class"
    ODD_NAME = "area with an unusable class name", "areas with unusable class names"
    REGION = "area of a class in '*'", "areas of classes in '*'"
    OTHER_PLANE = "object on another plane (z or t)", "objects on other planes (z or t)"
    NO_GEOMETRY = "object without a geometry", "objects without a geometry"
    NOT_FINITE = (
        "object with NaN, infinite or null coordinates",
        ("objects with NaN, infinite or null coordinates"),
    )
    FAR = "object with coordinates beyond any slide", "objects with coordinates beyond any slide"
    BROKEN = "object with broken coordinates", "objects with broken coordinates"
    UNKNOWN = "object of an unknown geometry", "objects of unknown geometries"
    NO_FEATURE = "entry that is not a feature", "entries that are not features"


LEFT_OUT_KINDS: dict[Kind, Lack] = {
    "detection": Lack.DETECTION,
    "cell": Lack.CELL,
    "tile": Lack.TILE,
    "tma core": Lack.CORE,
}


def left_out_phrases(left_out: Mapping[Lack, int]) -> list[str]:
    """Return what was left out in words, such as ``3 detections``, in a fixed order."""
    return [
        f"{left_out[lack]:,} {lack.value[left_out[lack] != 1]}"
        for lack in Lack
        if left_out.get(lack)
    ]


@dataclass(frozen=True)
class DrawnObject:
    """One object of a file.

    Attributes
    ----------
    kind
        Its kind, as QuPath sees it.
    class_name
        As written, the parts joined by ``": "``; empty where it has no class.
    color
        "#rrggbb" of the class, or None where the file has none.
    area
        MultiPolygon of valid parts, in level-0 pixels as QuPath counts them; None without any.
    lacks
        Number of its parts that cannot be used, by reason.
    """

    kind: Kind
    class_name: str = ""
    color: str | None = None
    area: shapely.MultiPolygon | None = None
    lacks: Counter[Lack] = field(default_factory=Counter)


@dataclass(frozen=True)
class DrawnFile:
    """All objects of a file in its order, and warnings about the file."""

    objects: tuple[DrawnObject, ...]
    warnings: tuple[str, ...] = ()


@collection_paused()
def read_drawn(path: str | Path) -> DrawnFile:
    """Read a file of drawn objects, plain, ``.gz`` or ``.zip`` of several.

    Raises
    ------
    WsiError
        ``bad-input`` if it can't be read, isn't JSON, is nested too deeply or unpacks to too much.
    """
    path = Path(path)
    objects: list[DrawnObject] = []
    warnings: list[str] = []
    try:
        for name, raw in _texts(path):
            text, warning = _decoded(raw)
            if warning:
                warnings.append(f"{name or path.name} {warning}")
            objects += _objects(_features(_parsed(text)))
    except RecursionError as error:
        raise _bad(path, "cannot be read as GeoJSON: it is nested too deeply") from error
    except (*UNREADABLE, ValueError) as error:
        raise _bad(path, f"cannot be read as GeoJSON ({error})") from error
    return DrawnFile(tuple(objects), tuple(warnings))


def _texts(path: Path) -> Iterator[tuple[str, bytes]]:
    if path.exists() and not path.is_file():
        raise _bad(path, "is not a file")
    container = container_by_content(path)
    for name, raw in read_texts(path, container):
        # What macOS adds to a zip carries the names of its members.
        hidden = "__MACOSX/" in name or Path(name).name.startswith(".")
        if container != "zip" or (name.lower().endswith(_MEMBERS) and not hidden):
            yield name, raw


def _decoded(raw: bytes) -> tuple[str, str | None]:
    try:
        return raw.decode(json.detect_encoding(raw)), None
    except UnicodeDecodeError:
        if b"\0" in raw:
            raise
        return raw.decode("cp1252", "replace"), "is not UTF-8; it is read as Windows-1252"


def _parsed(text: str) -> object:
    # Without a hook: the package's own would round coordinates, and refuse a file for one null.
    node: object = geojson.loads(text, object_hook=None, parse_constant=float)
    if not isinstance(node, dict | list):
        raise ValueError("neither a feature nor a collection")
    return node


def _features(content: object) -> Iterator[Mapping[str, Any] | None]:
    """Walk down to features, parents before their children; None for other values."""
    waiting = [content]
    while waiting:
        node = waiting.pop()
        if isinstance(node, list):
            waiting += reversed(node)
        elif not isinstance(node, dict):
            yield None
        elif isinstance(node.get("features"), list):
            waiting += reversed(node["features"])
        elif isinstance(node.get("root"), dict):
            waiting.append(node["root"])
        elif node.get("type") == "Feature" or "geometry" in node:
            yield node
            waiting += reversed(_children(node))
        else:
            yield {"geometry": node} if "type" in node else None


def _children(feature: Mapping[str, Any]) -> list[Any]:
    properties = _mapping(feature.get("properties"))
    children = properties.get("childObjects", properties.get("children"))
    return children if isinstance(children, list) else []


def _objects(features: Iterable[Mapping[str, Any] | None]) -> Iterator[DrawnObject]:
    found = [_object(feature) for feature in features]
    areas = iter(areas_of([parts for _, parts in found if parts]) if found else ())
    for thing, parts in found:
        area = next(areas) if parts else None
        if isinstance(area, Broken):
            yield replace(thing, lacks=thing.lacks + Counter([_BROKEN_LACKS[area.how]]))
        elif parts and area is None:
            yield replace(thing, lacks=thing.lacks + Counter([Lack.EMPTY]))
        else:
            yield replace(thing, area=area)


def _object(feature: Mapping[str, Any] | None) -> tuple[DrawnObject, list[Any]]:
    """Return an object without its area, and the coordinates of the polygons in that."""
    if feature is None:
        return DrawnObject("annotation", lacks=Counter([Lack.NO_FEATURE])), []
    properties = _mapping(feature.get("properties"))
    classification = properties.get("classification")
    kind, geometry = _kind(feature, properties), feature.get("geometry")
    if kind == "cell":
        # Of a cell, what others would call the object is its nucleus.
        geometry = feature.get("nucleusGeometry") or geometry
    if kind == "root":
        return DrawnObject("root"), []
    if _is_elsewhere(geometry) or _is_elsewhere(properties):
        return DrawnObject(kind, lacks=Counter([Lack.OTHER_PLANE])), []
    parts, lacks = _parts(geometry)
    return DrawnObject(kind, _class(classification), _color(classification), None, lacks), parts


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _kind(feature: Mapping[str, Any], properties: Mapping[str, Any]) -> Kind:
    names = (properties.get(key) for key in ("objectType", "object_type", "type"))
    named = next((name for name in names if isinstance(name, str)), None)
    identity = feature.get("id")
    if named is None and isinstance(identity, str):
        named = identity
    plain = (named or "").casefold().replace("_", "")
    # As in QuPath, an unknown kind is an annotation.
    return _KINDS.get(plain.removeprefix("path").removesuffix("object"), "annotation")


def _is_elsewhere(holder: object) -> bool:
    plane = _mapping(_mapping(holder).get("plane"))
    return any(
        isinstance(plane.get(axis), int | float) and abs(plane[axis]) >= 1 for axis in ("z", "t")
    )


def _parts(geometry: object) -> tuple[list[Any], Counter[Lack]]:
    parts: list[Any] = []
    lacks: Counter[Lack] = Counter()
    for part in _single_geometries(geometry):
        coordinates = part.get("coordinates")
        if part.get("type") == "Polygon":
            parts.append(coordinates)
        elif part.get("type") == "MultiPolygon":
            several = isinstance(coordinates, list) and coordinates
            parts += several or [coordinates]
        else:
            lacks[_lack_of(part)] += 1
    return parts, lacks if parts or lacks else Counter([Lack.EMPTY])


_BROKEN_LACKS = {"not finite": Lack.NOT_FINITE, "far": Lack.FAR, "broken": Lack.BROKEN}


def _lack_of(geometry: Mapping[str, Any]) -> Lack:
    kind = geometry.get("type")
    if kind in _POINTS:
        return Lack.POINT
    if kind in _LINES:
        return Lack.LINE
    return Lack.UNKNOWN if "type" in geometry else Lack.NO_GEOMETRY


def _single_geometries(geometry: object) -> Iterator[Mapping[str, Any]]:
    """Walk collections of geometries down to single geometries."""
    waiting = [geometry]
    while waiting:
        node = waiting.pop()
        members = node.get("geometries") if isinstance(node, dict) else None
        if isinstance(members, list):
            waiting += reversed(members)
        else:
            yield _mapping(node)


def _class(classification: object) -> str:
    if isinstance(classification, str):
        return classification
    names: list[str] = []
    node = _mapping(classification)
    parts = node.get("names")
    if isinstance(parts, list) and parts:
        return ": ".join(map(_text, parts))
    # Before 0.3 a part of a class named the one that it was derived from.
    while node:
        names.insert(0, _text(node.get("name")))
        node = _mapping(node.get("parentClass"))
    return ": ".join(filter(None, names))


def _text(value: object) -> str:
    is_plain = isinstance(value, str | int | float) and not isinstance(value, bool)
    return str(value) if is_plain else ""


def _color(classification: object) -> str | None:
    node = _mapping(classification)
    color, packed = node.get("color"), node.get("colorRGB")
    if isinstance(color, list) and len(color) >= 3 and all(map(_is_finite, color[:3])):
        return "#" + "".join(f"{int(channel) & 255:02x}" for channel in color[:3])
    # Before 0.3 QuPath wrote a signed integer, alpha in the highest byte.
    return f"#{int(packed) & 0xFFFFFF:06x}" if _is_finite(packed) else None  # type: ignore[arg-type]


def _is_finite(value: object) -> bool:
    if isinstance(value, int):
        return True
    return isinstance(value, float) and math.isfinite(value)


def left_out_of(objects: Iterable[DrawnObject]) -> Counter[Lack]:
    """Count by reason what cannot be used of these objects."""
    total: Counter[Lack] = Counter()
    for thing in objects:
        total += thing.lacks
    return total


def _bad(path: Path, message: str) -> WsiError:
    return WsiError("bad-input", message, subject=str(path))
