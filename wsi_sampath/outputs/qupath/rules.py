"""Whether QuPath takes a GeoJSON file, and whether it is as we write it.

QuPath refuses the whole file for one bad feature; in a zip it drops the member without a word.
Three verdicts, the gravest first: QuPath *refuses* the file; it loads, but QuPath *changes* or
empties an object, or gets none; it loads as it is, but is not as this program writes it, which is
stricter than QuPath, so that other programs, and QuPath's next version, take it as well.
"""

from __future__ import annotations

import math
import uuid
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from gzip import BadGzipFile
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import shapely
from shapely.geometry import shape

from wsi_sampath.errors import WsiError
from wsi_sampath.garbage_collection import collection_paused
from wsi_sampath.outputs.qupath.geometry import GRID_PX
from wsi_sampath.outputs.qupath.packing import MEMBER_FEATURES
from wsi_sampath.outputs.qupath.reading import Reading, read_as_qupath
from wsi_sampath.unpacking import (
    UNREADABLE,
    checked_members,
    container_by_name,
    read_member,
    read_texts,
)

Verdict = Literal["refuses", "changes", "ours"]
VERDICTS: dict[Verdict, str] = {
    "refuses": "QuPath refuses it",
    "changes": "QuPath changes or empties it",
    "ours": "not as we write it",
}
OBJECT_TYPES = ("annotation", "detection", "tile", "cell")
GEOMETRY_TYPES = ("Polygon", "MultiPolygon")
_MAX_PROBLEMS = 100
# QuPath's reader fills a buffer of so many bytes before it looks at the first.
_FIRST_BYTES = 8192


@dataclass(frozen=True)
class Finding:
    """What is wrong with a file, and how grave it is."""

    verdict: Verdict
    text: str


_NOTHING = Finding("changes", "QuPath gets no object from it")


def check_geojson(path: Path) -> list[str]:
    """Tell why QuPath would not load a file as it is meant, or why it is not as we write it.

    Parameters
    ----------
    path
        A .geojson or .json file, either with .gz after it, or a .zip of them.

    Returns
    -------
    list of str
        At most 100 problems, each with the number of its feature; empty if all is well, which a
        collection of nothing is, too.
    """
    return [one.text for one in judge_geojson(path) if one != _NOTHING]


@collection_paused()
def judge_geojson(path: Path) -> list[Finding]:
    """Tell what QuPath makes of a file.

    Parameters
    ----------
    path
        As for `check_geojson`.

    Returns
    -------
    list of Finding
        At most 100 of each verdict; empty if all is well.
    """
    found: dict[str, Verdict] = {}
    counts: Counter[Verdict] = Counter()
    for one in _findings(path):
        # The same words from QuPath's rules and from ours count once, and as the graver.
        if one.text in found and (found[one.text] == one.verdict or one.verdict == "ours"):
            continue
        if counts[one.verdict] < _MAX_PROBLEMS:
            counts[one.verdict] += 1
            found[one.text] = one.verdict
    return list(islice((Finding(verdict, text) for text, verdict in found.items()), _MAX_PROBLEMS))


def gravest(findings: list[Finding]) -> Verdict | None:
    """Return the verdict on a file by what was found."""
    return next((one for one in VERDICTS if any(f.verdict == one for f in findings)), None)


def _findings(path: Path) -> Iterator[Finding]:
    ids: Counter[str] = Counter()
    try:
        if container_by_name(path) == "zip":
            yield from _zip_findings(path, ids)
        else:
            yield from _text_findings(_text(path), ids)
    except WsiError as error:
        yield Finding("refuses", error.message)
    except EOFError as error:
        # What fits into the first buffer is lost without a word.
        verdict: Verdict = "refuses" if _goes_far(path) else "changes"
        yield Finding(verdict, f"not readable: {error}")
    except UNREADABLE as error:
        yield Finding("refuses", f"not readable: {error}")
    for name, times in ids.items():
        if times > 1:
            yield Finding("ours", f"id {name} is used {times} times")


def _text(path: Path) -> bytes:
    try:
        return next(text for _, text in read_texts(path, container_by_name(path)))
    except BadGzipFile:
        # QuPath does not mind what follows the end.
        unpacker = zlib.decompressobj(31)
        text = unpacker.decompress(path.read_bytes(), 2**30)
        if not unpacker.eof:
            raise
        return text


def _goes_far(path: Path) -> bool:
    try:
        start = zlib.decompressobj(31).decompress(path.read_bytes(), _FIRST_BYTES)
    except (OSError, zlib.error):
        return True
    return len(start) in (0, _FIRST_BYTES)


def _zip_findings(path: Path, ids: Counter[str]) -> Iterator[Finding]:
    objects = members = 0
    with zipfile.ZipFile(path) as archive:
        for member in checked_members(archive, path):
            members += 1
            name = member.filename
            if not name.lower().endswith((".geojson", ".json", ".geojson.gz", ".json.gz")):
                yield Finding("ours", f"{name}: a member that is no .geojson is passed over")
                continue
            try:
                raw = read_member(archive, member, path)
            except UNREADABLE as error:
                yield Finding("changes", f"{name}: not readable: {error}; QuPath drops the member")
                continue
            reading, content = read_as_qupath(raw)
            objects += reading.objects if not reading.refused else 0
            for one in _member_findings(reading, content, ids, most=MEMBER_FEATURES):
                yield _of_member(name, one)
    if not members:
        yield Finding("changes", "the zip is empty")
    elif not objects:
        yield _NOTHING


def _of_member(name: str, one: Finding) -> Finding:
    dropped = "; QuPath drops the member" if one.verdict == "refuses" else ""
    verdict: Verdict = "ours" if one.verdict == "ours" else "changes"
    # What macOS adds is named like a member, and nobody misses it.
    return Finding("ours" if "__MACOSX/" in name else verdict, f"{name}: {one.text}{dropped}")


def _text_findings(raw: bytes, ids: Counter[str]) -> Iterator[Finding]:
    reading, content = read_as_qupath(raw)
    yield from _member_findings(reading, content, ids, most=math.inf)
    if not reading.objects and not reading.refused:
        yield _NOTHING


def _member_findings(
    reading: Reading, content: object, ids: Counter[str], *, most: float
) -> Iterator[Finding]:
    if reading.loose:
        yield Finding("ours", reading.loose)
    if content is not None:
        for problem in islice(_collection_problems(content, ids, most=most), _MAX_PROBLEMS):
            yield Finding("ours", problem)
    yield from (Finding("refuses", one) for one in reading.refused)
    yield from (Finding("changes", one) for one in reading.changed)


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
