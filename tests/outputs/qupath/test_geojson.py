"""The GeoJSON writer: right places, valid after rounding, the same bytes, never half a file."""

import contextlib
import errno
import gzip
import json
import re
import time
from importlib.resources import files

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import shape

from wsi_sampath.classes import ClassSpec
from wsi_sampath.errors import WsiError
from wsi_sampath.outputs.polygons.tracer import PolygonTracer
from wsi_sampath.outputs.qupath.geojson import GeoJSONWriter, PlaneObject, PlaneToSlide
from wsi_sampath.outputs.qupath.rules import check_geojson

CLASSES = [
    ClassSpec(name="Tumor", color="#c80000"),
    ClassSpec(name='Stroma (µ) "q"', color="#96c896"),
]
TRANSFORM = PlaneToSlide(4, 4, 0, 0, 0.5, 0.25)
SCHEMA = json.loads(
    files("wsi_sampath.outputs.qupath").joinpath("geojson.schema.json").read_text("utf-8")
)


def traced(labels, simplify=0.0):
    labels = np.asarray(labels, np.uint8)
    tracer = PolygonTracer(labels.shape[1], largest_label=2, simplify=simplify)
    regions = tracer.append(labels, np.full_like(labels, 204)) + tracer.finish()
    return [PlaneObject(one.label, one.polygon, (one.mean_score / 255,)) for one in regions]


def polygon(points, label=1, holes=(), **options):
    return PlaneObject(label, shapely.Polygon(points, holes), (0.5,), **options)


def make(path, **options):
    options = {"classes": CLASSES, "transform": TRANSFORM, "namespace": "slide", **options}
    return GeoJSONWriter(path, **{"measurements": ("Mean probability",), **options})


def write(path, polygons, **options):
    with make(path, **options) as writer:
        writer.write(polygons)
    return writer


def read(path):
    data = path.read_bytes()
    return json.loads(gzip.decompress(data) if path.suffix == ".gz" else data)


def conforms(value, schema):
    """Tell whether a value follows a JSON schema made of the few words that ours uses."""
    if "$ref" in schema:
        schema = SCHEMA["$defs"][schema["$ref"].rsplit("/", 1)[1]]
    known = {"type", "required", "properties", "additionalProperties", "items", "const", "enum"}
    known |= {"minItems", "maxItems", "minimum", "maximum", "minLength", "pattern", "description"}
    assert set(schema) <= known | {"$schema", "$defs", "title"}
    kinds = {"object": dict, "array": list, "string": str, "number": (int, float), "integer": int}
    if "type" in schema and not isinstance(value, kinds[schema["type"]]):
        return False
    if value != schema.get("const", value) or value not in schema.get("enum", [value]):
        return False
    if isinstance(value, dict):
        named, rest = schema.get("properties", {}), schema.get("additionalProperties", {})
        return set(schema.get("required", ())) <= set(value) and all(
            conforms(inner, named.get(key, rest)) if named.get(key, rest) else rest is not False
            for key, inner in value.items()
        )
    if isinstance(value, list):
        fits = schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value))
        return fits and all(conforms(inner, schema["items"]) for inner in value)
    if isinstance(value, str):
        return len(value) >= schema.get("minLength", 0) and bool(
            re.search(schema.get("pattern", ""), value)
        )
    return schema.get("minimum", value) <= value <= schema.get("maximum", value)


LABELS = np.array([[1, 1, 1, 0], [1, 2, 1, 0], [1, 1, 1, 2], [0, 2, 2, 2]])


@pytest.mark.parametrize("name", ["a.geojson", "a.json", "a.geojson.gz", "a.json.gz"])
def test_every_suffix_passes_the_rules_and_the_schema(tmp_path, name):
    write(tmp_path / name, traced(LABELS))
    assert check_geojson(tmp_path / name) == []
    assert conforms(read(tmp_path / name), SCHEMA)
    assert [one.name for one in tmp_path.iterdir()] == [name]


def test_schema_refuses_what_is_not_ours():
    feature = {"type": "Feature", "id": "x", "geometry": None, "properties": {}}
    assert conforms({"type": "FeatureCollection", "features": []}, SCHEMA)
    assert not conforms({"type": "FeatureCollection", "features": [feature]}, SCHEMA)
    assert not conforms({"type": "FeatureCollection", "features": [], "bbox": []}, SCHEMA)


def test_nothing_to_write_is_a_valid_empty_collection(tmp_path):
    writer = write(tmp_path / "a.geojson", [])
    assert read(tmp_path / "a.geojson") == {"type": "FeatureCollection", "features": []}
    assert writer.count == 0
    assert check_geojson(tmp_path / "a.geojson") == []


def test_a_feature_says_where_and_what_it_is(tmp_path):
    transform = PlaneToSlide(4, 2, 100.5, -7.25, 0.5, 0.25)
    path = tmp_path / "a.geojson"
    writer = write(path, traced([[0, 2], [0, 2]]), transform=transform, object_type="detection")
    (feature,) = read(path)["features"]
    assert shape(feature["geometry"]).bounds == (104.5, -7.25, 108.5, -3.25)
    assert feature["properties"] == {
        "objectType": "detection",
        "classification": {"name": CLASSES[1].name, "color": [0x96, 0xC8, 0x96]},
        "measurements": {"Area µm^2": 2.0, "Mean probability": 0.8},
    }
    assert writer.areas_um2 == {CLASSES[0].name: 0.0, CLASSES[1].name: 2.0}


def test_whole_numbers_have_no_fraction_and_holes_are_kept(tmp_path):
    write(tmp_path / "a.geojson", traced(LABELS))
    text = (tmp_path / "a.geojson").read_text("utf-8")
    coordinates = re.findall(r'"coordinates":([\[\]\d.,-]+)', text)
    assert len(coordinates) == 3
    assert not any("." in one for one in coordinates)
    rings = sorted(
        len(f["geometry"]["coordinates"]) for f in read(tmp_path / "a.geojson")["features"]
    )
    assert rings == [1, 1, 2]


def test_coordinates_have_at_most_two_decimals(tmp_path):
    transform = PlaneToSlide(4.000123, 3.99987, 1 / 3, 2 / 3, 0.25, 0.25)
    write(tmp_path / "a.geojson", traced(LABELS, simplify=1.0), transform=transform)
    assert check_geojson(tmp_path / "a.geojson") == []


def test_the_same_polygons_give_the_same_bytes(tmp_path, monkeypatch):
    for suffix in (".geojson", ".geojson.gz"):
        first, second = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
        write(first, traced(LABELS))
        monkeypatch.setattr(time, "time", lambda: 1e9)
        write(second, traced(LABELS))
        assert first.read_bytes() == second.read_bytes()


def test_ids_are_unique_and_belong_to_the_namespace(tmp_path):
    def ids(name, namespace):
        write(tmp_path / name, traced(LABELS), namespace=namespace)
        return [feature["id"] for feature in read(tmp_path / name)["features"]]

    first, other = ids("a.geojson", "one"), ids("b.geojson", "two")
    assert len({*first, *other}) == len(first) + len(other)


def test_batches_do_not_matter(tmp_path, monkeypatch):
    write(tmp_path / "a.geojson", traced(LABELS))
    monkeypatch.setattr("wsi_sampath.outputs.qupath.geojson._BATCH", 1)
    write(tmp_path / "b.geojson", iter(traced(LABELS)))
    assert (tmp_path / "a.geojson").read_bytes() == (tmp_path / "b.geojson").read_bytes()


def test_specks_are_left_out_and_leave_no_hole(tmp_path):
    labels = np.ones((12, 12), np.uint8)
    labels[2, 2] = 2
    labels[5:9, 5:9] = 2
    pixel = 16 * 0.5 * 0.25
    writer = write(tmp_path / "a.geojson", traced(labels), min_area_um2=2 * pixel)
    shapes = [shape(feature["geometry"]) for feature in read(tmp_path / "a.geojson")["features"]]
    assert [len(one.interiors) for one in shapes] == [1, 0]
    assert sum(one.area for one in shapes) == labels.size * 16
    assert sum(writer.areas_um2.values()) == labels.size * pixel


def test_a_region_of_just_the_least_area_stays(tmp_path):
    pixel = 16 * 0.5 * 0.25
    writer = write(tmp_path / "a.geojson", traced([[1, 0, 2, 2]]), min_area_um2=2 * pixel)
    assert (writer.count, writer.areas_um2[CLASSES[1].name]) == (1, 2 * pixel)


def test_what_rounding_breaks_is_mended(tmp_path):
    # the notch ends so near the other side that both fall on one point of the grid
    notched = polygon([(0, 0), (10, 0), (10, 10), (5, 10), (5, 0.001), (4.9, 10), (0, 10)])
    collapsed = polygon([(0, 0), (0.002, 0), (0.002, 0.002), (0, 0.002)], label=2)
    whole = polygon([(20, 0), (30, 0), (30, 10)], label=2)
    path = tmp_path / "a.geojson"
    writer = write(path, [notched, collapsed, whole], transform=PlaneToSlide(1, 1, 0, 0, 1, 1))
    assert check_geojson(path) == []
    names = [f["properties"]["classification"]["name"] for f in read(path)["features"]]
    assert names == ["Tumor", "Tumor", CLASSES[1].name]
    assert writer.count == 3
    assert sum(writer.areas_um2.values()) == pytest.approx(notched.polygon.area + 50, abs=0.05)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6),
    st.floats(0.004, 9).map(lambda x: round(x, 5)),
    st.floats(-100, 100),
    st.sampled_from([0.0, 0.75, 2.0]),
    st.sampled_from([0.0, 3.0]),
)
def test_everything_written_loads(tmp_path_factory, seed, scale, offset, simplify, smallest):
    labels = np.random.default_rng(seed).integers(0, 3, (14, 17))
    path = tmp_path_factory.mktemp("written") / "a.geojson"
    transform = PlaneToSlide(scale, scale * 1.01, offset, -offset, 0.25, 0.25)
    smallest *= transform.um2_per_pixel * scale**2
    writer = write(path, traced(labels, simplify), transform=transform, min_area_um2=smallest)
    assert check_geojson(path) == []
    collection = read(path)
    assert conforms(collection, SCHEMA)
    assert len(collection["features"]) == writer.count


@pytest.mark.parametrize("name", ["a.geojson", "a.geojson.gz"])
def test_an_exception_leaves_the_old_file_alone(tmp_path, name):
    path = tmp_path / name
    path.write_text("old")

    def polygons():
        yield from traced(LABELS)
        assert (tmp_path / f"{name}.partial").exists()
        raise KeyError

    with pytest.raises(KeyError):
        write(path, polygons())
    assert path.read_text() == "old"
    assert sorted(one.name for one in tmp_path.iterdir()) == [name, f"{name}.partial"]


@pytest.mark.parametrize("name", ["a.geojson", "a.geojson.gz"])
@pytest.mark.parametrize("closed", [False, True])
def test_going_on_after_a_stop_gives_the_same_bytes(tmp_path, name, closed):
    polygons = traced(LABELS)
    half = len(polygons) // 2
    write(tmp_path / f"whole-{name}", polygons)
    path = tmp_path / name

    def stop():
        with make(path) as writer:
            writer.write(polygons[:half])
            states.append(writer.state())
            writer.write(polygons[half : half + 1])
            if not closed:
                raise KeyboardInterrupt

    states = []
    with contextlib.suppress(KeyboardInterrupt):
        stop()
    with make(path, resume=states[0]) as writer:
        writer.write(polygons[half:])
    assert path.read_bytes() == (tmp_path / f"whole-{name}").read_bytes()
    assert writer.count == len(polygons)
    assert not (tmp_path / f"{name}.partial").exists()


def test_a_full_disk_is_named(tmp_path, monkeypatch):
    def refuse(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(WsiError) as caught:
        write(tmp_path / "a.geojson", traced(LABELS))
    assert caught.value.reason == "disk-full"
    assert not (tmp_path / "a.geojson").exists()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.txt", {}),
        ("a.gz", {}),
        ("a.geojson", {"classes": [CLASSES[0], ClassSpec(name="tumor", color="#96c896")]}),
        ("a.geojson", {"classes": CLASSES[:1]}),
        ("a.geojson", {"measurements": ()}),
        ("a.geojson", {"measurements": ("Mean probability", "Perimeter")}),
        ("a.geojson", {"transform": PlaneToSlide(0, 4, 0, 0, 0.5, 0.5)}),
        ("a.geojson", {"transform": PlaneToSlide(4, 4, 0, float("nan"), 0.5, 0.5)}),
    ],
)
def test_what_can_not_be_written_is_refused(tmp_path, name, options):
    with pytest.raises(WsiError) as caught:
        write(tmp_path / name, traced(LABELS), **options)
    assert caught.value.reason == "bad-input"
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize(("name", "color"), [("Tumor", "red"), ("", "#96c896"), ("a:", "#96c896")])
def test_no_class_can_be_made_that_could_not_be_written(name, color):
    with pytest.raises(ValueError, match="color|name"):
        ClassSpec(name=name, color=color)


def test_measurements_go_by_name_and_what_is_not_finite_is_left_out(tmp_path):
    square = shapely.box(0, 0, 2, 2)
    written = [
        PlaneObject(1, square, (12.34567, 1e-7)),
        PlaneObject(1, square, (float("nan"), np.float32(7))),
        PlaneObject(2, square, (float("inf"), -1.0)),
    ]
    names = ("Perimeter µm", 'Odd "name"')
    write(tmp_path / "a.geojson", written, measurements=names, object_type="detection")
    assert check_geojson(tmp_path / "a.geojson") == []
    collection = read(tmp_path / "a.geojson")
    assert [one["properties"]["measurements"] for one in collection["features"]] == [
        {"Area µm^2": 8.0, names[0]: 12.3457, names[1]: 0.0},
        {"Area µm^2": 8.0, names[1]: 7.0},
        {"Area µm^2": 8.0, names[1]: -1.0},
    ]


def test_an_object_with_a_key_has_the_same_id_whatever_else_is_written(tmp_path):
    def ids(name, written):
        write(tmp_path / name, written, transform=PlaneToSlide(1, 1, 0, 0, 1, 1))
        return [feature["id"] for feature in read(tmp_path / name)["features"]]

    keys = [0, 1, 7, 2**32 - 1]
    squares = [polygon([(k % 9, 0), (10, 0), (10, 10)], key=k) for k in keys]
    # Rounding splits this one in two.
    notched = polygon([(0, 0), (10, 0), (10, 10), (5, 10), (5, 0.001), (4.9, 10), (0, 10)], key=3)
    free = polygon([(0, 0), (1, 0), (1, 1)])
    first = ids("a.geojson", squares)
    assert ids("b.geojson", squares[::-1]) == first[::-1]
    both = ids("c.geojson", [notched, free, *squares])
    assert both[3:] == first
    assert len(set(both)) == 7
    assert ids("d.geojson", [*squares, notched])[4:] == both[:2]
