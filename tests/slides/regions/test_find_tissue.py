"""What a run says of the tissue it looks at."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from PIL import Image

from wsi_sampath.errors import WsiError
from wsi_sampath.slides.regions.find import find_tissue
from wsi_sampath.slides.slide import Slide

GLASS, HAEMATOXYLIN, BROWN = (240, 238, 242), (120, 70, 150), (130, 90, 50)


def slide_with(path, colour, glass=GLASS):
    """A square of one colour on glass, 1024 px at 2 um."""
    rgb = np.full((1024, 1024, 3), glass, np.uint8)
    noise = np.random.default_rng(5).integers(-20, 20, (600, 600, 1))
    rgb[200:800, 200:800] = (np.array(colour) + noise).clip(0, 255)
    size = {"resolution": (5000, 5000), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(path, rgb, tile=(256, 256), photometric="rgb", metadata=None, **size)
    return path


@pytest.fixture(params=["otsu", "none", "mask"])
def method(request, tmp_path):
    if request.param != "mask":
        return request.param
    mask = np.zeros((64, 64), np.uint8)
    mask[12:50, 12:50] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    return str(tmp_path / "mask.png")


def test_haematoxylin_and_eosin_pass_in_silence(tmp_path, method):
    with Slide.open(slide_with(tmp_path / "s.tif", HAEMATOXYLIN)) as slide:
        assert find_tissue(slide, method).warnings == ()


@pytest.mark.parametrize(
    ("colour", "glass", "what"),
    [
        (BROWN, GLASS, "immunohistochemistry"),
        ((120, 120, 120), (240, 240, 240), "grey"),
        ((120, 160, 190), GLASS, "another stain"),
    ],
)
def test_other_slides_are_warned_of_however_the_tissue_is_found(
    tmp_path, method, colour, glass, what
):
    with Slide.open(slide_with(tmp_path / "s.tif", colour, glass)) as slide:
        (warning,) = find_tissue(slide, method).warnings
    assert what in warning


def test_fluorescence_is_named_where_no_tissue_is_found(tmp_path):
    path = slide_with(tmp_path / "s.tif", (30, 60, 200), (0, 0, 0))
    with Slide.open(path) as slide, pytest.raises(WsiError, match="fluorescence") as failure:
        find_tissue(slide)
    assert failure.value.reason == "no-tissue"
    with Slide.open(path) as slide:
        assert "dark background" in find_tissue(slide, "none").warnings[0]


def test_sizes_of_pieces_and_holes_are_options(tmp_path):
    path = slide_with(tmp_path / "s.tif", HAEMATOXYLIN)
    rgb = tifffile.imread(path)
    rgb[450:550, 450:550] = GLASS  # 200 um square
    rgb[60:90, 60:90] = HAEMATOXYLIN  # 60 um square
    size = {"resolution": (5000, 5000), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(path, rgb, tile=(256, 256), photometric="rgb", metadata=None, **size)
    with Slide.open(path) as slide:
        usual = find_tissue(slide).mask
        changed = find_tissue(slide, min_area_um2=1_000, max_hole_um2=100_000).mask
    assert not usual[500 // 4, 500 // 4]
    assert not usual[75 // 4, 75 // 4]
    assert changed[500 // 4, 500 // 4]
    assert changed[75 // 4, 75 // 4]
