from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsi_sampath.slides.sampling import plan_sampling, snap_levels


def test_levels_cut_by_the_scanner_snap_to_whole_downsamples():
    levels = snap_levels([(46001, 32893), (11500, 8223), (2875, 2055)])
    assert [level.downsample_x for level in levels] == [1, 4, 16]
    assert [level.downsample_y for level in levels] == [1, 4, 16]


def test_odd_downsamples_are_kept():
    levels = snap_levels([(1000, 1000), (300, 300)])
    assert levels[1].downsample_x == pytest.approx(10 / 3)


LEVELS = snap_levels([(80000, 60000), (20000, 15000), (5000, 3750)])


@pytest.mark.parametrize(
    ("mpp", "requested", "level", "factor"),
    [
        (0.25, 0.25, 0, 1),
        (0.2525, 0.5, 0, 2),
        (0.25, 1.0, 1, 1),
        (0.2525, 1.0, 1, 1),
        (0.25, 8.0, 2, 2),
        (0.5, 0.25, 0, 0.5),
    ],
)
def test_nearest_better_level(mpp, requested, level, factor):
    plan = plan_sampling(LEVELS, (mpp, mpp), requested)
    assert (plan.level, plan.factor_x) == (level, pytest.approx(factor, rel=0.021))


def test_axes_are_kept_apart():
    plan = plan_sampling(LEVELS, (0.25, 0.3), 0.75)
    assert plan.mpp_x == pytest.approx(0.75)
    assert plan.mpp_y == pytest.approx(0.75)
    assert plan.zoom_x == pytest.approx(3)
    assert plan.zoom_y == pytest.approx(2.5)
    assert (plan.width, plan.height) == (26667, 24000)


def test_a_level_that_is_coarse_on_one_axis_is_not_used():
    assert plan_sampling(LEVELS, (0.25, 0.4), 1.0).level == 0


@given(mpp_x=st.floats(0.1, 2), mpp_y=st.floats(0.1, 2), requested=st.floats(0.1, 10))
def test_plane_covers_the_slide_and_effective_mpp_is_near(mpp_x, mpp_y, requested):
    plan = plan_sampling(LEVELS, (mpp_x, mpp_y), requested)
    assert plan.mpp_x == pytest.approx(requested, rel=0.0205)
    assert plan.mpp_y == pytest.approx(requested, rel=0.0205)
    assert plan.width * plan.zoom_x + 0.01 * plan.zoom_x >= 80000
    assert plan.width * plan.zoom_x < 80000 + plan.zoom_x * 1.01
    finer = [
        level
        for level in LEVELS
        if max(mpp_x * level.downsample_x, mpp_y * level.downsample_y) <= requested
    ]
    if finer:
        assert LEVELS[plan.level].downsample_x >= max(level.downsample_x for level in finer)
