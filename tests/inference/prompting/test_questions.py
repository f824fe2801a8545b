"""What was drawn, as a network is asked for it."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
import torch

from wsi_sampath.inference.prompting.lattice import Square, plan_lattice
from wsi_sampath.inference.prompting.questions import (
    Unanswerable,
    in_frame,
    mask_logits,
    place,
)
from wsi_sampath.prompt_files.prompt import Prompt
from wsi_sampath.slides.sampling import snap_levels

SIZE = (4000, 3000)
LATTICES = [
    plan_lattice(snap_levels([SIZE]), (0.25, 0.25), model_mpp=0.25, side=256, factor=factor)
    for factor in (1, 2, 4, 8, 16)
]


def point(x, y, label=1):
    return Prompt(id="", points=np.array([[x, y]], float), labels=np.array([label]))


def test_a_point_is_asked_for_where_it_was_set():
    """SAM adds half a pixel of the frame to every point."""
    square = Square(1, 128, 256)
    asked = in_frame(point(256 + 10.25, 128 + 20.5), square, LATTICES[0], frame=512, mask_side=64)
    assert asked.points.tolist() == [[[20.0, 40.5]]]
    assert asked.labels.tolist() == [[1]]
    assert asked.boxes is None
    assert asked.masks is None


def test_a_coarser_square_asks_in_its_own_pixels():
    asked = in_frame(point(1000, 600), Square(4, 100, 200), LATTICES[2], frame=256, mask_side=64)
    assert asked.points.tolist() == [[[1000 / 4 - 200 - 0.5, 600 / 4 - 100 - 0.5]]]


def test_an_outline_is_a_box_and_a_mask():
    outline = shapely.Polygon([(300, 200), (360, 200), (360, 280), (300, 280)])
    prompt = Prompt(id="", outline=outline)
    asked = in_frame(prompt, Square(1, 128, 256), LATTICES[0], frame=256, mask_side=64)
    assert asked.boxes.tolist() == [[44, 72, 104, 152]]
    inside = asked.masks[0, 0] > 0
    assert asked.masks.shape == (1, 1, 64, 64)
    assert torch.equal(inside.nonzero().amin(0), torch.tensor([18, 11]))
    assert torch.equal(inside.nonzero().amax(0), torch.tensor([37, 25]))
    assert asked.points is None


def test_holes_of_an_outline_are_outside():
    ring = shapely.Polygon(
        [(0, 0), (200, 0), (200, 200), (0, 200)], [[(80, 80), (120, 80), (120, 120), (80, 120)]]
    )
    logits = mask_logits(ring, 256, 64)
    assert logits[25, 25] < 0 < logits[10, 10]
    assert logits.abs().max() < 7
    assert int((logits > 0).sum()) == 50 * 50 - 10 * 10


def test_points_beside_the_object_count_where_they_are_seen():
    prompt = Prompt(
        id="", points=np.array([[400, 300], [420, 300], [3900, 300]]), labels=np.array([1, 0, 0])
    )
    square = place(prompt, SIZE, LATTICES)
    assert square.factor == 1
    assert in_frame(prompt, square, LATTICES[0], frame=256, mask_side=64).labels.tolist() == [
        [1, 0]
    ]


@pytest.mark.parametrize(("extent", "factor"), [(60, 1), (96, 1), (97, 2), (192, 2), (385, 8)])
def test_what_is_large_is_answered_from_further_away(extent, factor):
    prompt = Prompt(id="", box=(50, 50, 50 + extent, 60))
    assert place(prompt, SIZE, LATTICES).factor == factor


def test_what_is_larger_than_any_square_is_told():
    with pytest.raises(Unanswerable, match="larger than .* at 8 times the mpp"):
        place(Prompt(id="", box=(50, 50, 2950, 60)), SIZE, LATTICES[:4])


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        (point(-1, 5), "outside of the slide of 4000 x 3000 px"),
        (Prompt(id="", points=np.array([[-9.0, 5], [9, 5]]), labels=np.ones(2)), "has points"),
        (Prompt(id="", box=(-9, -9, 0, 5)), "outside"),
        (point(4000, 5), "outside"),
        (point(5, float("nan")), "no finite numbers"),
        (point(5, 5, 0), "only beside it"),
        (Prompt(id=""), "only beside it"),
        (Prompt(id="", box=(5, 5, 5, 9)), "no area"),
        (Prompt(id="", outline=shapely.Polygon([(5, 5), (9, 9), (5, 5)])), "no area"),
        (Prompt(id="", box=(-90, -90, -5, -9)), "outside"),
    ],
)
def test_what_cannot_be_asked_has_a_reason(prompt, reason):
    with pytest.raises(Unanswerable, match=reason):
        place(prompt, SIZE, LATTICES)


def test_a_box_over_the_edge_is_cut_to_the_slide():
    square = place(Prompt(id="", box=(-5000, -40, 60, 60)), SIZE, LATTICES)
    assert square == Square(1, 0, 0)
