"""What QuPath 0.6 to 0.8 makes of a GeoJSON: what it refuses, and what it changes or loses.

Written after what its own code does with some two hundred files, and after its source (`GsonTools`,
`QuPathTypeAdapters`, `PathClass`); where versions differ, the stricter one counts.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from wsi_sampath.outputs.qupath.geometry import (
    Note,
    Refused,
    as_double,
    as_list,
    as_text,
    read_geometry,
)
from wsi_sampath.outputs.qupath.lenient_json import Empty, NotJson, read_lenient

_GEOMETRIES = (
    *("Point", "MultiPoint", "LineString", "MultiLineString", "Polygon", "MultiPolygon"),
    "GeometryCollection",
)
_LEGACY_IDS = tuple(
    f"{kind}Object"
    for kind in ("PathTile", "PathCell", "TMACore", "PathDetection", "PathRoot", "PathAnnotation")
)
_KINDS = (*_LEGACY_IDS, "tile", "cell", "tmaCore", "tma_core", "detection", "root", "annotation")
_CORES = ("TMACoreObject", "tmaCore", "tma_core")
_INTEGER = re.compile(r"[+-]?[0-9]+")
_NO_BREAK = "\u00a0\u2007\u202f"
_CONTROL_SPACE = "\t\n\x0b\f\r\x1c\x1d\x1e\x1f"


@dataclass
class Reading:
    """What came of a text.

    Attributes
    ----------
    objects
        How many objects QuPath gets from it.
    refused
        Why it refuses the text; empty if it does not.
    changed
        What it changes, empties or loses.
    loose
        Why it is not strictly JSON; empty if it is.
    """

    objects: int = 0
    loose: str = ""
    refused: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)


def read_as_qupath(raw: bytes) -> tuple[Reading, object]:
    """Read a text as QuPath does.

    Returns
    -------
    reading, content
        What came of it, and the parsed JSON, None where there is none.
    """
    reading, text = Reading(), raw.decode("utf-8", "replace").removeprefix("\ufeff")
    if "\ufffd" in text and not _is_utf8(raw):
        reading.changed.append("it is not UTF-8: QuPath loses some letters")
    try:
        content, reading.loose = read_lenient(text)
    except Empty:
        reading.changed.append("not readable as JSON: it is empty")
        return reading, None
    except NotJson as error:
        reading.refused.append(f"not readable as JSON: {error}")
        return reading, None
    _add(content, reading)
    return reading, content


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _add(content: object, reading: Reading) -> None:
    for number, (element, is_bare) in enumerate(_elements(content, reading)):
        where = f"feature {number}: "

        def note(what: str, where: str = where) -> None:
            reading.changed.append(where + what)

        try:
            reading.objects += _bare(element, note) if is_bare else _object(element, note)
        except Refused as error:
            reading.refused.append(where + str(error))


def _elements(content: object, reading: Reading) -> Iterator[tuple[object, bool]]:
    """Walk down to objects, and to geometries that are none of an object's."""
    for node in _flat(content):
        if not isinstance(node, dict) or "type" not in node:
            reading.changed.append("something that is not a feature is passed over")
            continue
        try:
            kind = as_text(node["type"], "type")
        except Refused as error:
            reading.refused.append(str(error))
            continue
        if kind == "Feature":
            yield node, False
        elif kind in _GEOMETRIES:
            yield node, True
        elif kind == "FeatureCollection" and isinstance(node.get("features"), list):
            yield from ((one, False) for one in node["features"])
        else:
            reading.changed.append(f"what is of type {kind} is passed over")


def _flat(content: object) -> Iterator[object]:
    if isinstance(content, list):
        for one in content:
            yield from _flat(one)
    else:
        yield content


def _bare(node: object, note: Note) -> int:
    read_geometry(node, note)
    return 1


def _object(node: object, note: Note) -> int:
    """Read an object and its children; return how many they are."""
    if not isinstance(node, dict):
        raise Refused("not a Feature")
    kind = "unknown"
    if "id" in node:
        identity = as_text(node["id"], "id")
        kind = identity if identity in _LEGACY_IDS else kind
    if "geometry" not in node:
        raise Refused("geometry is not an object")
    read_geometry(node["geometry"], note)
    _check_plane(node["geometry"])
    count = 1
    if "properties" in node:
        kind, children = _properties(node["properties"], kind, note)
        count += sum(_object(child, _of_child(note)) for child in children)
    if "nucleusGeometry" in node:
        read_geometry(node["nucleusGeometry"], lambda what: note(f"nucleus: {what}"))
        _check_plane(node["nucleusGeometry"])
    if kind in _CORES:
        note("a TMA core becomes an ellipse")
    return count


def _of_child(note: Note) -> Note:
    return lambda what: note(f"child: {what}")


def _check_plane(geometry: dict[str, Any]) -> None:
    if "isEllipse" in geometry:
        as_text(geometry["isEllipse"], "isEllipse")
    if "plane" not in geometry:
        return
    plane = geometry["plane"]
    if not isinstance(plane, dict) or not set(plane) <= {"c", "z", "t"}:
        raise Refused("plane has other members than c, z and t")
    for axis, value in plane.items():
        _integer(value, f"plane.{axis}")


def _integer(value: object, what: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise Refused(f"{what} is not a number")
    _parse_int(value, what)


def _parse_int(value: object, what: str) -> None:
    if isinstance(value, str | bool):
        text = str(value)
        if not _INTEGER.fullmatch(text) or not -(2**31) <= int(text[:12]) < 2**31:
            raise Refused(f"{what} is not a whole number")


def _properties(properties: object, kind: str, note: Note) -> tuple[str, list[Any]]:
    """Read the properties of an object; return its kind and its children."""
    if not isinstance(properties, dict):
        raise Refused("properties is null" if properties is None else "properties is not an object")
    if "name" in properties:
        as_text(properties["name"], "properties.name")
    if "color" in properties:
        _check_color(properties["color"])
    if "classification" in properties:
        _classification(properties["classification"], note)
    measurements = properties.get("measurements")
    if isinstance(measurements, list):
        _listed_measurements(measurements)
    elif isinstance(measurements, dict):
        _measurements(measurements, note)
    named = next((key for key in ("objectType", "object_type", "type") if key in properties), None)
    if named is not None:
        kind = as_text(properties[named], f"properties.{named}")
        if kind not in _KINDS:
            note(f"{named} {kind!r} is unknown: QuPath makes an annotation of it")
    children = properties.get("childObjects" if "childObjects" in properties else "children")
    return kind, children if isinstance(children, list) else []


def _check_color(color: object) -> None:
    """Read the colour of an object, which is not the one of its class."""
    if isinstance(color, str | int | float):
        _parse_int(color, "properties.color")
    elif isinstance(color, list) and len(color) == 3:
        for one in color:
            while isinstance(one, list) and len(one) == 1:
                one = one[0]
            if one is None or isinstance(one, list | dict):
                raise Refused("properties.color has something else than numbers")
            _parse_int(one, "properties.color")


def _listed_measurements(measurements: list[Any]) -> None:
    for one in measurements:
        if not isinstance(one, dict):
            raise Refused("a measurement is not an object")
        as_text(one.get("name"), "the name of a measurement")
        as_double(one.get("value"), "the value of a measurement")


def _measurements(measurements: dict[str, Any], note: Note) -> None:
    for name, value in measurements.items():
        if isinstance(value, str):
            as_double(value, f"measurement {name!r}")
        elif isinstance(value, bool) or not isinstance(value, int | float):
            note(f"measurement {name!r} is lost")


def _classification(node: object, note: Note) -> None:
    if node is None:
        return
    if isinstance(node, str):
        _class_name(node, note)
        return
    if not isinstance(node, dict):
        raise Refused("classification is neither an object nor a text")
    if not node or "colorRGB" in node or "parentClass" in node:
        _old_classification(node)
        return
    if not ("name" in node or "names" in node) or "color" not in node:
        raise Refused("classification has no color or no name")
    names, name = _names(node.get("names")), node.get("name")
    if isinstance(name, list | dict):
        raise Refused("the name of the class is not a text")
    _check_channels(node["color"])
    if name is not None:
        _class_name(as_text(name, "name"), note)
    elif names:
        _class_parts(names)


def _old_classification(node: dict[str, Any]) -> None:
    """Read a classification of 0.2, whose names QuPath takes unseen."""
    while node:
        if isinstance(node.get("name"), list | dict):
            raise Refused("the name of the class is not a text")
        if node.get("colorRGB") is not None:
            _integer(node["colorRGB"], "colorRGB")
        parent = node.get("parentClass")
        if not isinstance(parent, dict | None):
            raise Refused("parentClass is not an object")
        node = parent or {}


def _names(names: object) -> list[str]:
    if names is None:
        return []
    return [as_text(one, "a name of the class") for one in as_list(names, "names")]


def _check_channels(color: object) -> None:
    if color is None:
        return
    channels = as_list(color, "classification.color")
    for one in channels:
        _integer(one, "classification.color")
    if len(channels) not in (0, 1, 3, 4):
        raise Refused(f"classification.color has {len(channels)} numbers")


def _class_name(name: str, note: Note) -> None:
    parts = name.split(":")
    while len(parts) > 1 and not parts[-1]:
        parts.pop()
    if not any(parts) and name:
        note(f"class {name!r} is lost")
        return
    parts = [_stripped(part) for part in parts]
    _class_parts(parts)
    if (made := ": ".join(parts)) != name:
        note(f"class {name!r} becomes {made!r}")


def _class_parts(parts: list[str]) -> None:
    for part in parts:
        if not _stripped(part):
            raise Refused("a class name, or a part of one beside a colon, is empty")
        if any(one in _stripped(part) for one in "\n\r:"):
            raise Refused(f"the class name {part!r} has a line break or a colon in it")


def _stripped(text: str) -> str:
    start, end = 0, len(text)
    while start < end and _is_space(text[start]):
        start += 1
    while end > start and _is_space(text[end - 1]):
        end -= 1
    return text[start:end]


def _is_space(one: str) -> bool:
    """Return whether Java takes a character for white space."""
    if one in _CONTROL_SPACE:
        return True
    return unicodedata.category(one) in ("Zs", "Zl", "Zp") and one not in _NO_BREAK
