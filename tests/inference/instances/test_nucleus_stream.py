"""Zero nuclei may differ, however a plane is cut into strips."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from wsi_sampath.inference.instances.flooding import EIGHT, flood, nuclei_of_plane, numbered
from wsi_sampath.inference.instances.settings import NucleusSettings
from wsi_sampath.inference.instances.stream import NucleusStream
from wsi_sampath.inference.instances.terrain import TerrainStream, terrain

BAND = 8
ROUGH = NucleusSettings(foreground_smoothing_px=0, distance_smoothing_px=0)


def cut(maps, heights):
    """Strips of these heights, over and over."""
    y, turn = 0, 0
    while y < maps.shape[1]:
        height = heights[turn % len(heights)]
        yield maps[:, y : y + height]
        y, turn = y + height, turn + 1


def streamed(maps, how, heights, band_rows=BAND):
    """The painted plane; ids are final, and 1..n."""
    stream = NucleusStream(how, maps.shape[2], band_rows=band_rows)
    plane = np.zeros(maps.shape[1:], np.uint32)
    for strip in cut(maps, heights):
        settled = stream.settled
        for patch in stream.append(strip):
            assert patch.y >= settled
            patch.paint(plane)
    for patch in stream.finish():
        patch.paint(plane)
    assert stream.settled == maps.shape[1]
    assert np.unique(plane[plane > 0]).tolist() == list(range(1, stream.count + 1))
    return plane


def same_nuclei(one, other):
    return np.array_equal(numbered(one.astype(np.int32), 0)[0], numbered(other, 0)[0])


def cut_at_lattice(maps, how):
    """The rule of giants, written a second time: every cell of a giant on a plane of its own."""
    codes, side = terrain(maps, how), how.largest_px
    pieces, n_pieces = ndimage.label(codes, EIGHT)
    labels, count = np.zeros(codes.shape, np.int32), 0
    for index, box in enumerate(ndimage.find_objects(pieces), start=1):
        cells = np.zeros(codes.shape, int)
        if max(part.stop - part.start for part in box) > side:
            y, x = np.indices(codes.shape) // side
            cells = y * codes.shape[1] + x
        for cell in np.unique(cells[pieces == index]):
            own = np.where((pieces == index) & (cells == cell), codes, 0)
            found, n_found = numbered(flood(own), how.min_size_px)
            labels[found > 0] = found[found > 0] + count
            count += n_found
    return labels


def blobs(seed, height, width, n_blobs):
    """Round nuclei in clumps, with distances as a network gives them, and some noise."""
    rng = np.random.default_rng(seed)
    y, x = np.indices((height, width))
    nearest = np.full((height, width), 2.0)
    for _ in range(n_blobs):
        centre = rng.uniform(0, (height, width))
        radius = rng.uniform(2, 7)
        nearest = np.minimum(nearest, np.hypot(y - centre[0], x - centre[1]) / radius)
    noise = rng.normal(0, 0.05, (3, height, width))
    maps = np.stack([nearest < 1, np.minimum(nearest, 1), np.minimum(nearest, 1)]) + noise
    return np.clip(maps, 0, 1).astype(np.float32)


def ties(seed, height, width):
    """Few values, so that nearly all is decided by ties."""
    rng = np.random.default_rng(seed)
    return (rng.integers(0, 5, (3, height, width)) / 4).astype(np.float32)


def of_mask(mask):
    """A shape whose seeds are its thickest parts."""
    mask = np.asarray(mask, bool)
    deep = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    far = 1 - deep / max(deep.max(), 1)
    return np.stack([mask, far, far]).astype(np.float32)


def shapes():
    """Planes on which cutting goes wrong easily."""
    full = np.ones((40, 30), bool)
    ring = np.zeros((40, 30), bool)
    ring[2:38, 2:28] = True
    ring[8:32, 8:22] = False
    ring[16:22, 12:18] = True
    legs = np.zeros((40, 30), bool)
    legs[3:36, 2:8] = legs[3:36, 20:26] = legs[30:36, 2:26] = True
    comb = np.zeros((40, 30), bool)
    comb[:, ::4] = comb[-1] = True
    stairs = np.eye(40, 30, dtype=bool) | np.eye(40, 30, 1, dtype=bool)
    diagonal = np.eye(40, 30, dtype=bool)[:, ::-1]
    chess = np.indices((40, 30)).sum(axis=0) % 2 == 0
    rows = np.zeros((40, 30), bool)
    rows[[0, BAND - 1, BAND, 2 * BAND - 1, -1]] = True
    return {
        "nothing": ~full,
        "all": full,
        "ring around another": ring,
        "U": legs,
        "U upside down": legs[::-1],
        "comb": comb,
        "stairs": stairs,
        "diagonal": diagonal,
        "chess board": chess,
        "rows at the ends of bands": rows,
        "one row": full[:1],
        "one column": full[:, :1],
        "one pixel": full[:1, :1],
    }


HEIGHTS = st.lists(st.integers(1, 50), min_size=1, max_size=6)
PLANES = st.one_of(
    st.builds(
        blobs, st.integers(0, 999), st.integers(1, 60), st.integers(1, 50), st.integers(0, 25)
    ),
    st.builds(ties, st.integers(0, 999), st.integers(1, 40), st.integers(1, 30)),
    st.sampled_from([of_mask(mask) for mask in shapes().values()]),
)
SETTINGS = st.builds(
    NucleusSettings,
    foreground_smoothing_px=st.sampled_from([0.0, 1.0]),
    distance_smoothing_px=st.sampled_from([0.0, 0.7, 1.6]),
    foreground_threshold=st.sampled_from([0.3, 0.5]),
    min_size_px=st.sampled_from([0, 4]),
)


@given(maps=PLANES, how=SETTINGS, heights=HEIGHTS)
@settings(max_examples=50, deadline=None)
def test_any_strips_give_the_nuclei_of_the_whole_plane(maps, how, heights):
    assert same_nuclei(streamed(maps, how, heights), nuclei_of_plane(maps, how))


@given(maps=PLANES, how=SETTINGS, heights=HEIGHTS, limit=st.integers(1, 40))
@settings(max_examples=50, deadline=None)
def test_ids_do_not_depend_on_the_strips(maps, how, heights, limit):
    how = how.model_copy(update={"largest_px": limit})
    whole = streamed(maps, how, [maps.shape[1]])
    assert np.array_equal(streamed(maps, how, heights), whole)


@given(maps=PLANES, how=SETTINGS, heights=HEIGHTS, limit=st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_giants_are_cut_at_the_lattice_of_the_plane_and_nothing_else_is(maps, how, heights, limit):
    how = how.model_copy(update={"largest_px": limit})
    assert same_nuclei(streamed(maps, how, heights), cut_at_lattice(maps, how))


@given(maps=PLANES, how=SETTINGS, heights=HEIGHTS)
@settings(max_examples=30, deadline=None)
def test_nuclei_do_not_depend_on_the_height_of_bands(maps, how, heights):
    whole = nuclei_of_plane(maps, how)
    assert all(same_nuclei(streamed(maps, how, heights, rows), whole) for rows in (1, 3, 64))


@given(maps=PLANES, how=SETTINGS, heights=HEIGHTS, limit=st.integers(3, 40))
@settings(max_examples=30, deadline=None)
def test_a_stream_resumes_from_its_state_after_any_strip(maps, how, heights, limit):
    how = how.model_copy(update={"largest_px": limit})
    stream = NucleusStream(how, maps.shape[2], band_rows=BAND)
    plane = np.zeros(maps.shape[1:], np.uint32)
    for strip in cut(maps, heights):
        for patch in stream.append(strip):
            patch.paint(plane)
        notes, arrays = stream.state()
        notes = json.loads(json.dumps(notes))
        arrays = {name: array.copy() for name, array in arrays.items()}
        stream = NucleusStream.from_state(how, notes, arrays, band_rows=BAND)
    for patch in stream.finish():
        patch.paint(plane)
    assert np.array_equal(plane, streamed(maps, how, [maps.shape[1]]))


@given(maps=PLANES, how=SETTINGS, heights=HEIGHTS)
@settings(max_examples=30, deadline=None)
def test_smoothed_rows_are_those_of_the_whole_plane(maps, how, heights):
    stream = TerrainStream(how, maps.shape[2])
    rows = [*(stream.append(strip) for strip in cut(maps, heights)), stream.finish()]
    assert np.array_equal(np.concatenate(rows), terrain(maps, how))


@pytest.mark.parametrize("name", shapes())
def test_shapes_are_found_alike_by_rows_of_every_height(name):
    maps = of_mask(shapes()[name])
    whole = nuclei_of_plane(maps, ROUGH)
    for height in (1, 2, 7, 8, 9, 39):
        assert same_nuclei(streamed(maps, ROUGH, [height]), whole)


def test_a_nucleus_across_many_bands_is_one():
    mask = np.zeros((200, 20), bool)
    mask[5:190, 5:15] = True
    far = np.where(mask, 0.2, 1)
    plane = streamed(np.stack([mask, far, far]).astype(np.float32), ROUGH, [3])
    assert np.array_equal(plane, mask.astype(np.uint32))


def test_two_nuclei_that_touch_are_parted_between_their_seeds():
    y, x = np.indices((30, 50))
    far = np.minimum(np.hypot(y - 15, x - 15), np.hypot(y - 15, x - 33)) / 10
    maps = np.stack([far < 1, np.minimum(far, 1), np.minimum(far, 1)]).astype(np.float32)
    plane = streamed(maps, NucleusSettings(), [4])
    assert plane.max() == 2
    assert set(plane[:, :24][plane[:, :24] > 0]) == {1}
    assert set(plane[:, 25:][plane[:, 25:] > 0]) == {2}


def test_foreground_without_a_seed_is_not_a_nucleus():
    maps = np.ones((3, 30, 30), np.float32)
    assert not streamed(maps, NucleusSettings(), [7]).any()


def test_small_nuclei_are_left_out_and_leave_no_gap_in_the_ids():
    mask = np.zeros((20, 40), bool)
    mask[2:4, 2:4] = mask[2:12, 10:20] = mask[2:12, 25:35] = True
    maps = np.stack([mask, ~mask, ~mask]).astype(np.float32)
    how = ROUGH.model_copy(update={"min_size_px": 5})
    plane = streamed(maps, how, [6])
    assert plane[3, 3] == 0
    assert (plane[5, 15], plane[5, 30]) == (1, 2)


def test_an_answer_does_not_depend_on_what_else_is_on_the_plane():
    for seed in range(40):
        alone, together = ties(seed, 24, 24), ties(1000 + seed, 40, 70)
        together[0, :26, :26] = 0
        together[:, 1:25, 1:25] = alone
        labels = nuclei_of_plane(together, ROUGH)[1:25, 1:25]
        assert same_nuclei(labels, nuclei_of_plane(alone, ROUGH))


def test_what_is_held_does_not_grow_with_the_plane():
    strip = blobs(1, 64, 80, 20)
    strip[0, :, :4] = 1
    strip[1:, :, :4] = 0.2
    how = NucleusSettings(largest_px=64)
    stream = NucleusStream(how, 80, band_rows=BAND)
    held = []
    for _ in range(30):
        stream.append(strip)
        held.append(sum(array.nbytes for array in stream.state()[1].values()))
    assert max(held[5:]) <= max(held[:5])
    assert stream.settled >= 28 * 64
