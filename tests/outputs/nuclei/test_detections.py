"""Nuclei as QuPath's detections: one feature each, as QuPath reads it, under a stable id."""

import contextlib
import json

import numpy as np
import pytest
import shapely
from random_nuclei import CLASSES, patch_of, random_patches
from shapely.geometry import shape

from wsi_sampath.errors import WsiError
from wsi_sampath.outputs.nuclei.detections import DETECTION_MEASUREMENTS, detections
from wsi_sampath.outputs.nuclei.found import NucleusSpec, found_nuclei, none_found
from wsi_sampath.outputs.nuclei.placed import PlacedNuclei, place
from wsi_sampath.outputs.qupath import geojson, packing
from wsi_sampath.outputs.qupath.geojson import GeoJSONWriter
from wsi_sampath.outputs.qupath.rules import check_geojson
from wsi_sampath.outputs.qupath.slide_shapes import PlaneToSlide

TRANSFORM = PlaneToSlide(0.9929, 0.9929, 10, 20, 0.25, 0.5)


@pytest.fixture(scope="module")
def placed():
    return place(found_nuclei(random_patches(3, most=9), NucleusSpec(0.25, 0.5, 3)), TRANSFORM)


def make(path, **options):
    return GeoJSONWriter(
        path,
        classes=CLASSES,
        transform=TRANSFORM,
        namespace="run",
        measurements=DETECTION_MEASUREMENTS,
        object_type="detection",
        run="0123456789abcdef",
        **options,
    )


def write(path, *several, **options):
    with make(path, **options) as writer:
        for one in several:
            writer.write_on_slide(detections(one))
    return writer


def some(placed, start, stop):
    found = placed.found.take(np.arange(start, stop))
    return PlacedNuclei(found, placed.centers_px[start:stop], placed.shapes[start:stop])


def features(path):
    return json.loads(path.read_bytes())["features"]


def test_every_nucleus_is_one_feature(tmp_path, placed):
    path = tmp_path / "a.geojson"
    writer = write(path, placed)
    assert check_geojson(path) == []
    written = features(path)
    assert writer.count == len(written) == len(placed)
    found = placed.found
    assert {one.geom_type for one in placed.shapes} == {"Polygon", "MultiPolygon"}
    for index, one in enumerate(written):
        properties = one["properties"]
        assert shapely.equals_exact(shape(one["geometry"]), placed.shapes[index])
        assert properties["objectType"] == "detection"
        assert properties["classification"]["name"] == CLASSES[found.label[index] - 1].name
        measured = properties["measurements"]
        assert list(measured) == ["Area µm^2", *DETECTION_MEASUREMENTS]
        assert measured["Area µm^2"] == pytest.approx(found.area_um2[index], abs=0.006)
        assert measured["Perimeter µm"] == pytest.approx(found.perimeter_um[index], abs=1e-4)
        assert measured["Hematoxylin OD mean"] == pytest.approx(
            found.haematoxylin_od[index], abs=1e-4
        )
    total = sum(writer.areas_um2.values())
    assert total == pytest.approx(found.area_um2.sum())


def test_ids_and_bytes_do_not_depend_on_how_nuclei_come(tmp_path, placed, monkeypatch):
    write(tmp_path / "a.geojson", placed)
    monkeypatch.setattr(geojson, "_BATCH", 4)
    write(
        tmp_path / "b.geojson", some(placed, 0, 7), some(placed, 7, 7), some(placed, 7, len(placed))
    )
    assert (tmp_path / "a.geojson").read_bytes() == (tmp_path / "b.geojson").read_bytes()
    write(tmp_path / "c.geojson", some(placed, 5, 8))
    ids = [[one["id"] for one in features(tmp_path / name)] for name in ("a.geojson", "c.geojson")]
    assert ids[0][5:8] == ids[1]
    assert len(set(ids[0])) == len(placed)


def test_a_killed_writer_goes_on_with_the_same_bytes(tmp_path, placed):
    path, states = tmp_path / "a.geojson.zip", []
    write(tmp_path / "whole.geojson.zip", placed, name="a.geojson.zip")

    def stop():
        with make(path) as writer:
            writer.write_on_slide(detections(some(placed, 0, 6)))
            states.append(writer.state())
            writer.write_on_slide(detections(some(placed, 6, len(placed))))
            raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        stop()
    write(path, some(placed, 6, len(placed)), resume=states[0])
    assert path.read_bytes() == (tmp_path / "whole.geojson.zip").read_bytes()


def test_specks_are_left_out(tmp_path):
    found = found_nuclei([patch_of([[1, 0, 2, 2], [0, 0, 2, 2]])], NucleusSpec(0.25, 0.5))
    placed = place(found, TRANSFORM)
    writer = write(tmp_path / "a.geojson", placed, min_area_um2=0.2)
    assert writer.count == 1
    assert features(tmp_path / "a.geojson")[0]["properties"]["measurements"]["Area µm^2"] == 0.5


def test_nothing_is_written_of_nothing(tmp_path):
    assert write(tmp_path / "a.geojson", place(none_found(), TRANSFORM)).count == 0
    assert features(tmp_path / "a.geojson") == []


def test_a_label_without_a_class_is_refused(tmp_path, placed):
    with pytest.raises(WsiError, match="label 3 has no class among the 1"):
        GeoJSONWriter(
            tmp_path / "a.geojson",
            classes=CLASSES[:1],
            transform=TRANSFORM,
            namespace="run",
            measurements=DETECTION_MEASUREMENTS,
        ).write_on_slide(detections(placed))


def test_a_warning_speaks_of_detections(tmp_path, placed, monkeypatch):
    monkeypatch.setattr(geojson, "MANY_FEATURES", 10)
    said = write(tmp_path / "a.geojson", placed).warning()
    assert said.startswith(f"QuPath will be slow with {len(placed)} detections (")
    assert "--geojson NAME.geojson.zip" in said
    monkeypatch.setattr(packing, "MEMBER_FEATURES", 10)
    zipped = write(tmp_path / "a.geojson.zip", placed)
    assert zipped.warning() is None
    assert check_geojson(tmp_path / "a.geojson.zip") == []
    monkeypatch.setattr(geojson, "TOO_MANY_FEATURES", 10)
    assert "NAME.geojson.zip" not in zipped.warning()
