"""A small complete result, written by the writers themselves."""

import numpy as np
import pytest
from made_result import (
    CLASSES,
    HEIGHT,
    WIDTH,
    append_both,
    class_images,
    make_attributes,
    make_labels,
)

from wsi_sampath.outputs.omezarr.images import PyramidSpec
from wsi_sampath.outputs.omezarr.ngff import PlaneScale
from wsi_sampath.outputs.omezarr.pyramid import PyramidWriter
from wsi_sampath.outputs.polygons.tracer import PolygonTracer
from wsi_sampath.outputs.qupath.geojson import GeoJSONWriter, PlaneObject, PlaneToSlide


def write_result(folder, *, suffix=".geojson", zarr_format=2, probabilities=True, **changes):
    labels = make_labels()
    planes = np.stack([np.where(labels == value, 204, 25) for value in (1, 2, 3)]).astype(np.uint8)
    scale = PlaneScale(2.0, 3.0, 0.5, 0.75)
    images = class_images(CLASSES, probabilities=probabilities)
    spec = PyramidSpec("s.svs", HEIGHT, WIDTH, scale, images, zarr_format)
    writer = PyramidWriter(folder / "s.zarr", spec)
    append_both(writer, 0, labels, planes)
    writer.finish(make_attributes(**changes))
    tracer = PolygonTracer(WIDTH, largest_label=3)
    transform = PlaneToSlide(4, 4, 0, 0, 0.5, 0.75)
    regions = tracer.append(labels, np.where(labels, 204, 0).astype(np.uint8)) + tracer.finish()
    with GeoJSONWriter(
        folder / f"s{suffix}",
        classes=CLASSES,
        transform=transform,
        namespace="s",
        measurements=("Mean probability",),
    ) as geojson:
        geojson.write(
            PlaneObject(one.label, one.polygon, (one.mean_score / 255,)) for one in regions
        )
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
