"""Whether a slide looks like H&E is told by its colours."""

import numpy as np
import pytest

from wsi_sampath.slides.regions.stain import stain_of

GLASS = np.array([240.0, 238, 242])
# Absorbed light of red, green and blue (Ruifrok and Johnston 2001).
HAEMATOXYLIN, EOSIN, BROWN = [0.65, 0.7, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]


def stained(*dyes, size=80):
    """Mix dyes pixel by pixel on the left half of a picture of glass."""
    rng = np.random.default_rng(4)
    density = np.zeros((size, size, 3))
    for dye, strength in dyes:
        density[:, : size // 2] += strength * rng.random((size, size // 2, 1)) * np.array(dye)
    return (GLASS * 10**-density).round().astype(np.uint8)


@pytest.mark.parametrize(
    "dyes",
    [
        [(HAEMATOXYLIN, 0.8), (EOSIN, 0.6)],
        [(HAEMATOXYLIN, 1.2), (EOSIN, 0.1)],
        [(EOSIN, 0.7)],
        [(HAEMATOXYLIN, 0.3), (EOSIN, 0.3)],
    ],
    ids=["usual", "blue", "red", "pale"],
)
def test_haematoxylin_and_eosin_raise_no_doubt(dyes):
    assert stain_of(stained(*dyes)).doubt is None


@pytest.mark.parametrize("haematoxylin", [0.0, 0.5])
def test_brown_is_immunohistochemistry(haematoxylin):
    rgb = stained((HAEMATOXYLIN, haematoxylin))
    brown = stained((BROWN, 1.0))
    rgb[::3] = brown[::3]
    assert "immunohistochemistry" in (stain_of(rgb).doubt or "")


@pytest.mark.parametrize("dye", [[0.8, 0.3, 0.1], [0.3, 0.1, 0.5], [0.4, 0.4, 0.1]])
def test_other_colours_are_another_stain(dye):
    assert stain_of(stained((dye, 0.7))).doubt is not None


def test_grey_images_are_named():
    grey = stained((HAEMATOXYLIN, 0.8), (EOSIN, 0.6)).mean(2).astype(np.uint8)
    assert stain_of(np.repeat(grey[..., None], 3, axis=2)).doubt == "a grey image"


def test_a_dark_background_is_named():
    rgb = np.zeros((60, 60, 3), np.uint8)
    rgb[20:40, 20:40] = (30, 60, 200)
    assert "dark background" in (stain_of(rgb).doubt or "")


def test_bare_glass_and_little_stain_raise_no_doubt():
    rgb = np.full((60, 60, 3), 240, np.uint8)
    assert stain_of(rgb).doubt is None
    rgb[:3, :3] = (90, 60, 20)
    assert stain_of(rgb).doubt is None


def test_only_the_tissue_counts():
    rgb = stained((HAEMATOXYLIN, 0.8), (EOSIN, 0.6))
    rgb[:20] = (120, 80, 20)
    tissue = np.ones(rgb.shape[:2], bool)
    tissue[:20] = False
    assert stain_of(rgb).doubt is not None
    assert stain_of(rgb, tissue).doubt is None
