"""A result reads back as it was written, and what is not a result is refused by name."""

import builtins
import json
import re
import shutil

import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_result import CLASSES, HEIGHT, WIDTH, append_both, class_images, make_attributes
from zarr.storage import LocalStore

import wsi_sampath
from wsi_sampath.errors import WsiError
from wsi_sampath.extras import install_hint
from wsi_sampath.outputs.omezarr.downsample import halve_mode
from wsi_sampath.outputs.omezarr.images import ImageSpec, PyramidSpec
from wsi_sampath.outputs.omezarr.ngff import PlaneScale
from wsi_sampath.outputs.omezarr.pyramid import PyramidWriter
from wsi_sampath.outputs.result import open_result


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_maps_classes_and_places(make_result, labels, zarr_format):
    result = open_result(str(make_result(zarr_format=zarr_format)))
    assert [(one.value, one.name, one.color) for one in result.classes] == [
        (1, "Tumor <b>", "#c80000"),
        (2, "Stroma & co", "#1e78b4"),
        (3, "Absent", "#64c832"),
    ]
    assert isinstance(result.labels(), da.Array)
    np.testing.assert_array_equal(result.labels().compute(), labels)
    np.testing.assert_array_equal(result.labels(1).compute(), halve_mode(labels))
    np.testing.assert_array_equal(result.read_labels(1), halve_mode(labels))
    assert result.probabilities(1).shape == (3, *result.labels(1).shape)
    assert result.probabilities()[0, 150, 250].compute() == 204
    fine, coarse = result.levels
    assert (fine.height, fine.width, coarse.height, coarse.width) == (1300, 1100, 650, 550)
    assert (fine.um_x, fine.um_y, coarse.um_x, coarse.um_y) == (2.0, 3.0, 4.0, 6.0)
    assert (fine.offset_um_x, fine.offset_um_y) == (0.75, 1.125)
    assert result.attributes["reader"] == "openslide"


def test_level_near(make_result):
    result = open_result(make_result())
    assert [result.level_near(um) for um in (0.1, 3.0, 5.9, 6.0, 100)] == [0, 0, 0, 1, 1]


def test_the_class_map_may_be_all_there_is(make_result, labels):
    result = open_result(make_result(probabilities=False))
    np.testing.assert_array_equal(result.labels().compute(), labels)
    with pytest.raises(WsiError, match="--no-probabilities"):
        result.probabilities()


@pytest.mark.parametrize("probabilities", [True, False])
def test_layers_say_what_there_is(make_result, probabilities):
    result = open_result(make_result(probabilities=probabilities))
    said = [(one.name, one.kind, one.classes) for one in result.layers]
    classes = ("classes", "classes", result.classes)
    planes = ("probabilities", "probabilities", result.classes)
    assert said == ([classes, planes] if probabilities else [classes])


@settings(max_examples=60, deadline=None)
@given(
    x=st.integers(-50, 1200),
    y=st.integers(-50, 1400),
    width=st.integers(1, 1500),
    height=st.integers(1, 1500),
    level=st.integers(0, 1),
)
def test_a_window_is_the_part_of_the_map_in_its_box(whole, x, y, width, height, level):
    result, maps = whole
    labels, planes = maps[level]
    rows, columns = slice(max(y, 0), y + height), slice(max(x, 0), x + width)
    if y + height <= 0 or x + width <= 0 or not labels[rows, columns].size:
        with pytest.raises(WsiError, match="nothing in the box"):
            result.window("classes", level, (x, y, width, height))
        return
    found = result.window("classes", level, (x, y, width, height))
    np.testing.assert_array_equal(found, labels[rows, columns])
    found = result.window("probabilities", level, (x, y, width, height))
    np.testing.assert_array_equal(found, planes[:, rows, columns])


@pytest.fixture(scope="module")
def whole(write_result, tmp_path_factory):
    result = open_result(write_result(tmp_path_factory.mktemp("whole")))
    levels = range(len(result.levels))
    return result, [(result.read_labels(n), result.probabilities(n).compute()) for n in levels]


@pytest.mark.parametrize(
    ("layer", "level", "box", "said"),
    [
        ("nuclei", 0, (0, 0, 1, 1), "has the layers classes, probabilities, not 'nuclei'"),
        ("classes", 2, (0, 0, 1, 1), "levels 0 to 1"),
        ("classes", 0, (0, 0, 0, 5), "level 0 is 1100 x 1300 px"),
        ("classes", 0, (5, 5, -3, 5), "nothing in the box x 5, y 5, -3 x 5"),
        ("classes", 1, (550, 0, 9, 9), "level 1 is 550 x 650 px"),
    ],
)
def test_windows_that_are_not_there(make_result, layer, level, box, said):
    with pytest.raises(WsiError, match=said) as caught:
        open_result(make_result()).window(layer, level, box)
    assert caught.value.reason == "bad-input"


def test_a_window_reads_the_chunks_that_it_touches(make_result, monkeypatch):
    result = open_result(make_result())
    read, get = [], LocalStore.get

    def noting(self, key, *arguments, **options):
        if key[-1].isdecimal():
            read.append(key)
        return get(self, key, *arguments, **options)

    monkeypatch.setattr(LocalStore, "get", noting)
    result.window("classes", 0, (1000, 1000, 20, 24))
    assert read == ["0/0"]
    result.window("classes", 0, (1000, 1000, 30, 30))
    assert sorted(read[1:]) == ["0/0", "0/1", "1/0", "1/1"]


def test_ids_of_objects_are_a_layer(tmp_path, labels):
    ids = labels.astype(np.uint32) * 1_000_003
    images = (*class_images(CLASSES), ImageSpec("labels/nuclei", dtype="uint32"))
    spec = PyramidSpec("s", HEIGHT, WIDTH, PlaneScale(2.0, 3.0, 0.5, 0.75), images)
    writer = PyramidWriter(tmp_path / "s.zarr", spec)
    append_both(writer, 0, labels, np.zeros((3, HEIGHT, WIDTH), np.uint8))
    writer.append("labels/nuclei", 0, ids)
    writer.finish(make_attributes(geojson=None))
    result = open_result(tmp_path / "s.zarr")
    assert [one.name for one in result.layers] == ["classes", "nuclei", "probabilities"]
    found = result.window("nuclei", 0, (390, 290, 50, 40))
    assert found.dtype == np.uint32
    np.testing.assert_array_equal(found, ids[290:330, 390:440])
    shutil.rmtree(tmp_path / "s.zarr" / "labels" / "nuclei" / "1")
    with pytest.raises(WsiError, match="damaged"):
        open_result(tmp_path / "s.zarr")


def test_levels_that_are_not_there(make_result):
    result = open_result(make_result())
    for level in (-1, 2):
        with pytest.raises(WsiError, match="levels 0 to 1"):
            result.labels(level)


@pytest.mark.parametrize("suffix", [".geojson", ".geojson.gz", ".geojson.zip"])
def test_polygons_lie_on_the_class_map(make_result, labels, suffix):
    result = open_result(make_result(suffix=suffix, geojson=f"s{suffix}"))
    found = result.polygons()
    assert sorted(one.class_name for one in found) == ["Stroma & co", "Stroma & co", "Tumor <b>"]
    tumor = next(one for one in found if one.class_name == "Tumor <b>")
    assert tumor.polygon.bounds == (800, 400, 3200, 2800)
    assert tumor.polygon.area == (labels == 1).sum() * 16
    assert tumor.measurements["Area µm^2"] == tumor.polygon.area * 0.375
    assert tumor.measurements["Mean probability"] == 0.8


def test_areas_as_a_table(make_result):
    table = open_result(make_result()).area_table()
    assert list(table.columns) == ["value", "class", "color", "area_mm2", "percent"]
    assert list(table["class"]) == ["Tumor <b>", "Stroma & co", "Absent"]
    assert table["percent"].sum() == pytest.approx(100)
    assert table["area_mm2"].iloc[0] == pytest.approx(320_000 * 6e-6)
    assert table["area_mm2"].iloc[2] == 0


def test_nothing_analysed_is_zero_percent(make_result):
    areas = {"Tumor <b>": 0.0, "Stroma & co": 0.0, "Absent": 0.0}
    assert (open_result(make_result(area_mm2=areas)).area_table()["percent"] == 0).all()


def test_polygons_are_found_after_a_move(make_result, tmp_path):
    path = make_result(geojson="deep/p.geojson.gz", suffix=".geojson.gz")
    other = tmp_path / "other"
    (other / "deep").mkdir(parents=True)
    path = path.rename(other / "renamed.zarr")
    assert open_result(path).geojson is None
    with pytest.raises(WsiError, match="no polygons"):
        open_result(path).polygons()
    (tmp_path / "s.geojson.gz").rename(other / "renamed.geojson.gz")
    assert open_result(path).geojson == other / "renamed.geojson.gz"
    (other / "renamed.geojson.gz").rename(other / "deep" / "p.geojson.gz")
    assert open_result(path).geojson == other / "deep" / "p.geojson.gz"


def test_geodataframe(make_result):
    geopandas = pytest.importorskip("geopandas")
    frame = open_result(make_result()).geodataframe()
    assert isinstance(frame, geopandas.GeoDataFrame)
    assert set(frame.columns) == {"class", "Area µm^2", "Mean probability", "geometry"}
    assert frame.geometry.area.sum() * 0.375 == pytest.approx(frame["Area µm^2"].sum())


def test_geodataframe_says_what_is_missing(make_result, monkeypatch):
    real = builtins.__import__

    def without(name, *arguments):
        if name == "geopandas":
            raise ImportError(name)
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=re.escape(install_hint("geo"))):
        open_result(make_result()).geodataframe()


def test_what_is_no_result_is_refused(tmp_path, make_result):
    with pytest.raises(WsiError, match="not a result") as caught:
        open_result(tmp_path / "none.zarr")
    assert caught.value.reason == "bad-input"
    (tmp_path / "none.zarr.partial").mkdir()
    with pytest.raises(WsiError, match="not finished"):
        open_result(tmp_path / "none.zarr")
    with pytest.raises(WsiError, match="not complete"):
        open_result(make_result(complete=False))


def test_damage_is_named(make_result):
    path = make_result()
    shutil.rmtree(path / "labels" / "classes" / "1")
    with pytest.raises(WsiError, match="is damaged"):
        open_result(path)
    shutil.rmtree(path / "labels")
    with pytest.raises(WsiError, match="is damaged"):
        open_result(path)


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[]", b'{"features":[{"type":"Feature"}]}', json.dumps({"features": 7}).encode()],
)
def test_a_geojson_of_others_is_named(make_result, tmp_path, text):
    path = make_result()
    (tmp_path / "s.geojson").write_bytes(text)
    with pytest.raises(WsiError, match=r"s\.geojson") as caught:
        open_result(path).polygons()
    assert caught.value.reason == "bad-input"


@pytest.mark.parametrize("suffix", [".geojson.gz", ".geojson.zip"])
def test_a_torn_container_is_named(make_result, tmp_path, suffix):
    path = make_result(suffix=suffix)
    file = tmp_path / f"s{suffix}"
    file.write_bytes(file.read_bytes()[:60])
    with pytest.raises(WsiError, match="can't be read"):
        open_result(path).polygons()


def test_the_package_exports_it():
    assert wsi_sampath.open_result is open_result
    assert set(wsi_sampath.__all__) >= {"Result", "open_result"}
