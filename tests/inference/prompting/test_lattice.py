"""Which square of a slide answers, and that two views of it lie on each other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsi_sampath.inference.prompting.lattice import (
    FITS,
    Square,
    coarser,
    concentric,
    plan_lattice,
)
from wsi_sampath.slides.grid import Box
from wsi_sampath.slides.sampling import snap_levels

SIDE = 256
slides = st.builds(
    lambda width, height, divisors: tuple(
        snap_levels([(width // by, height // by) for by in (1, *divisors)])
    ),
    st.integers(40, 5000),
    st.integers(40, 5000),
    st.sampled_from([(), (2,), (4,), (2, 4, 8), (4, 16)]),
)
mpps = st.floats(0.1, 0.6)


def lattice_of(levels, mpp, factor=1, side=SIDE):
    return plan_lattice(levels, (mpp, mpp), model_mpp=0.5, side=side, factor=factor)


@settings(max_examples=60, deadline=None)
@given(slides, mpps, st.sampled_from([1, 2, 4]), st.data())
def test_what_fits_lies_in_the_square_that_answers(levels, mpp, factor, data):
    lattice = lattice_of(levels, mpp, factor)
    size = np.array([levels[0].width, levels[0].height])
    longest = SIDE * FITS * lattice.plane.zoom_x
    first = np.array([data.draw(st.floats(0, float(each) - 1)) for each in size])
    extent = np.array([data.draw(st.floats(0, longest)) for _ in range(2)])
    last = np.minimum(first + extent, size)
    square = lattice.nearest((first + last) / 2)
    corner = np.array([square.x, square.y])
    assert (lattice.to_plane(first) >= corner).all()
    assert (lattice.to_plane(last) <= corner + SIDE + 1e-6).all()
    assert square.y % 4 == square.x % 4 == 0


@settings(max_examples=60, deadline=None)
@given(slides, mpps, st.sampled_from([1, 2]), st.data())
def test_both_views_show_the_same_places(levels, mpp, factor, data):
    """HR and LR px of one place: x / 2 + a quarter of the frame, on planes exactly 2 apart."""
    lattice = lattice_of(levels, mpp, factor)
    wide = coarser(lattice.plane, levels, 2)
    middle = np.array(
        [data.draw(st.floats(0, float(each))) for each in (levels[0].width, levels[0].height)]
    )
    square = lattice.nearest(middle)
    y, x = concentric(square, SIDE, 2)
    on_slide = np.array([lattice.plane.zoom_x, lattice.plane.zoom_y])
    for place in ([0.0, 0.0], [SIDE / 3, SIDE / 7], [SIDE, SIDE]):
        near = (np.array(place) + [square.x, square.y]) * on_slide
        far = (np.array(place) / 2 + SIDE / 4 + [x, y]) * [wide.zoom_x, wide.zoom_y]
        np.testing.assert_allclose(far, near, atol=1e-6)


def test_a_plane_and_the_coarser_one_never_drift_apart():
    """By its own mpp the coarser plane would snap to whole pixels, and end 2 % off."""
    levels = snap_levels([(9000, 6000), (2250, 1500)])
    lattice = plan_lattice(levels, (0.253, 0.253), model_mpp=1.0, side=64, factor=1)
    assert lattice.plane.zoom_x == 4
    assert coarser(lattice.plane, levels, 2).zoom_x == 8
    assert coarser(lattice.plane, levels, 2).level == 1


def test_squares_of_a_region_answer_for_each_of_its_points():
    levels = snap_levels([(3000, 2000)])
    lattice = plan_lattice(levels, (0.5, 0.5), model_mpp=0.5, side=SIDE, factor=1)
    squares = lattice.covering(Box(700, 300, 900, 600))
    rng = np.random.default_rng(0)
    answering = {lattice.nearest(place) for place in rng.uniform((700, 300), (1600, 900), (500, 2))}
    assert answering <= set(squares)
    assert len(squares) <= len(answering) + 2 * (900 + 600) // lattice.step + 4


def test_the_whole_slide_is_one_square_where_it_is_smaller():
    levels = snap_levels([(200, 90)])
    lattice = lattice_of(levels, 0.5)
    assert lattice.covering(Box(0, 0, 200, 90)) == (Square(1, 0, 0),)
    assert lattice.cut_edges(Square(1, 0, 0)) == (False,) * 4


@pytest.mark.parametrize("place", [(0, 0), (2999, 1999), (1500, 1000)])
def test_squares_do_not_reach_over_the_edge(place):
    levels = snap_levels([(3000, 2000)])
    square = lattice_of(levels, 0.5).nearest(np.array(place, float))
    assert 0 <= square.x <= 3000 - SIDE + 3
    assert 0 <= square.y <= 2000 - SIDE + 3
