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
from wsi_sampath.outputs.report.region import REGION


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


def test_the_region_is_in_pictures_of_a_run_and_in_those_made_later(run, tmp_path):
    target = tmp_path / "s.png"
    run(overlay=True)
    assert not box_in(target).any()
    run(overlay=True, force=True, region=(140.0, 100.0, 280.0, 250.0))
    drawn, found = target.read_bytes(), box_in(target)
    rows, columns = (np.flatnonzero(found.any(axis=axis)) for axis in (1, 0))
    assert (columns[-1] - columns[0]) / (rows[-1] - rows[0]) == pytest.approx(280 / 250, rel=0.05)
    target.unlink()
    assert run(overlay=True, region=(140.0, 100.0, 280.0, 250.0)).reused
    assert target.read_bytes() == drawn


def box_in(target):
    """Return where the box of a region is in a picture, bool (h, w), without the legend."""
    with Image.open(target) as picture:
        found = (np.asarray(picture.convert("RGB")) == REGION).all(2)
    found[-60:] = False
    return found


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
