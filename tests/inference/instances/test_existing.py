"""Given outlines, met as the rows go by."""

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from wsi_sampath.inference.instances.existing import ExistingNuclei
from wsi_sampath.slides.grid import Box
from wsi_sampath.slides.regions.rasterise import edges, fill

HEIGHT, WIDTH = 60, 50


def discs(seed, n):
    rng = np.random.default_rng(seed)
    places = rng.uniform(-5, (WIDTH + 5, HEIGHT + 5), (n, 2))
    found = shapely.buffer(shapely.points(places), rng.uniform(0.1, 9, n))
    return np.array([shapely.multipolygons([one]) if i % 2 else one for i, one in enumerate(found)])


def passed(outlines, heights, values):
    source = ExistingNuclei(outlines, HEIGHT, WIDTH, channels=len(values))
    y, patches, turn = 0, [], 0
    while y < HEIGHT:
        height = heights[turn % len(heights)]
        settled = source.settled
        part = values[:, y : y + height]
        new = source.append(part[:0], part, np.ones_like(part[0]))
        assert all(one.y >= settled for one in new)
        patches += new
        y, turn = y + height, turn + 1
    assert source.settled == HEIGHT
    assert source.finish() == []
    assert len(patches) == source.count
    return patches


@given(
    seed=st.integers(0, 99),
    n=st.integers(0, 12),
    heights=st.lists(st.integers(1, 25), min_size=1, max_size=3),
)
@settings(max_examples=60, deadline=None)
def test_pixels_are_those_inside_of_each_outline(seed, n, heights):
    values = np.random.default_rng(seed).integers(0, 255, (2, HEIGHT, WIDTH)).astype(np.uint8)
    outlines = discs(seed, n)
    patches = passed(outlines, heights, values)
    found = {one.labels.max(): one for one in patches}
    assert sorted(found) == list(range(1, len(patches) + 1))
    wanted = []
    for outline in outlines:
        middle = outline.centroid
        if not (0 <= middle.x < WIDTH and 0 <= middle.y < HEIGHT):
            continue
        mask = np.zeros((HEIGHT, WIDTH), bool)
        place, inside = fill(edges(shapely.get_parts(outline))[0], Box(0, 0, WIDTH, HEIGHT))
        mask[place] = inside
        if mask.any():
            wanted.append(mask)
    masks = []
    for patch in patches:
        mask = np.zeros((HEIGHT, WIDTH), np.uint32)
        patch.paint(mask)
        masks.append(mask > 0)
        inside = patch.labels > 0
        rows, columns = np.nonzero(mask)
        assert np.array_equal(patch.values[:, inside], values[:, rows, columns])
    for mask in wanted:
        assert any(np.array_equal(mask, one) for one in masks)
    specks = [one for one in masks if one.sum() == 1]
    assert len(masks) - len(wanted) <= len(specks)


def test_a_stop_changes_nothing():
    values = np.random.default_rng(5).integers(0, 255, (3, HEIGHT, WIDTH)).astype(np.uint8)
    outlines = discs(3, 40)
    whole = passed(outlines, [7], values)
    source = ExistingNuclei(outlines, HEIGHT, WIDTH, channels=3)
    patches = []
    for y in range(0, HEIGHT, 11):
        part = values[:, y : y + 11]
        patches += source.append(part[:0], part, np.ones_like(part[0]))
        state = source.state()
        source = ExistingNuclei(outlines, HEIGHT, WIDTH, channels=3).resumed(*state)
    assert len(patches) == len(whole)
    for one, other in zip(patches, whole, strict=True):
        assert (one.y, one.x) == (other.y, other.x)
        assert np.array_equal(one.labels, other.labels)
        assert np.array_equal(one.values, other.values)


@pytest.mark.parametrize("where", [(-9, -9), (WIDTH + 9, 5), (5, HEIGHT + 3)])
def test_what_lies_beside_the_plane_is_left_out(where):
    outlines = shapely.buffer(shapely.points([where]), 2)
    assert ExistingNuclei(outlines, HEIGHT, WIDTH, channels=1).count == 0


def test_what_was_not_analysed_is_left_out():
    values = np.full((1, HEIGHT, WIDTH), 9, np.uint8)
    outlines = shapely.buffer(shapely.points([(10, 20), (30, 20), (40, 50)]), 4)
    analysed = np.zeros((HEIGHT, WIDTH), np.uint8)
    analysed[:, :12] = analysed[50:, :] = 1
    source = ExistingNuclei(outlines, HEIGHT, WIDTH, channels=1)
    patches = source.append(values[:0], values, analysed)
    assert [(one.y, one.labels.max()) for one in patches] == [(16, 1), (46, 2)]


def test_what_is_too_large_for_a_nucleus_is_left_out():
    outlines = np.array([shapely.box(0, 0, 3, 5000), shapely.box(3, 3, 6, 9)])
    source = ExistingNuclei(outlines, 6000, WIDTH, channels=1)
    values = np.ones((1, 6000, WIDTH), np.uint8)
    assert len(source.append(values, values, values[0])) == 1
