"""What a QuPath user drew becomes prompts; what cannot be used is named, and the rest goes on."""

from __future__ import annotations

import gzip
import json
import zipfile
from itertools import pairwise

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from wsi_sampath.errors import WsiError
from wsi_sampath.prompt_files.pieces import MOST_LINE_POINTS
from wsi_sampath.prompt_files.reading import read_prompts

SIZE = (1000, 800)
UUIDS = [f"8d54cf0a-dbb6-42f3-9264-{n:012d}" for n in range(50)]


def feature(kind, coordinates, name=None, klass=None, id=None, **properties):
    properties = {"objectType": "annotation", **properties}
    if name is not None:
        properties["name"] = name
    if klass is not None:
        properties["classification"] = {"name": klass, "color": [1, 2, 255]}
    found = {"type": "Feature", "geometry": {"type": kind, "coordinates": coordinates}}
    return found | ({"id": id} if id else {}) | {"properties": properties}


def point(x, y, name=None, klass=None, **more):
    return feature("Point", [x, y], name, klass, **more)


def box(x0, y0, x1, y1, name=None, klass=None, **more):
    ring = [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]
    return feature("Polygon", [ring], name, klass, **more)


def triangle(x, y, side, name=None, klass=None, **more):
    ring = [[x, y], [x + side, y], [x, y + side], [x, y]]
    return feature("Polygon", [ring], name, klass, **more)


def ignored(x, y, name=None):
    return point(x, y, name, "Ignore*")


def read(tmp_path, features, **options):
    path = tmp_path / "prompts.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    options = {"slide_size": SIZE, "reach_px": 100.0, **options}
    return read_prompts(path, **options)


def of(prompt):
    """What a prompt asks with: points on and beside the object, its box, whether it has a shape."""
    labels = prompt.labels.astype(bool)
    sides = (prompt.points[labels], prompt.points[~labels])
    on, beside = ([(x, y) for x, y in side.tolist()] for side in sides)
    return on, beside, prompt.box, prompt.outline is not None


def test_each_kind_of_object_asks_in_its_way(tmp_path):
    found = read(
        tmp_path,
        [
            point(5, 6),
            feature("MultiPoint", [[10, 10], [20, 20]]),
            feature("LineString", [[30, 30], [40, 30], [40, 30], [40, 50]]),
            box(100, 100, 150, 120),
            triangle(200, 200, 50),
            feature("Polygon", [[[300, 310], [310, 300], [320, 310], [310, 320], [300, 310]]]),
            feature("MultiPolygon", [box(400, 400, 410, 410)["geometry"]["coordinates"]]),
            {"type": "Point", "coordinates": [7.5, 8.25]},
        ],
    )
    assert found.refused == ()
    assert list(map(of, found.prompts)) == [
        ([(5, 6)], [], None, False),
        ([(10, 10), (20, 20)], [], None, False),
        ([(30, 30), (40, 30), (40, 50)], [], None, False),
        ([], [], (100, 100, 150, 120), False),
        ([], [], (200, 200, 250, 250), True),
        ([], [], (300, 300, 320, 320), True),
        ([], [], (400, 400, 410, 410), False),
        ([(7.5, 8.25)], [], None, False),
    ]
    assert found.prompts[4].outline.area == 1250
    assert [one.where for one in found.prompts][:2] == ["object 1", "object 2"]


def test_points_of_one_annotation_may_each_ask_for_an_object(tmp_path):
    several = feature("MultiPoint", [[10, 10], [20, 20], [30, 30]], "cells", "Tumor", id=UUIDS[0])
    line = feature("LineString", [[40, 40], [50, 50]])
    found = read(tmp_path, [several, line], each_point=True).prompts
    assert [of(one)[0] for one in found] == [
        [(10, 10)],
        [(20, 20)],
        [(30, 30)],
        [(40, 40), (50, 50)],
    ]
    assert len({one.id for one in found}) == 4
    assert found[1].where == "object 1, point 2"
    assert (found[1].name, found[1].class_name) == ("cells", "Tumor")


def test_hundreds_of_points_do_not_ask_for_one_object(tmp_path):
    many = feature("MultiPoint", [[n % 30, n // 30] for n in range(200)])
    found = read(tmp_path, [many, point(5, 5)])
    assert [one.where for one in found.prompts] == ["object 2"]
    assert [one.reason for one in found.refused] == [
        "it has 200 points for one object; --each-point asks for an object with each"
    ]
    assert len(read(tmp_path, [many], each_point=True).prompts) == 200


def test_of_a_long_line_points_along_it_ask(tmp_path):
    corners = [[x, 100 + x % 2] for x in range(1, 900)]
    (found,) = read(tmp_path, [feature("LineString", corners)]).prompts
    assert len(found.points) == MOST_LINE_POINTS
    assert found.points[[0, -1]].tolist() == [corners[0], corners[-1]]
    steps = [np.hypot(*(b - a)) for a, b in pairwise(found.points)]
    assert max(steps) - min(steps) < 2


@pytest.mark.parametrize(
    ("background", "beside"),
    [
        (ignored(60, 60, "gland"), [(60, 60)]),
        (feature("MultiPoint", [[1, 1], [2, 2]], "gland", "Ignore*"), [(1, 1), (2, 2)]),
        (feature("LineString", [[1, 1], [2, 2]], "gland", "Ignore*"), [(1, 1), (2, 2)]),
        (point(60, 60, "neg gland"), [(60, 60)]),
        (point(60, 60, "Negative: gland", "Tumor"), [(60, 60)]),
        (point(60, 60, "neg 3"), [(60, 60)]),
        (point(60, 60, "neg"), [(60, 60)]),
        (ignored(60, 60), [(60, 60)]),
        (point(60, 60, klass="Region*"), [(60, 60)]),
        (point(60, 60, klass="Other: Ignore*"), [(60, 60)]),
    ],
)
def test_background_points(tmp_path, background, beside):
    found = read(tmp_path, [background, box(10, 10, 50, 50, "gland", "Tumor")])
    assert list(map(of, found.prompts)) == [([], beside, (10, 10, 50, 50), False)]
    assert found.refused == ()


def test_objects_of_one_name_ask_together(tmp_path):
    found = read(
        tmp_path,
        [
            point(1, 1, "a", "Tumor", id=UUIDS[0]),
            point(5, 5),
            ignored(9, 9, "a"),
            point(2, 2, "a"),
            point(3, 3, "a", "Tumor", id=UUIDS[1]),
            point(4, 4, "a", "Stroma"),
            point(700, 700, "b"),
            triangle(600, 600, 50, "b", "Gland", id=UUIDS[2]),
        ],
    ).prompts
    assert list(map(of, found)) == [
        ([(1, 1), (2, 2), (3, 3)], [], None, False),
        ([(5, 5)], [], None, False),
        ([(4, 4)], [(9, 9)], None, False),
        ([(700, 700)], [], (600, 600, 650, 650), True),
    ]
    assert [one.class_name for one in found] == ["Tumor", "", "Stroma", "Gland"]
    assert [found[0].id, found[3].id] == [UUIDS[0], UUIDS[2]]


def test_areas_of_one_name_stay_apart_and_share_its_points(tmp_path):
    found = read(
        tmp_path,
        [
            box(0, 0, 10, 10, "n"),
            box(100, 0, 110, 10, "n"),
            point(103, 5, "n"),
            ignored(15, 5, "n"),
            box(200, 0, 210, 10, "n"),
        ],
    ).prompts
    assert list(map(of, found)) == [
        ([], [(15, 5)], (0, 0, 10, 10), False),
        ([(103, 5)], [], (100, 0, 110, 10), False),
        ([], [], (200, 0, 210, 10), False),
    ]


def test_points_drawn_within_an_area_are_its_points(tmp_path):
    children = [
        point(20, 20),
        ignored(30, 30),
        point(40, 40, "other"),
        box(11, 11, 14, 14),
    ]
    parents = [
        box(10, 10, 50, 50, childObjects=children),
        box(110, 110, 150, 150, klass="Region*", childObjects=[point(120, 120)]),
    ]
    found = read(tmp_path, parents, reach_px=0.0)
    assert list(map(of, found.prompts)) == [
        ([(20, 20)], [(30, 30)], (10, 10, 50, 50), False),
        ([(40, 40)], [], None, False),
        ([], [], (11, 11, 14, 14), False),
        ([(120, 120)], [], None, False),
    ]
    assert [one.where for one in found.refused] == ["object 6"]


def test_background_of_no_object_counts_for_what_is_near(tmp_path):
    many = [ignored(300 + n, 300) for n in range(30)]
    clicks = [point(100, 100), point(180, 100), point(400, 300), point(900, 700)]
    found = read(tmp_path, [ignored(140, 180), *clicks, *many], reach_px=80.0).prompts
    assert [of(one)[1] for one in found[:2]] == [[(140, 180)], [(140, 180)]]
    assert of(found[2])[1] == [(329 - n, 300) for n in range(10)]
    assert of(found[3])[1] == []
    (crowded,) = read(tmp_path, [point(300, 300), *many]).prompts
    assert of(crowded)[1] == [(300 + n, 300) for n in range(16)]


NAN = float("nan")


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (point(NAN, 5), "it has NaN, infinite or null coordinates"),
        (point(None, 5), "it has NaN, infinite or null coordinates"),
        (feature("Point", ["x"]), "it has NaN, infinite or null coordinates"),
        (feature("MultiPoint", []), "it has no points"),
        (feature("LineString", [[1, 1], [NAN, 1]]), "it has NaN, infinite or null coordinates"),
        (point(1000, 5), "it lies outside the slide (1000 x 800 px)"),
        (point(5, -0.5), "it lies outside the slide (1000 x 800 px)"),
        (
            feature("MultiPoint", [[1, 1], [2000, 1]]),
            "1 of its 2 points lie outside the slide (1000 x 800 px)",
        ),
        (box(-50, 10, 0, 20), "it lies outside the slide (1000 x 800 px)"),
        (box(10, 10, 10, 10), "its area is empty"),
        (box(10, 10, 10, 50), "its area is empty"),
        (box(10, 10, 10.5, 11), "it is smaller than a pixel of the slide"),
        (box(10, NAN, 20, 20), "it has NaN, infinite or null coordinates"),
        (box(10, 10, 1e15, 20), "it has coordinates beyond any slide"),
        (feature("Polygon", [[[1], [2], [3]]]), "its coordinates are broken"),
        (feature("Polygon", []), "its area is empty"),
        (feature("Spiral", [1, 2]), "its geometry is of an unknown type"),
        ({"type": "Feature", "geometry": None}, "it has no geometry"),
        (5, "it is not a feature"),
        (point(5, 5, plane={"z": 1, "t": 0}), "it lies on another plane (z or t)"),
        (
            box(10, 10, 20, 20, klass="Ignore*"),
            "an area with class Ignore* asks for nothing; mark background by points",
        ),
        (
            box(10, 10, 20, 20, "neg"),
            "an area with a name in 'neg' asks for nothing; mark background by points",
        ),
        (
            ignored(5, 5, "nobody"),
            "only background points have this name; name an object so, or remove the name",
        ),
        (
            point(5, 5, klass=": B"),
            "the class name ': B' is empty, or has an empty part beside a colon",
        ),
    ],
)
def test_what_cannot_be_used_is_named_and_the_rest_goes_on(tmp_path, other, reason):
    found = read(tmp_path, [point(5, 5), other, box(1, 1, 9, 9)])
    assert [of(one)[2] for one in found.prompts] == [None, (1, 1, 9, 9)]
    assert [(one.where, one.reason) for one in found.refused] == [("object 2", reason)]


def test_a_refusal_is_one_line(tmp_path):
    bad = point(5000, 5, "a\n\x1b[31m", id=UUIDS[3])
    (refused,) = read(tmp_path, [point(1, 1), bad]).refused
    assert refused.line() == (
        rf"object 2 ('a\n\x1b[31m', id {UUIDS[3]}): it lies outside the slide (1000 x 800 px)"
    )


def test_areas_are_cut_to_the_slide(tmp_path):
    bow = feature("Polygon", [[[0, 0], [40, 40], [40, 0], [0, 40], [0, 0]]])
    found = read(tmp_path, [box(-10, -10, 20, 2000), triangle(990, 790, 50), bow]).prompts
    assert of(found[0]) == ([], [], (0, 0, 20, 800), False)
    assert of(found[1]) == ([], [], (990, 790, 1000, 800), False)
    assert found[2].outline.is_valid
    assert found[2].outline.area == 800


def test_coordinates_count_from_the_bounds_of_the_slide(tmp_path):
    drawn = [point(10, 10), triangle(20, 20, 30), ignored(15, 15)]
    found = read(tmp_path, drawn, bounds_offset=(100, 50), slide_size=(160, 110))
    assert of(found.prompts[0])[:2] == ([(110, 60)], [(115, 65)])
    assert of(found.prompts[1])[2] == (120, 70, 150, 100)
    assert found.prompts[1].outline.bounds == (120, 70, 150, 100)
    far = read(tmp_path, [*drawn, point(60, 10)], bounds_offset=(100, 50), slide_size=(160, 110))
    assert [one.where for one in far.refused] == ["object 4"]


def test_detections_ask_only_where_nothing_else_does(tmp_path):
    nucleus = box(1, 1, 9, 9)["geometry"]
    cell = {**triangle(0, 0, 30, objectType="cell"), "nucleusGeometry": nucleus}
    detection = triangle(50, 50, 30, objectType="detection")
    found = read(tmp_path, [cell, detection, point(5, 5, objectType="tile")])
    assert [of(one)[2:] for one in found.prompts] == [
        ((1, 1, 9, 9), False),
        ((50, 50, 80, 80), True),
    ]
    assert found.notes == ("prompts.geojson: 1 tile left out of the prompts",)
    found = read(tmp_path, [cell, detection, point(5, 5)])
    assert len(found.prompts) == 1
    assert found.notes == ("prompts.geojson: 1 detection, 1 cell left out of the prompts",)


def legacy(version, id_, kind, coordinates, name, klass):
    """Write an annotation as a version of QuPath did."""
    found = {"type": "Feature", "geometry": {"type": kind, "coordinates": coordinates}}
    color = {"color": [200, 0, 10]} if version >= (0, 4) else {"colorRGB": -3670006}
    properties = {"classification": {"name": klass, **color}, "name": name, "isLocked": True}
    properties["measurements"] = {"a": 1.0} if version >= (0, 4) else [{"name": "a", "value": NAN}]
    if version == (0, 2):
        return {**found, "id": "PathAnnotationObject", "properties": properties}
    key = "object_type" if version == (0, 3) else "objectType"
    if version >= (0, 6):
        properties |= {"color": [255, 255, 0], "metadata": {"k": "v"}}
        found["geometry"] |= {"isEllipse": False, "plane": {"c": -1, "z": 0, "t": 0}}
    return {**found, "id": id_, "properties": {key: "annotation", **properties}}


@pytest.mark.parametrize("version", [(0, 2), (0, 3), (0, 4), (0, 5), (0, 6), (0, 7)])
def test_every_version_of_qupath_is_read(tmp_path, version):
    ring = [[[10, 10], [30, 10], [20, 40], [10, 10]]]
    drawn = [
        legacy(version, UUIDS[0], "Polygon", ring, "gland 1", "Tumor"),
        legacy(version, UUIDS[1], "Point", [20, 20], "gland 1", "Tumor"),
        legacy(version, UUIDS[2], "MultiPoint", [[1, 1], [2, 2]], "gland 1", "Ignore*"),
    ]
    (found,) = read(tmp_path, drawn).prompts
    assert of(found) == ([(20, 20)], [(1, 1), (2, 2)], (10, 10, 30, 40), True)
    assert (found.name, found.class_name, found.class_color) == ("gland 1", "Tumor", "#c8000a")
    assert (found.id == UUIDS[0]) == (version > (0, 2))
    assert found.color == ("#ffff00" if version >= (0, 6) else None)


@pytest.mark.parametrize("name", ["a.geojson", "a.json", "a.geojson.gz", "a.geojson.zip"])
@pytest.mark.parametrize("shape", ["collection", "array", "single"])
def test_every_container_is_read(tmp_path, name, shape):
    one = point(5, 5, "n", "Tumor", id=UUIDS[0])
    content = {"collection": {"type": "FeatureCollection", "features": [one]}, "array": [one]}
    raw = json.dumps(content.get(shape, one)).encode("utf-8-sig")
    if name.endswith(".zip"):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("inside.geojson", raw)
    else:
        (tmp_path / name).write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
    (found,) = read_prompts(tmp_path / name, slide_size=SIZE, reach_px=0.0).prompts
    assert (found.id, found.name, found.class_name) == (UUIDS[0], "n", "Tumor")


def test_ids_are_kept_or_made_of_what_was_drawn(tmp_path):
    drawn = [point(n, n) for n in range(5)] + [point(9, 9, id=UUIDS[7]), point(8, 8, id=17)]
    first, again = read(tmp_path, drawn).prompts, read(tmp_path, drawn[::-1]).prompts
    assert [one.id for one in first] == [one.id for one in reversed(again)]
    assert [one.id for one in first[5:]] == [UUIDS[7], "17"]
    found = read(tmp_path, [point(1, 1, id="x"), point(2, 2, id="x"), point(1, 1), point(1, 1)])
    assert len({one.id for one in found.prompts}) == 4
    assert found.prompts[0].id == "x"
    odd = read(
        tmp_path, [point(1, 1, "\ud800"), point(2, 2, id="\ud800"), point(3, 3, id="\ud800")]
    )
    assert len({one.id for one in odd.prompts}) == 3
    assert found.notes == ("prompts.geojson: 2 ids used before; the masks get new ones",)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("missing.geojson", None, "there is no such file"),
        ("a.geojson", b"", "cannot be read as GeoJSON"),
        ("a.geojson", b"\x89PNG\r\n\x1a\n\0\0", "cannot be read as GeoJSON"),
        ("a.geojson", b'{"type":"FeatureCollection","features":[', "cannot be read as GeoJSON"),
        ("a.geojson", b'{"type":"FeatureCollection","features":[]}', "it is empty"),
        ("a.geojson", json.dumps(ignored(5, 5)).encode(), "there are only background points"),
        (
            "a.geojson",
            json.dumps([point(-5, 5), box(1, 1, 1, 1)]).encode(),
            "object 1: it lies outside the slide (1000 x 800 px) (and 1 more)",
        ),
        (
            "a.geojson",
            json.dumps(box(1, 1, 9, 9, objectType="tile")).encode(),
            "1 tile left out of the prompts",
        ),
        ("a.csv", b"", "has no columns x and y, or x_um and y_um (its columns: none)"),
        ("a.csv", b"x;z\n1;2\n", "has no columns x and y, or x_um and y_um (its columns: x, z)"),
        ("a.csv", b"x_um,y_um\n1,2\n", "is in microns, and the slide has no scale"),
        ("a.csv", b"x,y\nq,2\n", "line 2: 'q' and '2' are not two numbers"),
        ("a.csv", b"x,y\0\n", "it holds NUL bytes: this is not a text file"),
    ],
)
def test_a_file_of_no_use_is_one_error(tmp_path, name, content, told):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(WsiError) as caught:
        read_prompts(tmp_path / name, slide_size=SIZE, reach_px=10.0)
    assert type(caught.value) is WsiError
    assert caught.value.reason == "bad-input"
    assert told in caught.value.line()
    assert "\n" not in caught.value.line()


def test_a_table_of_points(tmp_path):
    rows = (
        "X;Y;Label;Object;Class;Name\n"
        "10,5;20;1;7;Tumor;\n"
        "11;21;;7;;\n"
        "50;60;0;7;;\n"
        "5;5;;;;\n"
        "300;300;pos;;Gland;g\n"
        "310;300;neg;;Gland;g\n"
        "305;305;;;Ignore*;\n"
        "1;1;maybe;;;\n"
        "1;1;0;8;;\n"
        ";;;;;\n"
        "nan;1;;;;\n"
    )
    (tmp_path / "points.csv").write_text(rows)
    found = read_prompts(
        tmp_path / "points.csv", slide_size=SIZE, reach_px=9.0, bounds_offset=(0, 100)
    )
    assert list(map(of, found.prompts)) == [
        ([(10.5, 120), (11, 121)], [(50, 160)], None, False),
        ([(5, 105)], [], None, False),
        ([(300, 400)], [(310, 400), (305, 405)], None, False),
    ]
    assert [(one.name, one.class_name) for one in found.prompts] == [
        ("7", "Tumor"),
        ("", ""),
        ("g", "Gland"),
    ]
    assert [one.line() for one in found.refused] == [
        "line 9: its label 'maybe' is neither 1 nor 0",
        "line 12: 'nan' and '1' are not two numbers",
        "line 10 ('8'): only background points have this name; name an object so, "
        "or remove the name",
    ]


def test_a_table_in_microns_or_as_qupath_exports_it(tmp_path):
    (tmp_path / "a.csv").write_text(f"id,x_um,y_um\n{UUIDS[0]},10,20\n")
    (tmp_path / "b.tsv").write_text(
        "Object ID\tClassification\tCentroid X µm\tCentroid Y µm\nq\tTumor\t5\t5\n",
        encoding="utf-8",
    )
    (tmp_path / "c.tsv").write_text("x\ty\tclass\tname\tcolor\n1\t2\tT\ta\t-65536\n3\t4\tT\ta\t1")
    found = [
        read_prompts(path, slide_size=SIZE, reach_px=0.0, mpp=(0.25, 0.5)).prompts
        for path in sorted(tmp_path.iterdir())
    ]
    assert [[of(one)[0] for one in prompts] for prompts in found] == [
        [[(40, 40)]],
        [[(20, 10)]],
        [[(1, 2), (3, 4)]],
    ]
    assert found[0][0].id == UUIDS[0]
    assert found[1][0].class_name == "Tumor"


coordinates = st.integers(0, 3996).map(lambda n: n / 4)
places = st.tuples(coordinates, coordinates.map(lambda n: n * 0.8))
names = st.sampled_from(["", "a", "b"])
drawings = st.one_of(
    st.builds(lambda p, n: point(*p, n), places, names),
    st.builds(lambda p, n: ignored(*p, n), places, names),
    st.builds(
        lambda p, n: feature("MultiPoint", list(map(list, p)), n),
        st.lists(places, min_size=1, max_size=3),
        names,
    ),
    st.builds(lambda p, s, n: triangle(*p, s, n), places, st.integers(-50, 50), names),
    st.builds(lambda p, s, n: box(*p, p[0] + s, p[1] + s, n), places, st.integers(-50, 50), names),
)


@settings(max_examples=40)
@given(st.lists(drawings, max_size=12), st.integers(0, 300))
def test_whatever_was_drawn_is_a_prompt_or_named(tmp_path_factory, drawn, reach):
    folder = tmp_path_factory.getbasetemp()
    found = read(folder, [point(5, 5, "always"), *drawn], reach_px=float(reach))
    whole = shapely.box(0, 0, *SIZE)
    for prompt in found.prompts:
        assert len(prompt.points) == len(prompt.labels)
        assert prompt.box is not None or (prompt.labels == 1).any()
        assert ((prompt.points >= 0) & (prompt.points < SIZE)).all()
        if prompt.box is not None:
            assert whole.covers(shapely.box(*prompt.box))
            assert shapely.box(*prompt.box).area > 0
        if prompt.outline is not None:
            assert prompt.outline.is_valid
            assert prompt.outline.bounds == prompt.box
    refused = {int(one.where.split()[1]) - 1 for one in found.refused}
    kept = [one for number, one in enumerate(drawn, start=1) if number not in refused]
    on = sum(
        len(np.atleast_2d(one["geometry"]["coordinates"]))
        for one in kept
        if one["geometry"]["type"] != "Polygon" and "classification" not in one["properties"]
    )
    assert sum(int((one.labels == 1).sum()) for one in found.prompts) == on + 1
    areas = sum(one["geometry"]["type"] == "Polygon" for one in kept)
    assert sum(one.box is not None for one in found.prompts) == areas
    assert len({one.id for one in found.prompts}) == len(found.prompts)
