from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wsi_sampath.inference.blend import StripBlender
from wsi_sampath.inference.semantic import ClassReading
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
    """Blend answers; return uint8 probabilities and labels of the window."""
    blender = StripBlender(grid, ClassReading(3))
    strips = []
    for row in range(len(grid.ys)):
        columns = list(grid.strip_columns(row))
        if shuffle is not None:
            shuffle.shuffle(columns)
        for column in columns:
            blender.add(row, column, torch.from_numpy(answers[row, column]))
        first, last = grid.strip_rows(row)
        everything = np.ones((last - first, grid.window.width), bool)
        strips.append(blender.finish_row(row, everything))
    assert [strip.y for strip in strips] == list(grid.ys)
    probabilities = np.concatenate([strip.planes["probabilities"] for strip in strips], 1)
    return probabilities, np.concatenate([strip.planes["labels"] for strip in strips])


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
    probabilities, labels = blend(grid, answers)
    want, covered = dense(grid, answers)
    assert np.array_equal(labels > 0, covered)
    assert np.abs(probabilities - want * 255).max() <= 0.5 + 1e-3
    sure = covered & (np.diff(np.sort(want, axis=0)[-2:], axis=0)[0] > 1e-5)
    assert np.array_equal(labels[sure], (want.argmax(0) + 1)[sure])


@given(grid=grids(), value=st.floats(0, 1, width=32))
@settings(max_examples=150, deadline=None)
def test_constant_in_constant_out(grid, value):
    answers = {
        (row, column): np.full((3, grid.tile, grid.tile), value, np.float32)
        for row, column in np.argwhere(grid.selected)
    }
    probabilities, labels = blend(grid, answers)
    assert np.abs(probabilities[:, labels > 0] - value * 255.0).max(initial=0) <= 0.5 + 1e-3
    assert (probabilities[:, labels == 0] == 0).all()
    if grid.selected.all():
        assert labels.all()


@given(grid=grids(), seed=st.integers(0, 9))
@settings(max_examples=50, deadline=None)
def test_order_within_a_row_changes_nothing(grid, seed):
    answers = answer_at_random(grid, seed)
    plain, _ = blend(grid, answers)
    shuffled, _ = blend(grid, answers, shuffle=np.random.default_rng(seed))
    assert np.abs(plain.astype(int) - shuffled).max() <= 1


def test_only_tissue_is_kept():
    grid = TileGrid(8, 4, Box(0, 0, 8, 4), 4, 4, 1, (0, 4), (0,), np.array([[True, True]]))
    blender = StripBlender(grid, ClassReading(2))
    for column in range(2):
        blender.add(0, column, torch.full((2, 4, 4), 0.5))
    tissue = np.zeros((4, 8), bool)
    tissue[1:3, 2:6] = True
    rows = blender.finish_row(0, tissue)
    assert np.array_equal(rows.planes["labels"] > 0, tissue)
    assert np.array_equal(rows.planes["score"] > 0, tissue)
    assert np.array_equal(rows.planes["probabilities"][1] > 0, tissue)


def test_memory_is_one_tile_high():
    def held_bytes(height, n_rows):
        ys = tile_starts(0, height, 16, 12)
        chosen = np.ones((len(ys), 1), bool)
        grid = TileGrid(100, height, Box(0, 0, 100, height), 16, 12, 1, (0,), ys, chosen)
        blender = StripBlender(grid, ClassReading(2))
        for row in range(n_rows):
            blender.add(row, 0, torch.full((2, 16, 16), 0.5))
            blender.finish_row(row, np.ones((12, 100), bool))
        tensors = [value for value in vars(blender).values() if isinstance(value, torch.Tensor)]
        return sum(tensor.nbytes for tensor in tensors)

    sums, weights, profile = 2 * 16 * 100 * 4, 16 * 100 * 4, 16 * 16 * 4
    assert held_bytes(10**6, 50) == held_bytes(10**3, 1) <= sums + weights + profile


def test_the_size_of_a_carry_is_known_before_it_is_made():
    ys = tile_starts(0, 100, 16, 12)
    grid = TileGrid(20, 100, Box(0, 0, 20, 100), 16, 12, 1, (0,), ys, np.ones((len(ys), 1), bool))
    blender = StripBlender(grid, ClassReading(2))
    for row in range(len(ys) - 2):
        blender.add(row, 0, torch.full((2, 16, 16), 0.5))
        blender.finish_row(row, np.ones((12, 20), bool))
        assert sum(part.nbytes for part in blender.carry()) == blender.carried_bytes
