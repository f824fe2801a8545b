from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsi_sampath.slides.grid import (
    blend_profile,
    mask_rows,
    plan_grid,
    select_tiles,
    tile_starts,
    tile_step,
)
from wsi_sampath.slides.sampling import plan_sampling, snap_levels


def sampling(width=5000, height=3000, mpp=(0.5, 0.5), requested=0.5):
    return plan_sampling(snap_levels([(width, height)]), mpp, requested)


@given(
    first=st.integers(0, 50),
    length=st.integers(1, 3000),
    tile=st.integers(1, 400),
    data=st.data(),
)
def test_tiles_cover_and_stay_inside(first, length, tile, data):
    step = data.draw(st.integers(1, tile))
    starts = tile_starts(first, length, tile, step)
    covered = np.zeros(length, bool)
    for start in starts:
        covered[start - first : start - first + tile] = True
    assert covered.all()
    assert starts[0] == first
    assert all(0 < b - a <= step for a, b in zip(starts, starts[1:], strict=False))
    if length >= tile:
        assert starts[-1] + tile == first + length
    else:
        assert starts == (first,)


@given(tile=st.integers(1, 256), data=st.data())
def test_blend_profile_is_positive_and_adds_up(tile, data):
    overlap = data.draw(st.integers(0, tile - 1))
    profile = blend_profile(tile, overlap)
    assert (profile > 0).all()
    assert np.allclose(profile, profile[::-1])
    if 2 * overlap <= tile and overlap:
        joint = profile[-overlap:] + profile[:overlap]
        assert np.allclose(joint, 1, atol=1e-6)


def test_overlap_is_at_least_what_was_asked():
    assert tile_step(1024, 256, 4) == 192
    assert tile_step(1024, 255, 4) * 4 <= 1024 - 255
    assert tile_step(1024, 1023, 4) == 1


def test_region_grows_to_whole_output_pixels_and_is_cut_at_the_slide():
    grid = plan_grid(sampling(), tile=256, overlap=64, stride=4, region=(101, 50, 1000, 9999))
    window = grid.window
    assert (window.x, window.y) == (25, 12)
    assert window.x + window.width == 276
    assert window.y + window.height == grid.height
    assert grid.xs[0] == 25
    assert grid.xs[-1] + grid.tile == 276


def test_region_outside_is_empty():
    grid = plan_grid(sampling(), tile=256, overlap=0, stride=4, region=(6000, 0, 10, 10))
    assert grid.window.width == 0


@given(seed=st.integers(0, 1000), h=st.integers(1, 60), w=st.integers(1, 60))
def test_a_tile_is_selected_where_the_mask_has_anything_under_it(seed, h, w):
    grid = plan_grid(sampling(1500, 1100), tile=256, overlap=64, stride=4)
    mask = np.random.default_rng(seed).random((h, w)) < 0.05
    chosen = select_tiles(grid, mask).selected
    for row, y in enumerate(grid.ys):
        for column, x in enumerate(grid.xs):
            y0, y1 = y * h / grid.height, min(y + grid.tile, grid.height) * h / grid.height
            x0, x1 = x * w / grid.width, min(x + grid.tile, grid.width) * w / grid.width
            rows = slice(int(np.floor(y0 + 1e-9)), max(int(np.ceil(y1 - 1e-9)), int(y0) + 1))
            columns = slice(int(np.floor(x0 + 1e-9)), max(int(np.ceil(x1 - 1e-9)), int(x0) + 1))
            assert chosen[row, column] == mask[rows, columns].any()


def test_mask_rows_take_the_memory_of_their_rows_and_not_of_the_mask():
    mask = np.zeros((20_000, 200), bool)
    mask[::7, ::3] = True
    tracemalloc.start()
    mask_rows(mask, (50_000, 50_064), (0, 800), (80_000, 800))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3e6


def test_mask_rows_do_not_depend_on_the_cut():
    mask = np.random.default_rng(1).random((17, 23)) < 0.5
    whole = mask_rows(mask, (0, 200), (0, 300), (200, 300))
    parts = [
        np.concatenate(
            [mask_rows(mask, rows, columns, (200, 300)) for columns in ((0, 111), (111, 300))], 1
        )
        for rows in ((0, 3), (3, 77), (77, 200))
    ]
    assert np.array_equal(np.concatenate(parts), whole)
    assert 0.3 < whole.mean() < 0.7


@pytest.mark.parametrize("value", [True, False])
def test_mask_rows_of_a_constant_mask(value):
    assert (mask_rows(np.full((3, 4), value), (0, 9), (2, 8), (9, 11)) == value).all()


def test_strip_rows_partition_the_window():
    grid = plan_grid(sampling(), tile=256, overlap=100, stride=4, region=(400, 800, 2000, 1111))
    spans = [grid.strip_rows(row) for row in range(len(grid.ys))]
    assert spans[0][0] == grid.window.y
    assert spans[-1][1] == grid.window.y + grid.window.height
    assert all(a[1] == b[0] for a, b in zip(spans, spans[1:], strict=False))
