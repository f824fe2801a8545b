"""Whether what somebody drew is of the slide."""

from __future__ import annotations

import numpy as np
import shapely

from wsi_sampath.slides.regions.annotations import Annotation
from wsi_sampath.slides.regions.drawn import glass_notes, outside_notes


def areas(*boxes):
    return [Annotation("Tumor", None, shapely.box(*box)) for box in boxes]


def test_areas_outside_of_the_slide_are_counted():
    drawn = areas((0, 0, 10, 10), (-10, -20, -1, -5), (900, 0, 1000, 90), (2000, 0, 2010, 10))
    outside, partly = outside_notes(drawn, (950, 500), (0.0, 0.0))
    assert outside.startswith("2 of 4 areas lie outside the slide (950 x 500 px)")
    assert partly.startswith("1 of 4 areas lies partly outside the slide")


def test_a_slip_over_the_edge_and_the_bounds_of_a_slide_are_no_fault():
    drawn = areas((-15, -15, 100, 100), (900, 400, 1015, 510))
    assert outside_notes(drawn, (1000, 500), (0.0, 0.0)) == ()
    assert outside_notes(areas((-900, 0, -800, 50)), (1000, 500), (900.0, 0.0)) == ()


def test_drawings_on_glass_are_told_and_generous_ones_are_not():
    tissue, drawn = np.zeros((2, 100, 100), bool)
    tissue[40:60, 40:60] = True
    assert glass_notes(drawn, tissue) == ()
    drawn[:20, :20] = True
    assert "only 0 % of what was drawn looks like tissue" in glass_notes(drawn, tissue)[0]
    drawn[:] = True
    assert glass_notes(drawn, tissue) == ()
    drawn[:] = False
    drawn[42:45, 30:50] = True
    assert glass_notes(drawn, tissue) == ()
