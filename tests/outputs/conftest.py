"""A small complete result, written by the writers themselves."""

import numpy as np
import pytest
from made_result import CLASSES, HEIGHT, WIDTH, make_attributes, make_labels

from wsi_sampath.outputs.omezarr.ngff import PlaneScale
from wsi_sampath.outputs.omezarr.pyramid import PyramidSpec, PyramidWriter
from wsi_sampath.outputs.polygons.tracer import PolygonTracer
from wsi_sampath.outputs.qupath.geojson import GeoJSONWriter, PlaneToSlide


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
