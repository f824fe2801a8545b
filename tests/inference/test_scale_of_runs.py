"""Settings within bounds, and what a run says of a slide that is too coarse for its network."""

from __future__ import annotations

import math

import numpy as np
import pytest
from stub_network import make_stub

from wsi_sampath.errors import UsageError
from wsi_sampath.inference.plan import plan_run
from wsi_sampath.inference.segmenter import segment_slide
from wsi_sampath.inference.settings import SegmentSettings
from wsi_sampath.slides.slide import Slide
from wsi_sampath.synthetic.svs_writer import write_svs

PIXELS = np.random.default_rng(0).integers(60, 220, (256, 512, 3), np.uint8)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("mpp", value) for value in (1e300, 1e-300, math.nan, math.inf, 0, -1)),
        *(("output_mpp", value) for value in (1e300, 1e-300, math.nan, math.inf)),
        *(("tile", value) for value in (10**9, 10**400, 0, -64)),
        *(("overlap", value) for value in (10**9, -1)),
        *(("min_area_um2", value) for value in (math.inf, math.nan, 1e300, -1)),
        *(("simplify_um", value) for value in (math.inf, math.nan, 1e300, -1)),
        *(("workers", value) for value in (10**9, 0)),
        *(("batch_size", value) for value in (10**9, 0)),
        *(("max_bad_tiles", value) for value in (math.nan, math.inf, 2)),
        *(("region", (0, 0, value, 5)) for value in (1e308, math.inf, math.nan, 0)),
        *(("region", (value, 0, 5, 5)) for value in (1e308, math.inf, math.nan, -1)),
        *(("slide_mpp", (value, 0.5)) for value in (1e300, math.inf, math.nan, 0)),
    ],
)
def test_absurd_settings_are_one_line(name, value):
    with pytest.raises(UsageError, match=f"setting {name}") as caught:
        SegmentSettings.build({name: value})
    assert "\n" not in caught.value.line()


def test_usual_settings_are_within_the_bounds():
    values = {
        "mpp": 0.1,
        "output_mpp": 64.0,
        "tile": 8192,
        "overlap": 4000,
        "workers": 256,
        "batch_size": 1024,
        "region": (3e5, 2e5, 1e6, 1e6),
        "min_area_um2": 1e8,
        "simplify_um": 100.0,
    }
    built = SegmentSettings.build(values)
    assert {name: getattr(built, name) for name in values} == values


def slide_at(folder, mpp: float):
    path = folder / "a.svs"
    write_svs(path, [PIXELS], width=512, height=256, mpp=mpp, levels=(1,))
    return path


@pytest.mark.parametrize(
    ("slide_mpp", "asked", "factor"),
    [
        (1.0, None, "2"),
        (0.75, None, "1.5"),
        (0.5, 0.25, "2"),
        (0.54, None, None),
        (0.25, None, None),
    ],
)
def test_a_slide_coarser_than_the_network_needs_is_warned_with_the_factor(
    tmp_path, slide_mpp, asked, factor
):
    settings = SegmentSettings.build({"tissue": "none", "mpp": asked})
    with Slide.open(slide_at(tmp_path, slide_mpp)) as slide:
        plan = plan_run(slide, make_stub(mpp=0.5).spec, settings)
    said = [one for one in plan.warnings if "enlarged" in one]
    assert len(said) == (factor is not None)
    if factor is not None:
        assert f"enlarged {factor} times" in said[0]


def test_the_result_names_what_states_the_scale_and_keeps_the_warnings(tmp_path):
    settings = SegmentSettings.build({"tissue": "none", "device": "cpu", "report": False})
    made = segment_slide(
        slide_at(tmp_path, 1.0), tmp_path / "a.zarr", settings=settings, model=make_stub(mpp=0.5)
    )
    assert made.attributes["mpp"]["source"] == "metadata"
    assert made.attributes["mpp"]["stated_by"] == "Aperio description"
    assert any("enlarged 2 times" in one for one in made.attributes["warnings"])
