import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from wsi_sampath.training.augment import (
    blob,
    colour_jittered,
    hue_jittered,
    rescaled,
    stain_jittered,
    turned,
)

seeds = st.integers(0, 10**6)


def picture(seed, height=20, width=30):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return image, image[..., 0] // 128 + np.uint8(1)


@given(seeds)
def test_turning_keeps_image_and_mask_together(seed):
    image, mask = turned(np.random.default_rng(seed), *picture(seed))
    assert mask.shape == image.shape[:2]
    assert np.array_equal(image[..., 0] // 128 + 1, mask)


@given(seeds, st.floats(0.3, 3))
def test_rescaling(seed, factor):
    image, mask = rescaled(*picture(seed), factor)
    assert image.shape[:2] == mask.shape == (round(20 * factor), round(30 * factor))
    assert set(np.unique(mask)) <= {1, 2}


@settings(deadline=None)
@given(seeds)
def test_colours_stay_in_range(seed):
    rng = np.random.default_rng(seed)
    image = picture(seed)[0].astype(np.float32)
    for change in (stain_jittered, hue_jittered, colour_jittered):
        out = change(rng, image)
        assert out.shape == image.shape
        assert out.min() >= 0
        assert out.max() <= 255
        assert np.isfinite(out).all()


def test_no_stain_change_is_none():
    image = picture(0)[0].astype(np.float32)
    rng = np.random.default_rng(0)
    unshifted = stain_jittered(rng, image, strength=0.0)
    assert np.abs(unshifted - image).max() < 255 * 0.05


def test_glass_stays_glass():
    """White has no stain to scale; only the small shift may tint it."""
    white = np.full((4, 4, 3), 250, np.float32)
    for seed in range(20):
        for change in (stain_jittered, hue_jittered):
            assert change(np.random.default_rng(seed), white).min() > 225


def test_hues_move_apart_and_darker_stays_darker():
    grey = np.linspace(20, 240, 12, dtype=np.float32)[None, :, None].repeat(3, axis=2)
    out = hue_jittered(np.random.default_rng(1), grey)
    assert np.ptp(out[0, 5]) > 5
    assert (np.diff(out[0], axis=0) > 0).all()


@given(seeds)
def test_blobs_fill_most_of_the_middle(seed):
    shape = blob(np.random.default_rng(seed), 60, 80)
    assert shape.shape == (60, 80)
    assert shape[15:45, 20:60].mean() > 0.5
