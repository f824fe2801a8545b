"""The flood against scikit-image's watershed, and against itself in other company."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.segmentation import watershed

from wsi_sampath.inference.instances.flooding import EIGHT, flood, numbered
from wsi_sampath.inference.instances.terrain import FOREGROUND, SEED, TOP_LEVEL


def rough(rng, shape, levels, share=0.8, seeds=0.04):
    """Codes of no shape at all; few levels are nearly all ties."""
    lowest = int(rng.integers(0, TOP_LEVEL + 2 - levels))
    codes = rng.integers(lowest, lowest + levels, shape).astype(np.uint32) | FOREGROUND
    codes |= np.where(rng.random(shape) < seeds, SEED, 0).astype(np.uint32)
    return np.where(rng.random(shape) < share, codes, 0).astype(np.uint32)


LEVELS = st.sampled_from([1, 2, 5, 300, TOP_LEVEL + 1])


@given(st.integers(0, 999))
@settings(max_examples=30, deadline=None)
def test_without_ties_the_flood_is_that_of_scikit_image(seed):
    rng = np.random.default_rng(seed)
    codes = rng.permutation(30 * 40).reshape(30, 40).astype(np.uint32) * 54 | FOREGROUND
    codes |= np.where(rng.random(codes.shape) < 0.01, SEED, 0).astype(np.uint32)
    codes[rng.random(codes.shape) < 0.1] = 0
    seeds, _ = ndimage.label(codes & SEED, EIGHT)
    reference = watershed((codes & TOP_LEVEL).astype(float), seeds, mask=codes > 0)
    assert np.array_equal(flood(codes), reference)


def test_neighbouring_levels_are_kept_apart():
    # The right neighbour of a row's last pixel but two is one level lower, and so comes first.
    level = np.arange(1, TOP_LEVEL, 13)
    rows = np.zeros((len(level), 5), np.uint32)
    rows[:, 1], rows[:, 3], rows[:, 2] = level, level - 1, TOP_LEVEL
    rows |= FOREGROUND
    rows[:, [0, 4]] |= SEED
    codes = np.zeros((2 * len(level), 5), np.uint32)
    codes[::2] = rows
    labels = flood(codes)[::2]
    assert np.array_equal(labels[:, 2], labels[:, 4])


@given(st.integers(0, 9999), LEVELS, LEVELS)
@settings(max_examples=60, deadline=None)
def test_a_flood_does_not_depend_on_what_else_is_on_the_canvas(seed, levels, others):
    rng = np.random.default_rng(seed)
    alone = rough(rng, tuple(rng.integers(1, 22, 2)), levels)
    canvas = rough(rng, (34, 50), others)
    rows, columns = alone.shape
    y, x = rng.integers(1, 34 - rows), rng.integers(1, 50 - columns)
    canvas[y - 1 : y + rows + 1, x - 1 : x + columns + 1] = 0
    canvas[y : y + rows, x : x + columns] = alone
    found = flood(canvas)[y : y + rows, x : x + columns]
    assert np.array_equal(numbered(found, 0)[0], numbered(flood(alone), 0)[0])
