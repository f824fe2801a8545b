"""Each rule of QuPath refuses the file that breaks it, and only that."""

import copy
import gzip
import json

import pytest

from wsi_sampath.outputs.qupath.rules import check_geojson

FEATURE = {
    "type": "Feature",
    "id": "9c0282c9-c443-512b-9dcb-a012686d7f2d",
    "geometry": {"type": "Polygon", "coordinates": [[[0, 0], [8, 0], [8.25, 8], [0, 8], [0, 0]]]},
    "properties": {
        "objectType": "annotation",
        "classification": {"name": "Tumor", "color": [200, 0, 0]},
        "isLocked": True,
        "name": "one",
        "measurements": {"Area µm^2": 123.4, "Count": 3},
    },
}
HOLE = [[2, 2], [2, 4], [4, 4], [4, 2], [2, 2]]
SQUARE = [[0, 0], [8, 0], [8, 8], [0, 8], [0, 0]]


def check(tmp_path, *features, name="a.geojson"):
    text = json.dumps({"type": "FeatureCollection", "features": features})
    data = text.encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return check_geojson(tmp_path / name)


def changed(where, value):
    """Return the good feature with one member replaced, or removed if the value is `...`."""
    feature = copy.deepcopy(FEATURE)
    *path, last = where.split("/")
    target = feature
    for key in path:
        target = target[key]
    if value is ...:
        del target[last]
    else:
        target[last] = value
    return feature


@pytest.mark.parametrize("name", ["a.geojson", "a.geojson.gz"])
def test_a_good_file_has_no_problem(tmp_path, name):
    assert check(tmp_path, FEATURE, name=name) == []


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("properties/classification", ...),
        ("properties/classification/color", [200, 0, 0, 255]),
        ("properties/measurements", ...),
        ("properties/objectType", "detection"),
        ("geometry/plane", {"c": -1, "z": 0, "t": 0}),
        ("geometry/coordinates", [SQUARE[::-1]]),
        ("geometry/coordinates", [SQUARE, HOLE]),
        ("geometry", {"type": "MultiPolygon", "coordinates": [[HOLE]]}),
    ],
)
def test_what_qupath_takes_is_no_problem(tmp_path, where, value):
    assert check(tmp_path, changed(where, value)) == []


@pytest.mark.parametrize(
    ("where", "value", "problem"),
    [
        ("type", "Thing", "not a Feature"),
        ("id", ..., "id is not a UUID"),
        ("id", 7, "id is not a UUID"),
        ("id", "seven", "id is not a UUID"),
        ("id", None, "id is null"),
        ("properties", ..., "properties is not an object"),
        ("properties", None, "properties is null"),
        ("properties/name", None, "properties.name is null"),
        ("properties/name", 7, "name is not a text"),
        ("properties/isLocked", None, "properties.isLocked is null"),
        ("properties/isLocked", "yes", "isLocked is not true or false"),
        ("properties/objectType", ..., "objectType is not one of"),
        ("properties/objectType", "blob", "objectType is not one of"),
        ("properties/classification", "Tumor", "classification is not an object"),
        ("properties/classification", None, "properties.classification is null"),
        ("properties/classification/name", ..., "classification has no name"),
        ("properties/classification/name", "", "classification has no name"),
        ("properties/classification/color", ..., "classification has no color"),
        ("properties/classification/color", [200, 0], "classification has no color"),
        ("properties/classification/color", [200, 0, 256], "classification has no color"),
        ("properties/classification/color", [200, 0, 0.5], "classification has no color"),
        ("properties/classification/color", "#c80000", "classification has no color"),
        ("properties/measurements", [], "measurements is not an object"),
        ("properties/measurements/Count", "NaN", "measurement 'Count' is not a finite number"),
        ("properties/measurements/Count", True, "measurement 'Count' is not a finite number"),
        ("properties/measurements/Count", None, "properties.measurements.Count is null"),
        ("geometry", ..., "geometry is not an object"),
        ("geometry", None, "geometry is null"),
        ("geometry", {"type": "GeometryCollection", "geometries": []}, "GeometryCollection"),
        ("geometry/plane", {"c": 0, "level": 1}, "plane has other members"),
        ("geometry/coordinates", ..., "coordinates are not rings"),
        ("geometry/coordinates", [], "coordinates are not rings"),
        ("geometry/coordinates", [[]], "coordinates are not rings"),
        ("geometry/coordinates", [[[0, 0, 0], *SQUARE[1:4], [0, 0, 0]]], "are not rings"),
        ("geometry/coordinates", [[[0, "0"], *SQUARE[1:]]], "coordinates are not rings"),
        ("geometry/coordinates", [SQUARE[:-1]], "a ring is not closed"),
        ("geometry/coordinates", [SQUARE, HOLE[:-1]], "a ring is not closed"),
        ("geometry/coordinates", [[[0, 0], [1, 1], [0, 0]]], "fewer than four"),
        ("geometry/coordinates", [[[0.125, 0], *SQUARE[1:4], [0.125, 0]]], "2 decimals"),
        ("geometry/coordinates", [[[0, 0], [8, 8], [8, 0], [0, 8], [0, 0]]], "is not valid"),
        (
            "geometry/coordinates",
            [[[0, 0], [1, 0], [1, 1], [2, 1], [2, 2], [1, 2], [1, 1], [0, 1], [0, 0]]],
            "is not valid",
        ),
        ("geometry/coordinates", [HOLE, SQUARE], "is not valid"),
        ("geometry/coordinates", [[[0, 0], [1, 0], [2, 0], [0, 0]]], "is not valid"),
        ("geometry/coordinates", [[[0, 0], [0.01, 0], [0, 0.01], [0, 0]]], "is empty"),
    ],
)
def test_each_rule_is_kept(tmp_path, where, value, problem):
    problems = check(tmp_path, FEATURE, changed(where, value))
    assert any(one.startswith("feature 1: ") and problem in one for one in problems), problems
    assert not any(one.startswith("feature 0: ") for one in problems)


def test_overlapping_parts_are_not_valid(tmp_path):
    double = {"type": "MultiPolygon", "coordinates": [[SQUARE], [HOLE]]}
    assert "is not valid" in check(tmp_path, changed("geometry", double))[0]


def test_an_id_is_used_once(tmp_path):
    assert check(tmp_path, FEATURE, FEATURE) == [f"id {FEATURE['id']} is used 2 times"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "not readable as JSON"),
        ('{"type":"FeatureCollection","features":[', "not readable as JSON"),
        ('{"type":"FeatureCollection","features":[{"a":NaN}]}', "NaN is not a JSON number"),
        ('{"type":"FeatureCollection","features":[{"a":-Infinity}]}', "-Infinity"),
        ("[]", "not a FeatureCollection"),
        ('{"type":"Feature"}', "not a FeatureCollection"),
        ('{"type":"FeatureCollection"}', "features is not a list"),
        ('{"type":"FeatureCollection","features":[null]}', "feature 0: not a Feature"),
    ],
)
def test_a_broken_file_is_told(tmp_path, text, problem):
    (tmp_path / "a.geojson").write_text(text)
    assert problem in check_geojson(tmp_path / "a.geojson")[0]


def test_a_missing_or_cut_file_is_told(tmp_path):
    (tmp_path / "a.geojson.gz").write_bytes(gzip.compress(b'{"type":1}')[:-9])
    assert "not readable" in check_geojson(tmp_path / "a.geojson.gz")[0]
    assert "not readable" in check_geojson(tmp_path / "none.geojson")[0]


def test_problems_are_not_without_end(tmp_path):
    assert len(check(tmp_path, *[{} for _ in range(500)])) == 100
