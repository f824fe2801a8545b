"""Tiles are left out only where others answer for their tissue."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsi_sampath.slides.grid import mask_rows, plan_grid, select_tiles
from wsi_sampath.slides.sampling import plan_sampling, snap_levels
from wsi_sampath.slides.spare import choose_tiles


def plan_of(width, height, *, tile, overlap, stride=1, region=None):
    sampling = plan_sampling(snap_levels([(width, height)]), (0.5, 0.5), 0.5)
    return plan_grid(sampling, tile=tile, overlap=overlap, stride=stride, region=region)


def answered(grid):
    """Return the pixels of the plane that lie in a selected tile."""
    held = np.zeros((grid.height + grid.tile, grid.width + grid.tile), bool)
    for row, column in np.argwhere(grid.selected):
        y, x = grid.ys[row], grid.xs[column]
        held[y : y + grid.tile, x : x + grid.tile] = True
    return held[: grid.height, : grid.width]


def shown(grid, mask):
    """Return the pixels of the plane that a run counts as tissue."""
    plane = (grid.height, grid.width)
    return mask_rows(mask, (0, grid.height), (0, grid.width), plane)


@st.composite
def plans(draw):
    """Ragged planes, any overlap and region, blobs and specks of tissue on any coarser mask."""
    width, height = draw(st.integers(20, 400)), draw(st.integers(20, 400))
    stride = draw(st.sampled_from([1, 2, 4]))
    tile = stride * draw(st.integers(4, 40))
    overlap = draw(st.integers(0, tile - 1))
    region = draw(st.sampled_from([None, (width / 5, height / 7, width / 2, height / 2)]))
    grid = plan_of(width, height, tile=tile, overlap=overlap, stride=stride, region=region)
    cells = (draw(st.integers(1, grid.height)), draw(st.integers(1, grid.width)))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    y, x = np.mgrid[: cells[0], : cells[1]] / np.reshape(cells, (2, 1, 1))
    blob = np.hypot(y - rng.random(), x - rng.random()) < draw(st.sampled_from([0, 0.2, 0.5]))
    return grid, blob | (rng.random(cells) < draw(st.sampled_from([0, 0.01, 0.5])))


@given(plan=plans(), below=st.sampled_from([0.0, 0.05, 0.25, 1.0]))
@settings(max_examples=60, deadline=None)
def test_no_tissue_is_left_without_an_answer(plan, below):
    grid, mask = plan
    chosen = choose_tiles(grid, mask, spare_below=below)
    assert not (shown(grid, mask) & answered(grid) & ~answered(chosen)).any()
    if not below:
        assert (chosen.selected | ~select_tiles(grid, mask).selected).all()


def test_a_tile_goes_that_touches_tissue_in_its_overlap_alone():
    grid = plan_of(176, 64, tile=64, overlap=16)
    mask = np.zeros((64, 176), bool)
    mask[:, 10:61] = True
    assert grid.xs == (0, 48, 96, 112)
    assert select_tiles(grid, mask).selected.tolist() == [[True, True, False, False]]
    assert choose_tiles(grid, mask, spare_below=0.25).selected.tolist() == [[True] + 3 * [False]]


@pytest.mark.parametrize(
    ("below", "tissue_to", "kept"),
    [
        (0.2, 61, [True, True]),
        (0.25, 65, [True, True]),
        (1.0, 176, [True, True]),
        (0.0, 49, [True, True]),
    ],
    ids=["as much as stated", "a column of its own", "full", "switched off"],
)
def test_a_tile_stays(below, tissue_to, kept):
    mask = np.zeros((64, 176), bool)
    mask[:, 10:tissue_to] = True
    chosen = choose_tiles(plan_of(176, 64, tile=64, overlap=16), mask, spare_below=below)
    assert chosen.selected[0, :2].tolist() == kept


def test_of_two_tiles_that_hold_the_same_tissue_one_stays():
    grid = plan_of(112, 64, tile=64, overlap=16)
    mask = np.zeros((64, 112), bool)
    mask[30:34, 50:60] = True
    assert select_tiles(grid, mask).selected.all()
    assert choose_tiles(grid, mask, spare_below=0.25).n_tiles == 1


def test_all_of_a_slide_is_run_where_no_tissue_is_looked_for():
    grid = plan_of(300, 200, tile=64, overlap=48)
    assert choose_tiles(grid, np.ones((1, 1), bool), spare_below=1.0).selected.all()
