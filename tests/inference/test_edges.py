"""Nothing of a result reaches past the slide, whose edges seldom fall between pixels of the map."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import shapely
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import shape
from stub_network import make_stub

from wsi_sampath.inference.plan import plan_run
from wsi_sampath.inference.segmenter import segment_slide
from wsi_sampath.inference.settings import SegmentSettings
from wsi_sampath.inference.summary import level0_box
from wsi_sampath.slides.slide import Slide
from wsi_sampath.slides.stream import Tile


def coloured_slide(path: Path, width: int, height: int, mpp: float = 0.5) -> Path:
    """A slide in stripes of colour, without glass."""
    rgb = np.zeros((height, width, 3), np.uint8)
    rgb[...] = (190, 120, 170)
    rgb[:, ::3] = (120, 60, 140)
    rgb[height // 2 :, width // 2 :] = (230, 180, 200)
    per_cm = 10_000 / mpp
    tifffile.imwrite(
        path,
        rgb,
        tile=(256, 256),
        photometric="rgb",
        metadata=None,
        resolution=(per_cm, per_cm),
        resolutionunit="CENTIMETER",
    )
    return path


def run(slide: Path, **values):
    settings = {"device": "cpu", "workers": 1, "tissue": "none", "report": False, **values}
    return segment_slide(
        slide,
        slide.with_suffix(".zarr"),
        settings=SegmentSettings.build(settings),
        model=make_stub(),
    )


@pytest.mark.parametrize(
    ("width", "height", "mpp"),
    [(1024, 768, 0.5), (1025, 769, 0.5), (1023, 767, 0.5), (1101, 530, 0.2271), (700, 901, 0.61)],
)
def test_the_areas_of_a_slide_analysed_throughout_are_its_area(tmp_path, width, height, mpp):
    made = run(coloured_slide(tmp_path / "s.tif", width, height, mpp)).attributes
    area = width * height * mpp**2 * 1e-6
    assert made["coverage"]["slide_mm2"] == pytest.approx(area)
    assert made["coverage"]["analysed_mm2"] == pytest.approx(area)
    assert sum(made["polygon_area_mm2"].values()) == pytest.approx(area, rel=1e-3)


@pytest.mark.parametrize(("width", "height"), [(1025, 769), (1023, 767), (517, 1301)])
def test_polygons_end_at_the_edge_of_the_slide(tmp_path, width, height):
    made = run(coloured_slide(tmp_path / "s.tif", width, height))
    features = json.loads(made.geojson.read_bytes())["features"]
    shapes = [shape(feature["geometry"]) for feature in features]
    assert shapely.is_valid(shapes).all()
    assert shapely.total_bounds(shapes).tolist() == [0, 0, width, height]
    assert shapely.area(shapely.union_all(shapes)) == pytest.approx(width * height)


def test_a_region_at_the_lower_right_ends_there_too(tmp_path):
    slide = coloured_slide(tmp_path / "s.tif", 1025, 769)
    made = run(slide, region=(800, 600, 400, 400)).attributes
    assert made["coverage"]["analysed_mm2"] == pytest.approx(225 * 169 * 0.25e-6)


@pytest.mark.parametrize(("width", "height"), [(700, 530), (1025, 769), (200, 90)])
def test_tiles_are_located_on_the_slide(tmp_path, width, height):
    settings = SegmentSettings(device="cpu", tissue="none")
    with Slide.open(coloured_slide(tmp_path / "s.tif", width, height)) as slide:
        plan = plan_run(slide, make_stub().spec, settings)
    last = Tile(len(plan.grid.ys) - 1, len(plan.grid.xs) - 1)
    x, y, w, h = level0_box(plan, last)
    assert (x + w, y + h) == (width, height)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    size=st.tuples(st.integers(150, 900), st.integers(150, 700)),
    mpp=st.sampled_from([(0.25, 0.25), (0.5, 0.35), (0.23, 0.44), (1.7, 1.722)]),
    output_mpp=st.sampled_from([None, 0.5, 4.0, 16.0]),
    corner=st.tuples(st.floats(0, 0.6), st.floats(0, 0.6)) | st.none(),
    min_area=st.sampled_from([0.0, 500.0]),
    simplify=st.sampled_from([0.0, 5.0]),
)
def test_no_settings_make_more_of_a_slide_than_there_is(
    tmp_path_factory, size, mpp, output_mpp, corner, min_area, simplify
):
    width, height = size
    region = None
    if corner is not None:
        region = (corner[0] * width, corner[1] * height, 0.7 * width, 0.7 * height)
    made = run(
        coloured_slide(tmp_path_factory.mktemp("any") / "s.tif", width, height),
        slide_mpp=mpp,
        output_mpp=output_mpp,
        region=region,
        min_area_um2=min_area,
        simplify_um=simplify,
    )
    coverage, areas = made.attributes["coverage"], made.attributes["area_mm2"]
    assert coverage["slide_mm2"] == pytest.approx(width * height * mpp[0] * mpp[1] * 1e-6)
    assert coverage["analysed_mm2"] == pytest.approx(sum(areas.values()))
    assert coverage["analysed_mm2"] <= coverage["slide_mm2"] * (1 + 1e-9)
    features = json.loads(made.geojson.read_bytes())["features"]
    shapes = [shape(feature["geometry"]) for feature in features]
    if shapes:
        left, top, right, bottom = shapely.total_bounds(shapes)
        assert min(left, top) >= 0
        assert right <= width
        assert bottom <= height
    if not (min_area or simplify):
        drawn = shapely.area(shapes).sum() * mpp[0] * mpp[1] * 1e-6
        assert drawn == pytest.approx(coverage["analysed_mm2"], rel=5e-3)
