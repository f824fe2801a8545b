"""Annotations as QuPath exports them, read and painted to the pixel."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from wsi_sampath.errors import WsiError
from wsi_sampath.slides.grid import Box
from wsi_sampath.slides.regions import annotations
from wsi_sampath.slides.regions.annotations import (
    Annotation,
    LabelPainter,
    labelled_boxes,
    read_annotations,
    within,
)
from wsi_sampath.slides.regions.rasterise import Placement, edges, fill

PLAIN = Placement()


def feature(shape, name=None, **classification):
    properties = {"objectType": "annotation"}
    if name or classification:
        properties["classification"] = {"name": name, **classification}
    return {
        "type": "Feature",
        "geometry": json.loads(shapely.to_geojson(shape)),
        "properties": properties,
    }


def write(path, features):
    text = json.dumps({"type": "FeatureCollection", "features": features})
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


points = st.tuples(st.floats(-10, 40), st.floats(-10, 40))
blobs = st.lists(st.tuples(points, st.floats(1, 12)), min_size=1, max_size=4)


@settings(max_examples=60)
@given(blobs, blobs, st.integers(-8, 20), st.integers(-8, 20))
def test_a_pixel_is_inside_if_its_centre_is(solid, holes, x, y):
    discs = [
        shapely.union_all([shapely.Point(p).buffer(r) for p, r in one]) for one in (solid, holes)
    ]
    shape = discs[0].difference(discs[1])
    box = Box(x, y, 17, 23)
    place, inside = fill(edges(shapely.get_parts(shape))[0], box)
    found = np.zeros((23, 17), bool)
    found[place] = inside
    rows, columns = np.mgrid[y : y + 23, x : x + 17] + 0.5
    near = shapely.distance(shape.boundary, shapely.points(columns, rows)) < 1e-9
    assert ((found == shapely.contains_xy(shape, columns, rows)) | near).all()


def test_neighbours_share_no_pixel_and_leave_none():
    left, right = shapely.box(0, 0, 4.5, 8), shapely.box(4.5, 0, 8, 8)
    count = np.zeros((8, 8), int)
    for shape in (left, right):
        place, inside = fill(edges(shapely.get_parts(shape))[0], Box(0, 0, 8, 8))
        count[place] += inside
    assert (count == 1).all()


def test_what_qupath_writes(tmp_path):
    square, hole = shapely.box(0, 0, 10, 10), shapely.box(2, 2, 4, 4)
    bow_tie = shapely.Polygon([(0, 0), (4, 4), (4, 0), (0, 4)])
    cell = feature(square, "Tumor")
    cell["properties"]["objectType"] = "cell"
    path = write(
        tmp_path / "a.geojson.gz",
        [
            feature(square.difference(hole), "Tumor", color=[200, 0, 10]),
            feature(shapely.MultiPolygon([square, shapely.box(20, 20, 30, 30)]), "Stroma"),
            feature(bow_tie, None, names=["Immune", "CD8"], colorRGB=-16711936),
            feature(square, "Ignore*"),
            feature(square),
            feature(shapely.Point(1, 1), "Tumor"),
            cell,
            {"type": "Feature", "geometry": None},
        ],
    )
    found = read_annotations(path)
    assert [one.name for one in found.areas] == ["Tumor", "Stroma", "Immune: CD8", "Ignore*"]
    assert found.colors() == {"Tumor": "#c8000a", "Stroma": None, "Immune: CD8": "#00ff00"}
    assert [one.area.area for one in found.areas] == [96, 200, 8, 100]
    assert found.notes() == [
        "1 cell, 1 point, 1 area without a class, 1 object without a geometry left out"
    ]
    assert found.areas[3].is_ignored


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("nonsense", "cannot be read as GeoJSON"),
        ('{"type": "Feature"}', "holds 1 object without a geometry: draw areas"),
        ('{"type": "FeatureCollection", "features": []}', "holds nothing"),
        (
            json.dumps([feature(shapely.box(0, 0, 1, 1)), feature(shapely.Point(0, 0), "a")]),
            "holds 1 point, 1 area without a class: draw",
        ),
    ],
)
def test_files_that_cannot_be_used(tmp_path, content, expected):
    path = tmp_path / "a.geojson"
    path.write_text(content)
    with pytest.raises(WsiError, match=expected) as caught:
        read_annotations(path)
    assert caught.value.subject == str(path)
    with pytest.raises(WsiError, match="there is no such file"):
        read_annotations(tmp_path / "none.geojson")


def area(name, *bounds):
    return Annotation(name, None, shapely.box(*bounds))


def test_smaller_areas_show_over_larger_ones():
    areas = [
        area("small", 4, 4, 6, 6),
        area("large", 0, 0, 10, 10),
        area("Ignore*", 8, 8, 10, 10),
        area("first", 0, 0, 2, 2),
        area("second", 1, 0, 3, 2),
    ]
    labels = {"large": 1, "small": 2, "first": 3, "second": 4}
    plane = LabelPainter(areas, labels, PLAIN).paint(Box(0, 0, 12, 12))
    assert plane[5, 5] == 2
    assert plane[9, 9] == 0
    assert plane[0, :5].tolist() == [3, 4, 4, 1, 1]
    assert plane[7, 7] == 1
    assert not plane[10:].any()
    assert not plane[:, 10:].any()


def test_zoom_and_the_bounds_of_a_slide():
    placement = Placement(zoom_x=4, zoom_y=2, offset_x=40, offset_y=20)
    painter = LabelPainter([area("a", 0, 0, 16, 8)], {"a": 7}, placement)
    plane = painter.paint(Box(0, 0, 20, 20))
    expected = np.zeros((20, 20), np.uint8)
    expected[10:14, 10:14] = 7
    assert np.array_equal(plane, expected)
    assert painter.bounds() == Box(10, 10, 4, 4)


def test_a_pixel_is_the_same_in_any_box():
    rng = np.random.default_rng(0)
    areas = [
        Annotation(
            str(i % 4), None, shapely.Point(*rng.uniform(0, 90, 2)).buffer(rng.uniform(2, 25))
        )
        for i in range(30)
    ]
    painter = LabelPainter(areas, {str(i): i for i in range(4)}, Placement(1.3, 0.7, 3, 2))
    whole = painter.paint(Box(-5, -5, 90, 150))
    for _ in range(20):
        x, y = rng.integers(-5, 60), rng.integers(-5, 100)
        w, h = rng.integers(1, 25, 2)
        part = painter.paint(Box(int(x), int(y), int(w), int(h)))
        assert np.array_equal(part, whole[y + 5 : y + 5 + h, x + 5 : x + 5 + w])


def test_many_shapes_at_once_are_painted_as_each_by_itself(monkeypatch):
    rng = np.random.default_rng(3)
    corners = rng.uniform(-9, 60, (60, 1, 2)) + rng.normal(0, 9, (60, 6, 2))
    shapes = [shapely.make_valid(shapely.Polygon(one)) for one in corners]
    shapes += [shapely.box(10, 10, 50, 50).difference(shapely.box(20, 20, 30.5, 30.5))]
    areas = [Annotation(f"c{n % 5}", None, one.buffer(0)) for n, one in enumerate(shapes)]
    labels, box = {f"c{n}": n for n in range(5)}, Box(3, 5, 45, 37)

    def painted():
        return LabelPainter(areas, labels, Placement(0.9, 1.1, 0.3, 0.2)).paint(box)

    together = painted()
    monkeypatch.setattr(annotations, "_LARGE", 0)
    assert np.array_equal(together, painted())
    assert len(np.unique(together)) == 5


def test_tiles_lie_side_by_side_over_what_is_labelled():
    areas = [area("a", 100, 50, 300, 150), area("b", 390, 50, 400, 60), area("*", 0, 0, 999, 999)]
    painter = LabelPainter(areas, {"a": 1, "b": 2}, PLAIN)
    boxes = list(labelled_boxes(painter, (1000, 1000), 100, 0.0))
    assert [(one.x, one.y) for one in boxes] == [(100, 50), (200, 50), (300, 50)]
    assert [one.x for one in labelled_boxes(painter, (1000, 1000), 100, 0.5)] == [100, 200]
    # Beyond the slide nothing is labelled.
    assert [one.x for one in labelled_boxes(painter, (200, 1000), 100, 0.0)] == [100]
    assert list(labelled_boxes(LabelPainter(areas, {}, PLAIN), (9, 9), 5, 0.0)) == []


def test_tiles_are_centred_on_what_is_labelled():
    painter = LabelPainter([area("a", 100, 50, 130, 250)], {"a": 1}, PLAIN)
    boxes = list(labelled_boxes(painter, (1000, 1000), 128, 0.0))
    assert boxes == [Box(51, 22, 128, 128), Box(51, 150, 128, 128)]
    boxes = list(labelled_boxes(painter, (150, 1000), 128, 0.0))
    assert {one.x for one in boxes} == {22}
    boxes = list(labelled_boxes(painter, (120, 1000), 128, 0.0))
    assert {one.x for one in boxes} == {51}


def test_an_area_far_beyond_the_slide_costs_nothing():
    far = area("a", -1e12, 20, 1e12, 40)
    boxes = list(labelled_boxes(LabelPainter([far], {"a": 1}, PLAIN), (300, 200), 100, 0.0))
    assert len(boxes) in (3, 4)
    assert all(-100 < one.x < 300 for one in boxes)


def test_what_is_on_the_plane():
    on = within(Box(-1, 2, 4, 3), (2, 4))
    assert on.tolist() == [[False, True, True, False]] * 2 + [[False] * 4]
