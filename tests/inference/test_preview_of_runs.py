"""What a preview tells is what the run then does."""

from __future__ import annotations

import numpy as np
import tifffile
from stub_network import make_stub

from wsi_sampath.inference.plan import plan_run
from wsi_sampath.inference.preview import Asked, preview_slide, tile_boxes
from wsi_sampath.inference.segmenter import segment_slide
from wsi_sampath.inference.settings import SegmentSettings
from wsi_sampath.slides.slide import Slide


def test_tiles_and_tissue_are_those_of_the_run(tmp_path):
    rgb = np.full((900, 1100, 3), (240, 238, 242), np.uint8)
    rgb[200:600, 300:500] = (150, 80, 160)
    size = {"resolution": (20000, 20000), "resolutionunit": "CENTIMETER"}
    path = tmp_path / "s.tif"
    tifffile.imwrite(path, rgb, tile=(256, 256), photometric="rgb", metadata=None, **size)
    settings = SegmentSettings(
        device="cpu", region=(100, 0, 800, 900), tissue_threshold=0.03, report=False
    )
    model = make_stub()
    before = preview_slide(path, tmp_path / "s.preview.png", Asked(model.spec, settings)).facts
    made = segment_slide(path, tmp_path / "s.zarr", settings=settings, model=model).attributes
    assert before["tiles"]["to_analyse"] == made["tiles"]["analysed"] > 0
    assert before["tiles"]["all"] == made["tiles"]["analysed"] + made["tiles"]["skipped"]
    assert before["tissue"]["mm2"] == made["coverage"]["tissue_mm2"]
    assert before["tissue"]["threshold"] == 0.03
    assert before["level_read"] == made["mpp"]["level"]
    assert (before["tile"], before["overlap"]) == (made["tile"], made["overlap"])
    assert before["mpp"]["origin"] == made["mpp"]["origin"] == "TIFF resolution tags"
    with Slide.open(path) as slide:
        boxes = tile_boxes(plan_run(slide, model.spec, settings))
    assert len(boxes) == made["tiles"]["analysed"]
    assert boxes[:, 0].min() >= 100
    assert boxes[:, 2].max() <= 900
