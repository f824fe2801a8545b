"""``NAME.png``: made where it is asked for and missing, never in place of what is not ours."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from PIL import Image
from stub_network import make_stub

from wsi_sampath.errors import WsiError
from wsi_sampath.inference.segmenter import segment_slide
from wsi_sampath.inference.settings import SegmentSettings
from wsi_sampath.outputs.belonging import picture_run, picture_state


@pytest.fixture
def run(tmp_path):
    rgb = np.full((500, 700, 3), (150, 80, 160), np.uint8)
    rgb[:, 350:] = (90, 120, 200)
    size = {"resolution": (20000, 20000), "resolutionunit": "CENTIMETER"}
    path = tmp_path / "s.tif"
    tifffile.imwrite(path, rgb, tile=(256, 256), photometric="rgb", metadata=None, **size)
    model = make_stub()

    def call(**settings):
        asked = SegmentSettings(
            device="cpu", tissue="none", report=False, polygons=False, **settings
        )
        return segment_slide(path, tmp_path / "s.zarr", settings=asked, model=model)

    return call


def test_the_picture_is_made_on_request_also_of_a_complete_result(run, tmp_path):
    target = tmp_path / "s.png"
    first = run()
    assert not target.exists()
    again = run(overlay=True)
    assert again.reused
    run_id = first.attributes["run_id"]
    assert picture_run(target) == run_id
    with Image.open(target) as picture:
        assert picture.format == "PNG"
        assert picture.width > 700
    drawn = target.read_bytes()
    target.write_bytes(drawn[:-40])
    assert picture_state(target, first.attributes) == "torn"
    assert run(overlay=True).reused
    assert target.read_bytes() == drawn
    target.unlink()
    assert not run(overlay=True, force=True).reused
    assert target.read_bytes() == drawn
    assert picture_state(target, {"run_id": "0" * 32}) == "other"


def test_a_picture_that_is_not_ours_is_never_replaced(run, tmp_path):
    target = tmp_path / "s.png"
    Image.new("RGB", (8, 8)).save(target)
    before = target.read_bytes()
    for _ in ("anew", "of a complete result"):
        with pytest.raises(WsiError, match="not ours") as refused:
            run(overlay=True)
        assert refused.value.reason == "bad-input"
        assert target.read_bytes() == before
        run()
    link = tmp_path / "elsewhere.png"
    target.rename(link)
    target.symlink_to(link)
    with pytest.raises(WsiError, match="--overlay"):
        run(overlay=True)
    assert link.read_bytes() == before
