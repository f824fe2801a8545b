"""Pixels with alpha, on a background."""

from __future__ import annotations

import numpy as np
import pytest

from wsi_sampath.slides.readers.base import flatten

BACKGROUND = (10, 200, 255)


def random_pixels(alpha: int | None) -> np.ndarray:
    pixels = np.random.default_rng(0).integers(0, 256, (37, 53, 4), np.uint8)
    if alpha is not None:
        pixels[..., 3] = alpha
    return pixels


def test_opaque_pixels_are_their_own_colours():
    pixels = random_pixels(255)
    flat = flatten(pixels, BACKGROUND)
    np.testing.assert_array_equal(flat, pixels[..., :3])
    assert flat.flags["C_CONTIGUOUS"]
    # Callers write into what they get, and the source may be reused.
    assert not np.shares_memory(flat, pixels)


def test_a_single_pixel_that_is_not_opaque_is_mixed():
    pixels = random_pixels(255)
    pixels[20, 30] = (100, 0, 255, 0)
    flat = flatten(pixels, BACKGROUND)
    assert tuple(flat[20, 30]) == BACKGROUND
    pixels[20, 30, 3] = 255
    np.testing.assert_array_equal(np.delete(flat[20], 30, 0), np.delete(pixels[20, :, :3], 30, 0))


@pytest.mark.parametrize("alpha", [0, 128, 254, None])
def test_translucent_pixels_are_mixed_with_the_background_and_rounded(alpha):
    pixels = random_pixels(alpha)
    share = pixels[..., 3:] / 255
    mixed = np.floor(pixels[..., :3] * share + np.array(BACKGROUND) * (1 - share) + 0.5)
    apart = np.abs(flatten(pixels, BACKGROUND) - mixed)
    assert apart.max() <= 1
    assert (apart > 0).mean() < 0.001


def test_no_pixels_stay_none():
    assert flatten(np.empty((0, 5, 4), np.uint8), BACKGROUND).shape == (0, 5, 3)
