"""A run without spare tiles analyses the same pixels, and is a result of its own."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
import zarr
from stub_network import make_stub

from wsi_sampath.inference.plan import plan_run
from wsi_sampath.inference.segmenter import segment_slide
from wsi_sampath.inference.settings import SegmentSettings
from wsi_sampath.slides.regions.find import Tissue
from wsi_sampath.slides.slide import Slide


@pytest.fixture
def slide(tmp_path):
    rgb = np.full((900, 1100, 3), (240, 238, 242), np.uint8)
    rgb[200:600, 300:500] = (150, 80, 160)
    size = {"resolution": (20000, 20000), "resolutionunit": "CENTIMETER"}
    path = tmp_path / "s.tif"
    tifffile.imwrite(path, rgb, tile=(256, 256), photometric="rgb", metadata=None, **size)
    return path


def settings(share):
    return SegmentSettings(
        device="cpu", report=False, polygons=False, overlap=100, min_tile_tissue=share
    )


def test_the_same_pixels_are_analysed_by_fewer_tiles(slide, tmp_path):
    all_tiles, fewer = (
        segment_slide(
            slide, tmp_path / f"{share}.zarr", settings=settings(share), model=make_stub()
        )
        for share in (0.0, 1.0)
    )
    before, after = (one.attributes["tiles"] for one in (all_tiles, fewer))
    assert after["analysed"] < before["analysed"]
    assert after["analysed"] + after["skipped"] == before["analysed"] + before["skipped"]
    maps = [
        zarr.open_group(one.zarr, mode="r")["labels/classes/0"][:] for one in (all_tiles, fewer)
    ]
    assert maps[0].any()
    assert np.array_equal(maps[0] > 0, maps[1] > 0)
    assert all_tiles.attributes["run_id"] != fewer.attributes["run_id"]


@pytest.mark.parametrize("is_damaged", [True, False])
def test_every_tile_is_run_where_a_slide_is_damaged(slide, monkeypatch, is_damaged):
    mask, unknown = np.zeros((2, 57, 69), bool)
    mask[13:38, 19:32] = True
    unknown[15, 20] = is_damaged
    tissue = Tissue(mask, unknown=unknown)
    monkeypatch.setattr("wsi_sampath.inference.plan.find_tissue", lambda *_, **__: tissue)
    with Slide.open(slide) as opened:
        all_tiles, fewer = (
            plan_run(opened, make_stub().spec, settings(share)).grid.n_tiles for share in (0.0, 1.0)
        )
    assert (fewer == all_tiles) == is_damaged
