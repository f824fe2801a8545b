"""Whatever somebody drew, or made up, is read, or left out by name, or refused in one line."""

from __future__ import annotations

import gzip
import json
import time
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsi_sampath.errors import WsiError
from wsi_sampath.slides.regions.annotations import read_annotations
from wsi_sampath.slides.regions.drawn import paint_tissue, read_tissue_areas
from wsi_sampath.slides.regions.geojson import read_drawn


def ring(x, y, width, height):
    return [[x, y], [x + width, y], [x + width, y + height], [x, y + height], [x, y]]


def polygon(*box):
    return {"type": "Polygon", "coordinates": [ring(*box)]}


def feature(geometry, name="Tumor", **properties):
    classification = {"classification": {"name": name, "color": [1, 2, 3]}} if name else {}
    return {"type": "Feature", "geometry": geometry, "properties": {**classification, **properties}}


def write(tmp_path, content, name="a.geojson"):
    (tmp_path / name).write_text(json.dumps(content))
    return tmp_path / name


BIG, SMALL = polygon(0, 0, 100, 100), polygon(10, 10, 10, 10)


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({**feature(SMALL), "id": "PathCellObject"}, "1 cell"),
        ({**feature(SMALL), "id": "PathDetectionObject"}, "1 detection"),
        ({**feature(SMALL), "id": "TMACoreObject"}, "1 TMA core"),
        (feature(SMALL, object_type="cell"), "1 cell"),
        (feature(SMALL, object_type="tma_core"), "1 TMA core"),
        (feature(SMALL, objectType="Detection"), "1 detection"),
        (feature(SMALL, objectType="tile"), "1 tile"),
        (
            feature({**SMALL, "plane": {"c": -1, "z": 2, "t": 0}}),
            "1 object on another plane (z or t)",
        ),
        (feature(SMALL, plane={"z": 0, "t": 1}), "1 object on another plane (z or t)"),
        (feature(None), "1 object without a geometry"),
        (feature({"type": "Polygon", "coordinates": [[]]}), "1 empty area"),
        (feature({"type": "LineString", "coordinates": [[0, 0], [1, 1]]}), "1 line"),
        (
            feature({"type": "Polygon", "coordinates": [[[0, 0], [None, 0], [5, 5], [0, 0]]]}),
            "1 object with NaN, infinite or null coordinates",
        ),
        (
            feature(polygon(0, 0, float("inf"), 5)),
            "1 object with NaN, infinite or null coordinates",
        ),
        (feature(polygon(0, 0, 1e300, 5)), "1 object with coordinates beyond any slide"),
        (feature({"type": "Polygon", "coordinates": [[[1], [2], [3]]]}), "broken coordinates"),
        (feature({"type": "Polygon", "coordinates": 7}), "1 object with broken coordinates"),
        (feature({"type": "Curve", "coordinates": []}), "1 object of an unknown geometry"),
        (5, "1 entry that is not a feature"),
    ],
)
def test_what_is_no_area_is_left_out_by_name(tmp_path, other, told):
    path = write(tmp_path, [feature(BIG), other])
    found = read_annotations(path)
    assert [one.area.area for one in found.areas] == [10_000]
    assert len(found.notes()) == 1
    assert told in found.notes()[0]
    areas, warnings = read_tissue_areas(path)
    assert len(areas) == 1
    assert told in warnings[0]


def test_areas_are_found_wherever_they_are(tmp_path):
    line = {"type": "LineString", "coordinates": [[0, 0], [9, 9]]}
    collection = {"type": "GeometryCollection", "geometries": [BIG, line]}
    parent = feature(BIG, "A", childObjects=[feature(SMALL, "B")])
    old = feature(BIG, None)
    old["properties"]["classification"] = {
        "name": "Positive",
        "colorRGB": -3670016,
        "parentClass": {"name": "Tumor", "colorRGB": 1},
    }
    nested = {"type": "FeatureCollection", "features": [feature(collection, "GC"), parent, old]}
    found = read_annotations(write(tmp_path, [nested, {"root": feature(SMALL, "R")}]))
    assert [one.name for one in found.areas] == ["GC", "A", "B", "Tumor: Positive", "R"]
    assert found.areas[3].color == "#c80000"
    assert found.notes() == ["1 line left out"]


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "cp1252"]
)
def test_letters_are_kept_in_any_encoding(tmp_path, encoding):
    text = json.dumps(feature(BIG, "Région"), ensure_ascii=False)
    (tmp_path / "a.geojson").write_bytes(text.encode(encoding))
    found = read_annotations(tmp_path / "a.geojson")
    assert found.areas[0].name == "Région"
    assert ["Windows-1252" in one for one in found.notes()] == [True] * (encoding == "cp1252")


def test_all_members_of_a_zip_are_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.geojson.zip", "w") as archive:
        archive.writestr("one.geojson", json.dumps(feature(BIG, "A")))
        archive.writestr("in/two.json.gz", gzip.compress(json.dumps(feature(BIG, "B")).encode()))
        archive.writestr("__MACOSX/._one.geojson", b"\0\5")
        archive.writestr("readme.txt", "hello")
    found = read_annotations(tmp_path / "a.geojson.zip")
    assert [one.name for one in found.areas] == ["A", "B"]


@pytest.mark.parametrize("color", [[float("inf"), 1, 2], [1e400, 0, 0], "red", [1], {"a": 1}, 7])
def test_an_odd_color_is_none(tmp_path, color):
    one = feature(BIG)
    one["properties"]["classification"]["color"] = color
    assert read_annotations(write(tmp_path, one)).areas[0].color is None


@pytest.mark.parametrize(
    ("measurements", "quality"),
    [
        ({"quality": 0.5, "mpp": 2}, 0.5),
        ([{"name": "mpp", "value": 1}, {"name": "quality", "value": 1}], 1.0),
        ({"quality": 10**400}, None),
        ({"quality": float("nan")}, None),
        ({"quality": True}, None),
        ({"quality": "0.5"}, None),
        ([7, {"name": "quality"}], None),
        ("quality", None),
    ],
)
def test_what_our_masks_say_of_themselves_is_read(tmp_path, measurements, quality):
    said = {"model": "nuclei-mini", "weights": 7, "note": None}
    one = feature(BIG, measurements=measurements, metadata=said)
    (found,) = read_drawn(write(tmp_path, one)).objects
    assert found.quality == quality
    assert found.metadata == {"model": "nuclei-mini"}


def painted(tmp_path, *features):
    areas, _ = read_tissue_areas(write(tmp_path, list(features)))
    return paint_tissue(areas, slide_size=(100, 100), mask_size=(100, 100))


def test_ignored_areas_are_cut_out_of_tissue(tmp_path):
    mask = painted(tmp_path, feature(polygon(10, 10, 50, 50), None), feature(SMALL, "Ignore*"))
    assert mask.sum() == 2400
    # One that is larger than the tissue it reaches into is cut out as well.
    over = feature(polygon(0, 0, 100, 20), "ignore*")
    assert painted(tmp_path, over, feature(polygon(10, 10, 30, 30))).sum() == 600
    # A region is not a class, but tissue; a small area within an ignored one was drawn on purpose.
    assert painted(tmp_path, feature(SMALL, "Region*")).sum() == 100
    assert painted(tmp_path, feature(BIG, "Ignore*"), feature(SMALL)).sum() == 100
    with pytest.raises(WsiError, match="no polygon to analyse, but 1 of Ignore"):
        painted(tmp_path, feature(BIG, "Ignore*"))


def test_one_area_of_many_parts_is_painted_as_many_areas(tmp_path):
    boxes = [ring(3 * x, 3 * y, 2, 2) for x in range(60) for y in range(60)]
    parts = {"type": "MultiPolygon", "coordinates": [[one] for one in boxes]}
    alone = [feature({"type": "Polygon", "coordinates": [one]}) for one in boxes]
    np.testing.assert_array_equal(painted(tmp_path, feature(parts)), painted(tmp_path, *alone))


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000 + "]" * 100_000,
        '{"type":"Feature","properties":{"childObjects":[' * 20_000,
        '{"type":"Feature","geometry":{"geometries":[' * 20_000 + "]}}" * 20_000,
        "5",
        '"text"',
        "",
    ],
)
def test_what_is_hostile_is_one_line(tmp_path, text):
    (tmp_path / "a.geojson").write_text(text)
    for read in (read_annotations, read_tissue_areas):
        with pytest.raises(WsiError, match="bad-input: .*cannot be read as GeoJSON") as caught:
            read(tmp_path / "a.geojson")
        assert "\n" not in caught.value.line()


def test_a_bomb_is_refused_at_once(tmp_path):
    with gzip.open(tmp_path / "a.geojson.gz", "wb", compresslevel=1) as file:
        for _ in range(12):
            file.write(b" " * 2**24)
    with zipfile.ZipFile(tmp_path / "a.geojson.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.geojson", b" " * (12 * 2**24))
    for name in ("a.geojson.gz", "a.geojson.zip"):
        started = time.monotonic()
        with pytest.raises(WsiError, match="unpacks to more than 100 times its size"):
            read_annotations(tmp_path / name)
        assert time.monotonic() - started < 10


keys = st.sampled_from(
    ["type", "features", "geometry", "geometries", "coordinates", "properties", "id", "plane", "z"]
    + ["classification", "name", "names", "color", "colorRGB", "childObjects", "objectType", "root"]
)
words = st.sampled_from(["Feature", "FeatureCollection", "Polygon", "MultiPolygon", "annotation"])
plain = st.none() | st.booleans() | st.integers() | st.floats() | words | st.text(max_size=3)
anything = st.recursive(
    plain, lambda one: st.lists(one, max_size=4) | st.dictionaries(keys, one, max_size=4)
)


@settings(max_examples=150, deadline=None)
@given(anything)
def test_any_json_is_read_or_refused(tmp_path_factory, content):
    path = write(tmp_path_factory.mktemp("any"), content)
    assert {_reason(read, path) for read in (read_annotations, read_tissue_areas)} <= {
        None,
        "bad-input",
    }


def _reason(read, path):
    try:
        read(path)
    except WsiError as error:
        return error.reason
    return None
