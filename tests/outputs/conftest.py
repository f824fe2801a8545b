"""A small complete result, written by the writers themselves."""

import numpy as np
import pytest

from wsi_sampath.outputs.geojson import GeoJSONWriter, PlaneToSlide
from wsi_sampath.outputs.ngff import PlaneScale
from wsi_sampath.outputs.polygons import PolygonTracer
from wsi_sampath.outputs.pyramid import PyramidSpec, PyramidWriter

CLASSES = (("Tumor <b>", "#c80000"), ("Stroma & co", "#1e78b4"), ("Absent", "#64c832"))
HEIGHT, WIDTH = 1300, 1100


def make_labels():
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[100:700, 200:800] = 1
    labels[300:500, 400:600] = 2
    labels[900:1200, 50:1000] = 2
    return labels


def make_attributes(**changes):
    pixel_mm2 = 2 * 3 * 1e-6
    counts = np.bincount(make_labels().ravel(), minlength=4)[1:]
    areas = {name: float(n) * pixel_mm2 for (name, _), n in zip(CLASSES, counts, strict=True)}
    return {
        "version": "9.8.7",
        "model": {"name": "a model", "sha256": "ab" * 32},
        "model_card": {"architecture": "sam_path", "mpp": 0.5, "description": "", "tile": 1024},
        "slide": {"name": "case 7 <x>.svs", "fingerprint": "cd" * 32},
        "settings": {"tissue": "otsu", "overlap": None, "simplify_um": 0.5, "polygons": True},
        "reader": "openslide",
        "slide_size": [4400, 5200],
        "bounds_offset": [0, 0],
        "mpp": {
            "x": 0.5,
            "y": 0.75,
            "source": "metadata",
            "requested": 0.5,
            "effective": [0.5, 0.75],
            "output": [2.0, 3.0],
            "level": 0,
        },
        "region": None,
        "warnings": [],
        "device": "cpu",
        "tiles": {"analysed": 1234, "skipped": 56, "failed": 0, "failures": []},
        "polygons": 3,
        "geojson": "s.geojson",
        "area_mm2": areas,
        "coverage": {"slide_mm2": 8.58, "tissue_mm2": 4.5, "analysed_mm2": sum(areas.values())},
        "seconds": {"plan": 0.5, "network": 61.25, "read": 3.0, "total": 65.0},
        "tiles_per_s": 18.9,
        "mm2_per_s": 0.06,
        "peak_memory_mb": 812.5,
        "resumed_after_strip": None,
        "complete": True,
        **changes,
    }


def write_result(folder, *, suffix=".geojson", zarr_format=2, probabilities=True, **changes):
    labels = make_labels()
    planes = np.stack([np.where(labels == value, 204, 25) for value in (1, 2, 3)]).astype(np.uint8)
    scale = PlaneScale(2.0, 3.0, 0.5, 0.75)
    spec = PyramidSpec("s.svs", HEIGHT, WIDTH, scale, CLASSES, zarr_format, probabilities)
    writer = PyramidWriter(folder / "s.zarr", spec)
    writer.append(0, labels, planes)
    writer.finish(make_attributes(**changes))
    tracer = PolygonTracer(WIDTH, n_classes=3)
    transform = PlaneToSlide(4, 4, 0, 0, 0.5, 0.75)
    with GeoJSONWriter(
        folder / f"s{suffix}", classes=CLASSES, transform=transform, namespace="s"
    ) as geojson:
        geojson.write(tracer.append(labels, np.where(labels, 204, 0).astype(np.uint8)))
        geojson.write(tracer.finish())
    return folder / "s.zarr"


@pytest.fixture(scope="session", name="write_result")
def result_writer():
    return write_result


@pytest.fixture
def labels():
    return make_labels()


@pytest.fixture
def make_result(tmp_path):
    return lambda **options: write_result(tmp_path, **options)
