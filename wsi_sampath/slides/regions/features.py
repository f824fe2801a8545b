"""What a feature of QuPath's says of its object: kind, id, name, class and colours."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import Any, Literal, TypeGuard

Kind = Literal["annotation", "detection", "cell", "tile", "tma core", "root"]

# An integer of JSON may be larger.
_LARGEST = sys.float_info.max
_KINDS: dict[str, Kind] = {
    "detection": "detection",
    "cell": "cell",
    "tile": "tile",
    "tmacore": "tma core",
    "root": "root",
}


def mapping(value: object) -> Mapping[str, Any]:
    """Return a JSON value if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def id_of(feature: Mapping[str, Any]) -> str:
    """Return the id of a feature, empty where it has none; QuPath 0.2 wrote a kind there."""
    identity = _text(feature.get("id"))
    return "" if identity.startswith("Path") and identity.endswith("Object") else identity


def name_of(properties: Mapping[str, Any]) -> str:
    """Return the name of an object, which is not that of its class; empty where it has none."""
    return _text(properties.get("name"))


def kind_of(feature: Mapping[str, Any]) -> Kind:
    """Return the kind of a feature's object, as QuPath sees it."""
    properties = mapping(feature.get("properties"))
    names = (properties.get(key) for key in ("objectType", "object_type", "type"))
    named = next((name for name in names if isinstance(name, str)), None)
    identity = feature.get("id")
    if named is None and isinstance(identity, str):
        named = identity
    plain = (named or "").casefold().replace("_", "")
    # As in QuPath, an unknown kind is an annotation.
    return _KINDS.get(plain.removeprefix("path").removesuffix("object"), "annotation")


def class_of(properties: Mapping[str, Any]) -> str:
    """Return the class of an object as written, its parts joined; empty where it has none."""
    classification = properties.get("classification")
    if isinstance(classification, str):
        return classification
    names: list[str] = []
    node = mapping(classification)
    parts = node.get("names")
    if isinstance(parts, list) and parts:
        return ": ".join(map(_text, parts))
    # Before 0.3 a part of a class named the one that it was derived from.
    while node:
        names.insert(0, _text(node.get("name")))
        node = mapping(node.get("parentClass"))
    return ": ".join(filter(None, names))


def class_color_of(properties: Mapping[str, Any]) -> str | None:
    """Return the colour of an object's class as "#rrggbb", or None."""
    return _color(mapping(properties.get("classification")))


def own_color_of(properties: Mapping[str, Any]) -> str | None:
    """Return the colour of an object itself as "#rrggbb", or None."""
    return _color(properties)


def measurement_of(properties: Mapping[str, Any], name: str) -> float | None:
    """Return a measurement of an object; None where it has none of that name, or no number."""
    measurements = properties.get("measurements")
    if isinstance(measurements, list):
        # Before 0.4 each was an object of its own.
        named = (one for one in map(mapping, measurements) if one.get("name") == name)
        value = next(named, {}).get("value")
    else:
        value = mapping(measurements).get(name)
    return float(value) if _is_number(value) and abs(value) <= _LARGEST else None


def metadata_of(properties: Mapping[str, Any]) -> dict[str, str]:
    """Return what texts an object is labelled with, by name."""
    metadata = mapping(properties.get("metadata"))
    return {name: value for name, value in metadata.items() if isinstance(value, str)}


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(value: object) -> str:
    return str(value) if isinstance(value, str) or _is_number(value) else ""


def _color(holder: Mapping[str, Any]) -> str | None:
    color, packed = holder.get("color"), holder.get("colorRGB")
    if isinstance(color, list) and len(color) >= 3 and all(map(_is_finite, color[:3])):
        return "#" + "".join(f"{int(channel) & 255:02x}" for channel in color[:3])
    # Before 0.3 QuPath wrote a signed integer, alpha in the highest byte.
    return f"#{int(packed) & 0xFFFFFF:06x}" if _is_finite(packed) else None  # type: ignore[arg-type]


def _is_finite(value: object) -> bool:
    if isinstance(value, int):
        return True
    return isinstance(value, float) and math.isfinite(value)
