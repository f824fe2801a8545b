"""The one reader of drawn objects: QuPath's GeoJSON, from 0.2 to 0.8, and its relatives.

It knows three ways of naming the kind of an object (the ``id`` of 0.2, ``object_type`` of 0.3,
``objectType`` since), children within their parents, classes by name, by parts or with a parent,
collections in collections, bare lists, features and geometries. What is no area is reported as a
`Lack` of the object, so that whoever asked for areas can say what was left out, and why; where its
points and lines are is kept as `Marks` for those who ask for them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any

import geojson
import numpy as np
import shapely
from numpy.typing import NDArray

from wsi_sampath.errors import WsiError
from wsi_sampath.garbage_collection import collection_paused
from wsi_sampath.slides.regions.features import (
    Kind,
    class_color_of,
    class_of,
    id_of,
    kind_of,
    mapping,
    measurement_of,
    metadata_of,
    name_of,
    own_color_of,
)
from wsi_sampath.slides.regions.polygon_parts import UNPLACED, Broken, areas_of, positions_of
from wsi_sampath.unpacking import UNREADABLE, container_by_content, read_texts

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


@dataclass(frozen=True, eq=False)
class Marks:
    """Points or a line of an object.

    Attributes
    ----------
    is_line
        Whether they are the corners of a line.
    xy
        (n, 2) in level-0 pixels as QuPath counts them; NaN or infinite where the file is.
    """

    is_line: bool
    xy: NDArray[np.float64]


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
        Number of its parts that are no areas, by reason.
    marks
        Its points and lines.
    id
        As written; empty where it has none.
    name
        Its own name, not that of its class; empty where it has none.
    own_color
        "#rrggbb" of the object itself, which QuPath prefers to that of its class.
    parent
        Index in the file of the object in which it is nested, or None.
    quality, mpp
        Measurements of these names, as our own masks have them; None without.
    metadata
        The texts that it is labelled with, by name.
    """

    kind: Kind
    class_name: str = ""
    color: str | None = None
    area: shapely.MultiPolygon | None = None
    lacks: Counter[Lack] = field(default_factory=Counter)
    marks: tuple[Marks, ...] = ()
    id: str = ""
    name: str = ""
    own_color: str | None = None
    parent: int | None = None
    quality: float | None = None
    mpp: float | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


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
            objects += _objects(_features(_parsed(text), len(objects)))
    except FileNotFoundError as error:
        raise _bad(path, "there is no such file") from error
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


_Found = tuple[Mapping[str, Any] | None, int | None]


def _features(content: object, number: int) -> Iterator[_Found]:
    """Walk down to features, parents before their children; None for other values.

    Parameters
    ----------
    content
        Parsed JSON.
    number
        How many objects of the file come before.

    Yields
    ------
    feature, parent
        The feature, and the number of the one that it is a child of.
    """
    waiting: list[tuple[Any, int | None]] = [(content, None)]
    while waiting:
        node, parent = waiting.pop()
        if isinstance(node, list):
            waiting += [(one, parent) for one in reversed(node)]
        elif isinstance(node, dict) and isinstance(node.get("features"), list):
            waiting += [(one, parent) for one in reversed(node["features"])]
        elif isinstance(node, dict) and isinstance(node.get("root"), dict):
            waiting.append((node["root"], parent))
        else:
            yield _feature(node), parent
            waiting += [(one, number) for one in reversed(_children(node))]
            number += 1


def _feature(node: object) -> Mapping[str, Any] | None:
    if not isinstance(node, dict):
        return None
    if node.get("type") == "Feature" or "geometry" in node:
        return node
    return {"geometry": node} if "type" in node else None


def _children(feature: object) -> list[Any]:
    properties = mapping(mapping(feature).get("properties"))
    children = properties.get("childObjects", properties.get("children"))
    return children if isinstance(children, list) else []


def _objects(features: Iterable[_Found]) -> Iterator[DrawnObject]:
    found = [_object(feature, parent) for feature, parent in features]
    areas = iter(areas_of([parts for _, parts in found if parts]) if found else ())
    for thing, parts in found:
        area = next(areas) if parts else None
        if isinstance(area, Broken):
            yield replace(thing, lacks=thing.lacks + Counter([_BROKEN_LACKS[area.how]]))
        elif parts and area is None:
            yield replace(thing, lacks=thing.lacks + Counter([Lack.EMPTY]))
        else:
            yield thing if area is None else replace(thing, area=area)


def _object(feature: Mapping[str, Any] | None, parent: int | None) -> tuple[DrawnObject, list[Any]]:
    """Return an object without its area, and the coordinates of the polygons in that."""
    if feature is None:
        return DrawnObject("annotation", lacks=Counter([Lack.NO_FEATURE]), parent=parent), []
    properties, kind = mapping(feature.get("properties")), kind_of(feature)
    parts, lacks, marks = _geometry(feature, properties, kind)
    thing = DrawnObject(
        kind,
        class_of(properties),
        class_color_of(properties),
        lacks=lacks,
        marks=marks,
        id=id_of(feature),
        name=name_of(properties),
        own_color=own_color_of(properties),
        parent=parent,
        quality=measurement_of(properties, "quality"),
        mpp=measurement_of(properties, "mpp"),
        metadata=metadata_of(properties),
    )
    return thing, parts


_Geometry = tuple[list[Any], Counter[Lack], tuple[Marks, ...]]


def _geometry(feature: Mapping[str, Any], properties: Mapping[str, Any], kind: Kind) -> _Geometry:
    """Return the coordinates of an object's polygons, what else there is, and its marks."""
    if kind == "root":
        return [], Counter(), ()
    geometry = feature.get("geometry")
    if kind == "cell":
        # Of a cell, what others would call the object is its nucleus.
        geometry = feature.get("nucleusGeometry") or geometry
    if _is_elsewhere(geometry) or _is_elsewhere(properties):
        return [], Counter([Lack.OTHER_PLANE]), ()
    return _parts(geometry)


def _is_elsewhere(holder: object) -> bool:
    plane = mapping(mapping(holder).get("plane"))
    return any(
        isinstance(plane.get(axis), int | float) and abs(plane[axis]) >= 1 for axis in ("z", "t")
    )


def _parts(geometry: object) -> _Geometry:
    parts: list[Any] = []
    lacks: Counter[Lack] = Counter()
    marks: list[Marks] = []
    for part in _single_geometries(geometry):
        kind, coordinates = part.get("type"), part.get("coordinates")
        if kind == "Polygon":
            parts.append(coordinates)
        elif kind == "MultiPolygon":
            several = isinstance(coordinates, list) and coordinates
            parts += several or [coordinates]
        else:
            lacks[_lack_of(part)] += 1
            marks += _marks(kind, coordinates)
    return parts, lacks if parts or lacks else Counter([Lack.EMPTY]), tuple(marks)


def _marks(kind: object, coordinates: object) -> Iterator[Marks]:
    if kind not in (*_POINTS, *_LINES):
        return
    lists = coordinates if kind == "MultiLineString" else [coordinates]
    for one in lists if isinstance(lists, list) else [lists]:
        places = [one] if kind == "Point" else one
        try:
            xy = positions_of(places) if places else np.zeros((0, 2))
        except UNPLACED:
            xy = np.full((1, 2), np.nan)
        yield Marks(kind in _LINES, xy)


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
            yield mapping(node)


def left_out_of(objects: Iterable[DrawnObject]) -> Counter[Lack]:
    """Count by reason what cannot be used of these objects."""
    total: Counter[Lack] = Counter()
    for thing in objects:
        total += thing.lacks
    return total


def _bad(path: Path, message: str) -> WsiError:
    return WsiError("bad-input", message, subject=str(path))
