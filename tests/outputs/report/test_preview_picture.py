"""The picture of a plan shows its tissue, tiles and region where they are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsi_sampath.outputs.report import preview
from wsi_sampath.outputs.report.preview import (
    TILES,
    TISSUE,
    UNKNOWN,
    PlannedArea,
    covered,
    draw_preview,
)
from wsi_sampath.outputs.report.region import REGION

WHITE = np.full((400, 600, 3), 255, np.uint8)


def area(**changes):
    tissue = np.zeros((40, 60), bool)
    tissue[10:30, 10:30] = True
    known = {
        "tissue": tissue,
        "unknown": None,
        "tiles": np.array([[0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0]]),
        "region": None,
        "tissue_mm2": 0.25,
        "all_tiles": 4,
    }
    return PlannedArea(**{**known, **changes})


def drawn(planned, rgb=WHITE):
    sheet = np.asarray(draw_preview(rgb, planned, title="", um_per_px=None))
    return sheet[: len(rgb)]


def is_of(picture, colour):
    return (picture == colour).all(2)


def test_everything_is_where_it_is():
    unknown = np.zeros((4, 6), bool)
    unknown[3, 0] = True
    region = np.array([0.1, 0.1, 0.9, 0.8])
    picture = drawn(area(unknown=unknown, region=region))
    assert is_of(picture, TISSUE)[100, 150:250].all()
    assert not is_of(picture, TISSUE)[:99].any()
    assert is_of(picture, TILES)[0, 10:299].all()
    assert is_of(picture, TILES)[200, 310:530].all()
    assert 0.3 < is_of(picture, UNKNOWN)[302:398, 2:98].mean() < 0.7
    assert not is_of(picture, UNKNOWN)[:299].any()
    assert is_of(picture, REGION)[36:40, 62:500].all()
    assert not is_of(picture, REGION)[40:320, 60:540].any(), "it hides nothing of the region"


def test_very_many_tiles_are_drawn_as_what_they_cover(monkeypatch):
    few = is_of(drawn(area()), TILES)
    monkeypatch.setattr(preview, "_MOST_BOXES", 1)
    union = is_of(drawn(area()), TILES)
    assert few[0, 10:290].all()
    assert union[199, 10:290].all(), "the border of what is covered"
    assert not union[0, 10:290].any(), "the frame is no border"


def test_tiles_of_a_few_pixels_are_drawn_as_what_they_cover():
    edges = np.arange(100) / 100
    tiles = np.stack([edges, edges * 0, edges + 0.01, edges * 0 + 0.5], axis=1)
    assert is_of(drawn(area(tiles=tiles)), TILES)[100].sum() == 0


def test_a_slide_without_a_plan_is_shown_alone():
    assert np.array_equal(drawn(None), WHITE)


@pytest.mark.parametrize("size", [(1600, 1), (3, 4)])
def test_odd_sizes_can_be_drawn(size):
    rgb = np.full((*size, 3), 200, np.uint8)
    assert draw_preview(rgb, area(), title="a\nb", um_per_px=2.0).width >= 1


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(*[st.integers(0, 10)] * 4).filter(lambda b: b[0] < b[2] and b[1] < b[3]),
        max_size=6,
    )
)
def test_the_union_is_that_of_the_boxes(boxes):
    expected = np.zeros((10, 10), bool)
    for left, top, right, bottom in boxes:
        expected[top:bottom, left:right] = True
    shares = np.array(boxes, float).reshape(-1, 4) / 10
    assert np.array_equal(covered(shares, 10, 10), expected)
