"""A quick look at whole slides: what is doubtful about them is found, and nothing else."""

import dataclasses
import json

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy import ndimage

from wsi_sampath.slides.quality.look import look
from wsi_sampath.slides.quality.marks import pen_shares
from wsi_sampath.slides.quality.places import MOST_PLACES, read_places
from wsi_sampath.slides.quality.quality import Quality
from wsi_sampath.slides.readers.base import TileError
from wsi_sampath.slides.regions.find import Seen, find_tissue
from wsi_sampath.slides.regions.tissue import stained_tissue
from wsi_sampath.slides.slide import Slide


def write(path, rgb, mpp=0.5):
    size = {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(path, rgb, tile=(256, 256), photometric="rgb", metadata=None, **size)
    return path


def seen_at_8_um(rgb):
    found = stained_tissue(rgb, mpp_x=8.0, mpp_y=8.0)
    return Seen(rgb, found.mask, found.marked, 8.0, 8.0)


def look_at(path, method="otsu"):
    with Slide.open(path) as slide:
        return look(slide, find_tissue(slide, method))


@pytest.fixture(scope="module")
def pixels(painted):
    """Level 0 of the painted slide, its left part."""
    with Slide.open(painted.path) as slide:
        return slide.reader.read(0, 600, 500, 1152, 1152)


def test_nothing_is_doubtful_about_a_sharp_clean_slide(painted):
    quality = look_at(painted.path)
    assert quality.doubts == quality.warnings == ()
    assert quality.judged == quality.places == MOST_PLACES
    assert quality.softness_um < 1.2
    assert (quality.blurred, quality.pen, quality.unread) == (0, 0, 0)
    assert quality.green_most > 0.8
    assert quality == look_at(painted.path)


@pytest.mark.parametrize(("share", "method"), [(0.5, "otsu"), (1.0, "none")])
def test_what_is_blurred_is_told_with_its_share(tmp_path, pixels, share, method):
    rows = round(share * len(pixels))
    soft = [ndimage.gaussian_filter(pixels[:rows, :, c], 3 / 0.5) for c in range(3)]
    quality = look_at(
        write(tmp_path / "a.tif", np.concatenate([np.stack(soft, -1), pixels[rows:]]))
    )
    assert quality.blurred == pytest.approx(share, abs=0.15)
    (warning,) = quality.warnings
    assert f"{100 * quality.blurred:.0f} % of the {quality.judged} places" in warning
    assert quality.doubts == (f"{100 * quality.blurred:.0f} % out of focus",)


@pytest.mark.parametrize(
    "ink", [(30, 60, 150), (20, 110, 70), (25, 25, 28), (190, 30, 45)], ids=str
)
@pytest.mark.parametrize("border", [False, True])
def test_pens_are_told_and_black_borders_are_not(ink, border):
    rgb = np.full((200, 300, 3), (243, 241, 244), np.uint8)
    rgb[40:160, 60:260] = (205, 130, 180)
    if border:
        rgb[:12], rgb[:, :9] = 0, 0
    assert pen_shares(seen_at_8_um(rgb)) == (0, 0)
    rgb[70:80, 30:200] = ink
    pen, beside = pen_shares(seen_at_8_um(rgb))
    assert pen == pytest.approx(10 * 170 / rgb[..., 0].size, rel=0.5)
    assert beside == pytest.approx((10 + 2 * 13) * 140 / (120 * 200), rel=0.3)
    doubtful = Quality(pen=pen, tissue_beside_pen=beside)
    assert "marker strokes" in doubtful.warnings[0]
    assert doubtful.doubts[0].startswith("pen beside")


def test_a_pen_on_glass_is_no_doubt():
    rgb = np.full((200, 300, 3), (243, 241, 244), np.uint8)
    rgb[100:160, 60:260] = (205, 130, 180)
    rgb[20:30, 30:200] = (30, 60, 150)
    pen, beside = pen_shares(seen_at_8_um(rgb))
    assert pen > 0.02
    assert Quality(pen=pen, tissue_beside_pen=beside).warnings == ()


def test_focus_is_not_judged_on_a_slide_too_coarse_for_it(tmp_path, pixels):
    quality = look_at(write(tmp_path / "a.tif", pixels[::4, ::4], mpp=2.0))
    assert (quality.judged, quality.blurred, quality.warnings) == (None, None, ())
    assert quality.places > 0
    assert quality.saturation > 0.1


def test_faded_and_clipped_colours_are_told(tmp_path, pixels):
    grey = pixels.mean(2, keepdims=True)
    faded = (grey + 0.2 * (pixels - grey)).round().astype(np.uint8)
    assert "hardly any colour" in look_at(write(tmp_path / "faded.tif", faded), "none").doubts
    pale = (230 + 0.1 * (pixels.astype(float) - 240)).clip(0, 255).astype(np.uint8)
    assert look_at(write(tmp_path / "pale.tif", pale), "none").doubts == ("hardly any stain",)
    stretched = (2.6 * (pixels.astype(float) - 120)).clip(0, 255).astype(np.uint8)
    hard = look_at(write(tmp_path / "hard.tif", stretched))
    assert hard.clipped > 0.2
    assert any("clipped" in one for one in hard.doubts)


def test_another_stain_is_a_doubt_but_not_warned_of_twice(tmp_path, pixels):
    quality = look_at(
        write(tmp_path / "a.tif", np.repeat(pixels.mean(2, keepdims=True), 3, 2).astype(np.uint8)),
        "none",
    )
    assert "looks like a grey image" in quality.doubts
    assert not any("grey" in one for one in quality.warnings)


def test_a_dark_field_has_a_focus_and_neither_pen_nor_colour(tmp_path, pixels):
    light = 255 - pixels.min(2)
    dark = np.zeros_like(pixels)
    dark[..., 2] = np.where(light > 140, light, 0)
    quality = look_at(write(tmp_path / "a.tif", dark), "none")
    assert quality.judged > 0
    assert (quality.pen, quality.saturation, quality.clipped) == (None, None, None)
    assert "dark background" in quality.looks_like


@pytest.mark.parametrize("side", [1, 20, 64, 300])
@pytest.mark.parametrize("fill", ["tissue", "flat"])
def test_tiny_slides_are_looked_at(tmp_path, pixels, side, fill):
    rgb = pixels[700 : 700 + side, 700 : 700 + side]
    quality = look_at(write(tmp_path / "a.tif", rgb if fill == "tissue" else 0 * rgb + 240), "none")
    assert quality.places <= 4
    assert quality.unread == 0
    json.dumps(quality.as_json(), allow_nan=False)


def test_no_detail_anywhere_is_told(tmp_path):
    flat = np.full((600, 600, 3), (200, 120, 180), np.uint8)
    quality = look_at(write(tmp_path / "a.tif", flat), "none")
    assert quality.judged == 0
    assert quality.doubts == ("no detail",)


@pytest.mark.parametrize("every", [1, 3])
def test_damaged_places_are_counted_and_fail_nothing(painted, monkeypatch, every):
    with Slide.open(painted.path) as slide:
        tissue = find_tissue(slide)
        calls = []
        read = type(slide).read_sampled

        def torn(self, *place):
            calls.append(place)
            if len(calls) % every == 0:
                raise TileError("torn")
            return read(self, *place)

        monkeypatch.setattr(Slide, "read_sampled", torn)
        quality = look(slide, tissue)
    assert quality.unread == MOST_PLACES // every
    assert quality.places == MOST_PLACES - quality.unread
    assert f"{quality.unread} of the {MOST_PLACES} places" in quality.warnings[-1]


def test_places_lie_apart_on_the_tissue(painted):
    boxes = []
    with Slide.open(painted.path) as slide:
        tissue = find_tissue(slide)
        rows, _ = np.nonzero(tissue.mask)
        scale = slide.size[0] / tissue.mask.shape[1]

        class Watched:
            size, mpp, sampling = slide.size, slide.mpp, slide.sampling

            def read_sampled(self, sampling, *box):
                boxes.append(box)
                return slide.read_sampled(sampling, *box)

        assert len(read_places(Watched(), tissue.mask).pictures) == MOST_PLACES
    covered = np.zeros((2300, 3000), int)
    for x, y, width, height in boxes:
        covered[y : y + height, x : x + width] += 1
        inside = tissue.mask[
            int(y / scale) : int((y + height) / scale), int(x / scale) : int((x + width) / scale)
        ]
        assert inside.mean() > 0.4
    assert covered.max() == 1
    # From the first rows of the tissue to the last.
    assert np.nonzero(covered.any(1))[0][0] < (rows.min() + 30) * scale
    assert np.nonzero(covered.any(1))[0][-1] > (rows.max() - 60) * scale


def test_a_mask_says_where_to_look(painted, tmp_path):
    left = np.zeros((230, 300), np.uint8)
    left[90:140, 90:140] = 255
    Image.fromarray(left).save(tmp_path / "mask.png")
    quality = look_at(painted.path, str(tmp_path / "mask.png"))
    assert 4 <= quality.places < 12
    assert quality.pen == 0


def test_shares_are_rounded_and_all_doubts_listed():
    quality = Quality(places=9, judged=9, blurred=1 / 3, softness_um=2.0, looks_like="a grey image")
    values = quality.as_json()
    assert values["blurred"] == 0.3333
    assert values["doubts"] == ["33 % out of focus", "looks like a grey image"]
    assert values.keys() == {one.name for one in dataclasses.fields(Quality)} | {"doubts"}


def test_real_slides_are_sharp_and_unmarked(real_slides):
    with Slide.open(real_slides / "CMU-1-Small-Region.svs") as slide:
        quality = look(slide, find_tissue(slide))
    assert quality.doubts == ()
    assert quality.softness_um < 1
    with Slide.open(real_slides / "OS-2-ndpi.ome.tif") as slide:
        brown = look(slide, find_tissue(slide))
    assert brown.doubts == ("looks like immunohistochemistry (brown)",)
    assert brown.green_most < 0.1
