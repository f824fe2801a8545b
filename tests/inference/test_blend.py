from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from wsi_sampath.inference.blend import StripBlender
from wsi_sampath.slides.grid import Box, TileGrid, blend_profile, tile_starts


@st.composite
def grids(draw):
    """Any overlap, ragged edges, sparse tiles, windows, planes smaller than a tile."""
    tile = draw(st.integers(1, 24))
    step = draw(st.integers(1, tile))
    width, height = draw(st.integers(1, 70)), draw(st.integers(1, 70))
    x, y = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    window = Box(x, y, draw(st.integers(1, width - x)), draw(st.integers(1, height - y)))
    xs = tile_starts(window.x, window.width, tile, step)
    ys = tile_starts(window.y, window.height, tile, step)
    seed = draw(st.integers(0, 999))
    chosen = np.random.default_rng(seed).random((len(ys), len(xs))) < draw(
        st.sampled_from([0.3, 0.8, 1.0])
    )
    return TileGrid(width, height, window, tile, step, 1, xs, ys, chosen)


def blend(grid, answers, shuffle=None):
    blender = StripBlender(grid, 3)
    strips = []
    for row in range(len(grid.ys)):
        columns = list(grid.strip_columns(row))
        if shuffle is not None:
            shuffle.shuffle(columns)
        for column in columns:
            blender.add(row, column, answers[row, column])
        strips.append(blender.finish_row(row))
    assert [strip.y for strip in strips] == list(grid.ys)
    probabilities = np.concatenate([strip.probabilities for strip in strips], 1)
    return probabilities, np.concatenate([strip.covered for strip in strips])


def answer_at_random(grid, seed):
    rng = np.random.default_rng(seed)
    return {
        (row, column): rng.random((3, grid.tile, grid.tile), np.float32)
        for row, column in np.argwhere(grid.selected)
    }


def dense(grid, answers):
    """sum(w p) / sum(w) in float64 over the whole plane at once."""
    size = grid.height + grid.tile, grid.width + grid.tile
    sums, weights = np.zeros((3, *size)), np.zeros(size)
    profile = blend_profile(grid.tile, grid.tile - grid.step).astype(np.float64)
    weight = profile[:, None] * profile
    for (row, column), answer in answers.items():
        y, x = grid.ys[row], grid.xs[column]
        place = np.s_[y : y + grid.tile, x : x + grid.tile]
        sums[:, *place] += weight * answer
        weights[place] += weight
    box = grid.window
    place = np.s_[box.y : box.y + box.height, box.x : box.x + box.width]
    weights = weights[place]
    with np.errstate(invalid="ignore"):
        return np.where(weights > 0, sums[:, *place] / weights, 0), weights > 0


@given(grid=grids(), seed=st.integers(0, 9))
@settings(max_examples=150, deadline=None)
def test_equals_the_dense_reference(grid, seed):
    answers = answer_at_random(grid, seed)
    probabilities, covered = blend(grid, answers)
    want, want_covered = dense(grid, answers)
    assert np.array_equal(covered, want_covered)
    assert np.abs(probabilities - want).max() < 1e-5


@given(grid=grids(), value=st.floats(0, 1, width=32))
@settings(max_examples=150, deadline=None)
def test_constant_in_constant_out(grid, value):
    answers = {
        (row, column): np.full((3, grid.tile, grid.tile), value, np.float32)
        for row, column in np.argwhere(grid.selected)
    }
    probabilities, covered = blend(grid, answers)
    assert np.allclose(probabilities[:, covered], value, atol=1e-6)
    assert (probabilities[:, ~covered] == 0).all()
    if grid.selected.all():
        assert covered.all()


@given(grid=grids(), seed=st.integers(0, 9))
@settings(max_examples=50, deadline=None)
def test_order_within_a_row_changes_nothing(grid, seed):
    answers = answer_at_random(grid, seed)
    plain, _ = blend(grid, answers)
    shuffled, _ = blend(grid, answers, shuffle=np.random.default_rng(seed))
    assert np.abs(plain - shuffled).max() < 1e-6


def test_memory_is_one_tile_high():
    ys = tile_starts(0, 10**6, 16, 12)
    grid = TileGrid(
        100, 10**6, Box(0, 0, 100, 10**6), 16, 12, 1, (0,), ys, np.zeros((len(ys), 1), bool)
    )
    assert StripBlender(replace(grid), 2)._sums.shape == (2, 16, 100)
