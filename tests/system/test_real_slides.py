"""The whole way on every real slide at hand, with the bundled model."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely
import zarr
from ome_zarr_models import open_ome_zarr

from wsi_sampath import SegmentSettings, Slide, WsiError, load_model, segment_slide
from wsi_sampath.models.checkpoints import build_model
from wsi_sampath.models.network import LoadedModel
from wsi_sampath.models.parts.retile import with_tile
from wsi_sampath.outputs.qupath.rules import check_geojson


def on_small_tiles(model: LoadedModel) -> LoadedModel:
    """The bundled network takes nearly all the time here: as many tiles, of a quarter the size."""
    spec = model.spec.model_copy(update={"tile": 512})
    return replace(model, module=with_tile(model.module, build_model(spec)).eval(), spec=spec)


@pytest.fixture(scope="module")
def results(real_slides: Path, tmp_path_factory: pytest.TempPathFactory):
    """Results by slide; the reason where a slide was refused."""
    model, out = on_small_tiles(load_model()), tmp_path_factory.mktemp("real")
    settings = SegmentSettings(slide_mpp=(0.5, 0.5), device="cpu", tissue="otsu", mpp=2.0)
    found = {}
    for path in sorted(real_slides.iterdir()):
        try:
            found[path] = segment_slide(
                path, out / f"{path.name}.zarr", settings=settings, model=model
            )
        except WsiError as error:
            found[path] = error.reason
    return found


def finished(results):
    return [(path, result) for path, result in results.items() if not isinstance(result, str)]


def test_every_slide_is_done_or_refused_for_a_reason(results):
    assert finished(results)
    refusals = {result for result in results.values() if isinstance(result, str)}
    assert refusals <= {"unreadable", "no-tissue"}
    for path, result in finished(results):
        expected = ("openslide",) if path.suffix == ".ndpi" else ("tiff", "tiffslide")
        assert result.attributes["reader"] in expected


def test_maps_are_valid_and_cover_the_tissue(results):
    for path, result in finished(results):
        root = zarr.open_group(result.zarr, mode="r")
        open_ome_zarr(root)
        open_ome_zarr(root["labels/classes"])
        labels, planes = root["labels/classes/0"][:], root["0"][:]
        analysed = labels > 0
        assert analysed.any(), path
        assert (planes[:, ~analysed] == 0).all()
        total = planes.astype(int).sum(0)[analysed]
        assert np.abs(total - 255).max() <= len(planes)
        won = np.take_along_axis(planes, labels[None].clip(1).astype(int) - 1, 0)[0]
        assert (won[analysed] >= planes.max(0)[analysed]).all()
        with Slide.open(path, slide_mpp=0.5) as slide:
            um_x, um_y = result.attributes["mpp"]["output"]
            assert abs(labels.shape[1] * um_x - slide.size[0] * 0.5) <= um_x
            assert abs(labels.shape[0] * um_y - slide.size[1] * 0.5) <= um_y


def test_polygons_have_the_areas_of_the_label_plane(results):
    for _, result in finished(results):
        assert check_geojson(result.geojson) == []
        labels = zarr.open_group(result.zarr, mode="r")["labels/classes/0"][:]
        um_x, um_y = result.attributes["mpp"]["output"]
        names = list(result.attributes["area_mm2"])
        text = result.geojson.read_bytes()
        text = gzip.decompress(text) if result.geojson.suffix == ".gz" else text
        area = dict.fromkeys(names, 0.0)
        for feature in json.loads(text)["features"]:
            name = feature["properties"]["classification"]["name"]
            area[name] += shapely.geometry.shape(feature["geometry"]).area * 0.5 * 0.5
        # Of the pixels at the right and lower edge, the part that lies on the slide counts.
        width, height = result.attributes["slide_size"]
        on_x = np.clip(width * 0.5 / um_x - np.arange(labels.shape[1]), 0, 1)
        on_y = np.clip(height * 0.5 / um_y - np.arange(labels.shape[0]), 0, 1)
        for value, name in enumerate(names, start=1):
            want = (on_y @ (labels == value) @ on_x) * um_x * um_y
            assert area[name] == pytest.approx(want, rel=1e-3, abs=1)
            assert result.attributes["area_mm2"][name] == pytest.approx(want * 1e-6)
