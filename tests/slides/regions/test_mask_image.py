"""What masks mean, in every encoding that people save them in, to both who read them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image, ImageFilter

from wsi_sampath.data.patches import open_patches
from wsi_sampath.data.prepare import plan_patches, prepare
from wsi_sampath.errors import WsiError
from wsi_sampath.slides.pictures import picture_of
from wsi_sampath.slides.regions.drawn import read_mask
from wsi_sampath.slides.regions.mask_image import eight_bits, mask_kind, mask_of

SIZE = (48, 40)
"""Width and height."""
DRAWN = np.zeros(SIZE[::-1], bool)
DRAWN[8:30, 10:26] = True
DRAWN[0:6, 40:48] = True
ONES = DRAWN.astype(np.uint8)
WHITE = ONES * 255
LABELS = ONES.copy()
LABELS[20:30, 10:26] = 2
IMAGE = np.random.default_rng(0).integers(60, 250, (*SIZE[::-1], 3), np.uint8)


def image(pixels, mode=None):
    made = Image.fromarray(pixels)
    return made.convert(mode) if mode else made


def indexed(numbers, *colours):
    made = Image.frombytes("P", (numbers.shape[1], numbers.shape[0]), numbers.tobytes())
    made.putpalette([channel for colour in colours for channel in colour])
    return made


def with_alpha(colour, alpha):
    return image(np.dstack([np.broadcast_to(colour, (*alpha.shape, 3)).astype(np.uint8), alpha]))


def soft():
    wide = image(WHITE).resize((4 * SIZE[0], 4 * SIZE[1])).filter(ImageFilter.GaussianBlur(2))
    return np.asarray(wide.resize(SIZE))


def by_pillow(made, **options):
    return lambda path: made.save(path, **options)


def by_tifffile(values, **options):
    return lambda path: tifffile.imwrite(path, values, **options)


def turned(made):
    tags = Image.Exif()
    tags[0x0112] = 3
    return by_pillow(made.rotate(180), exif=tags)


BLACK, PAPER, RED = (0, 0, 0), (255, 255, 255), (200, 0, 0)


@dataclass(frozen=True)
class Encoding:
    """A way to save DRAWN; what `--tissue` must say, and what `patches` without --classes."""

    suffix: str
    write: Callable[[Path], object]
    tissue: str = ""
    patches: str = ""
    refused: bool = False


def both(suffix, write, note=""):
    return Encoding(suffix, write, note, note)


TRANSPARENT = "transparent parts counted as black"
NUMBERS = "its numbers count, not the colours of its palette, so #ffffff is 0"
INVERTED = "the file says that 0 is white"
LOSSY = "cut into black and white at 128"
MEANT = {
    "grey": both("png", by_pillow(image(WHITE))),
    "zero and one": both("png", by_pillow(image(ONES))),
    "not quite white": both("png", by_pillow(image(ONES * 250))),
    "one bit": both("png", by_pillow(image(WHITE, "1"))),
    "one bit where white is 0": both(
        "tif", by_tifffile(~DRAWN, photometric="miniswhite", metadata=None), INVERTED
    ),
    "eight bits where white is 0": both(
        "tif", by_tifffile(255 - WHITE, photometric="miniswhite", metadata=None), INVERTED
    ),
    "bmp": both("bmp", by_pillow(image(WHITE))),
    "gif": both("gif", by_pillow(image(WHITE))),
    "gif with white first": both("gif", by_pillow(indexed(1 - ONES, PAPER, BLACK))),
    "webp": both("webp", by_pillow(image(WHITE, "RGB"), lossless=True)),
    "rgb": both("png", by_pillow(image(WHITE, "RGB"))),
    "cmyk": both("tif", by_pillow(image(WHITE, "RGB").convert("CMYK")), "converted from CMYK"),
    "opaque alpha": both("png", by_pillow(image(WHITE, "RGBA"))),
    "drawn in the alpha": both("png", by_pillow(with_alpha(PAPER, WHITE)), TRANSPARENT),
    "soft alpha": both("png", by_pillow(with_alpha(PAPER, soft())), TRANSPARENT),
    "alpha that repeats it": both("png", by_pillow(image(np.dstack([WHITE] * 4))), TRANSPARENT),
    "grey with alpha": both(
        "png",
        by_pillow(Image.merge("LA", (image(np.full_like(WHITE, 255)), image(WHITE)))),
        TRANSPARENT,
    ),
    "uniformly thin": both(
        "png", by_pillow(image(np.dstack([*[WHITE] * 3, np.full_like(WHITE, 99)])))
    ),
    "palette": both("png", by_pillow(indexed(ONES, BLACK, PAPER))),
    "painted palette": both("png", by_pillow(indexed(ONES, BLACK, RED))),
    "palette on white": both("png", by_pillow(indexed(ONES, PAPER, RED)), NUMBERS),
    "inverted palette": both("png", by_pillow(indexed(ONES, PAPER, BLACK)), NUMBERS),
    "sixteen bits": both("png", by_pillow(image(WHITE.astype(np.uint16) * 257))),
    "sixteen bits, shifted": both("tif", by_pillow(image(WHITE.astype(np.uint16) << 8))),
    "sixteen bits of one": both("png", by_pillow(image(ONES.astype(np.uint16)))),
    "int32": both("tif", by_tifffile(WHITE.astype(np.int32))),
    "int64": both("tif", by_tifffile(ONES.astype(np.int64))),
    "float": both("tif", by_tifffile(ONES.astype(np.float32))),
    "double": both("tif", by_tifffile(WHITE.astype(np.float64))),
    "shares": both("tif", by_tifffile(soft().astype(np.float32) / 255)),
    "bool": both("tif", by_tifffile(DRAWN, photometric="minisblack")),
    "soft edges": both("png", by_pillow(image(soft()))),
    "soft edges of sixteen bits": both(
        "png", by_pillow(image(soft().astype(np.uint16) * 257 - (soft() > 200)))
    ),
    "jpeg": Encoding("jpg", by_pillow(image(WHITE), quality=60), LOSSY),
    "colour jpeg": Encoding("jpg", by_pillow(image(WHITE, "RGB"), quality=75), LOSSY),
    "jpeg named png": Encoding("png", by_pillow(image(WHITE), format="JPEG"), LOSSY),
    "lossy webp": Encoding("webp", by_pillow(image(WHITE, "RGB"), quality=75), LOSSY),
    "upside down": both("png", turned(image(WHITE)), "turned upright, as its orientation tag"),
    "upside down tif": both("tif", turned(image(WHITE)), "turned upright, as its orientation"),
    "labels": Encoding(
        "png", by_pillow(image(LABELS)), "numbers 1, 2: all but 0", "labels up to 2", refused=True
    ),
    "labels of sixteen bits": Encoding(
        "png",
        by_pillow(image(LABELS.astype(np.uint16) * 400)),
        "numbers 400, 800: all but 0",
        "labels up to 800",
        refused=True,
    ),
    "labels and void of sixteen bits": Encoding(
        "png",
        by_pillow(image(np.where(LABELS == 2, 65535, LABELS.astype(np.uint16)).astype(np.uint16))),
        "numbers 1, 65535: all but 0",
        "labels up to 65535",
        refused=True,
    ),
    "one and ignored": Encoding(
        "png",
        by_pillow(image(np.where(LABELS == 2, 255, LABELS).astype(np.uint8))),
        "numbers 1, 255: all but 0",
        "areas of 1, not only black and white",
        refused=True,
    ),
    "black, grey, white": Encoding(
        "png",
        by_pillow(image(np.array([0, 128, 255], np.uint8)[LABELS])),
        "numbers 128, 255: all but 0",
        "areas of 128, not only black and white",
        refused=True,
    ),
    "indexed labels": Encoding(
        "png",
        by_pillow(indexed(LABELS, BLACK, RED, (0, 0, 200))),
        "numbers 1, 2: all but 0",
        "labels up to 2",
        refused=True,
    ),
    "painted": Encoding(
        "png",
        by_pillow(image(np.array([BLACK, RED, (0, 200, 0)], np.uint8)[LABELS])),
        "coloured: all that is not black",
        "coloured, not grey or labels",
        refused=True,
    ),
    "painted on a transparent ground": Encoding(
        "png",
        by_pillow(with_alpha(RED, WHITE)),
        "coloured: all that is not black",
        "coloured, not grey or labels",
        refused=True,
    ),
    "painted jpeg": Encoding(
        "jpg",
        by_pillow(
            image(np.array([BLACK, (220, 30, 30)], np.uint8)[ONES]), quality=90, subsampling=0
        ),
        "compressed with losses: what is bright",
        "coloured, not grey or labels",
        refused=True,
    ),
}


def tissue(path):
    return read_mask(path, slide_size=(SIZE[0] * 10, SIZE[1] * 10), mask_size=SIZE)


def folders(tmp_path, encoding):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    Image.fromarray(IMAGE).save(tmp_path / "images" / "p.png")
    encoding.write(tmp_path / "masks" / f"p.{encoding.suffix}")
    return [tmp_path / "images"], [tmp_path / "masks"]


def differing(found, soft_edges):
    """Return where a mask is not DRAWN; soft edges may fall to either side."""
    wrong = found != DRAWN
    if soft_edges:
        around = np.pad(DRAWN, 1, mode="edge")
        near = [around[y : y + 40, x : x + 48] for y in range(3) for x in range(3)]
        wrong &= np.all([one == DRAWN for one in near], axis=0)
    return wrong.any()


@pytest.mark.parametrize("name", MEANT)
def test_a_tissue_mask_means_the_same_in_every_encoding(tmp_path, name):
    encoding = MEANT[name]
    path = tmp_path / f"m.{encoding.suffix}"
    encoding.write(path)
    found, notes = tissue(path)
    assert not differing(found, "soft" in name or "shares" in name)
    assert bool(notes) == bool(encoding.tissue)
    assert not notes or any(encoding.tissue in note for note in notes)


@pytest.mark.parametrize("name", MEANT)
def test_labelled_patches_mean_the_same_in_every_encoding(tmp_path, name):
    encoding = MEANT[name]
    images, masks = folders(tmp_path, encoding)
    if encoding.refused:
        with pytest.raises(WsiError, match=encoding.patches) as caught:
            plan_patches(images, masks, tmp_path / "out")
        assert "--classes" in caught.value.message
        return
    told = []
    plan = plan_patches(images, masks, tmp_path / "out")
    assert len([*prepare(plan, lambda _image, note: told.append(note))]) == 1
    found = open_patches(tmp_path / "out")
    assert [one.name for one in found.classes] == ["other", "gland"]
    assert len(plan.notes) == 1
    labels = found.read(found.patches[0])[1]
    assert not differing(labels == 2, "soft" in name or "shares" in name)
    assert len(told) == bool(encoding.patches)
    assert all(encoding.patches in note for note in told)


REFUSED = {
    "transparent with something below": (
        "png",
        by_pillow(image(np.dstack([*[WHITE] * 3, 0 * ONES]))),
    ),
    "black in the alpha": ("png", by_pillow(with_alpha(BLACK, WHITE))),
    "white made transparent": ("png", by_pillow(image(WHITE), transparency=255)),
    "not a number": ("tif", by_tifffile(np.where(DRAWN, np.nan, 0).astype(np.float32))),
    "below nothing": ("tif", by_tifffile(-ONES.astype(np.int32))),
    "fractions of labels": ("tif", by_tifffile(LABELS.astype(np.float32) * 1.25)),
    "too large": ("tif", by_tifffile(ONES.astype(np.int32) * 70_000)),
    "truncated": (
        "png",
        lambda path: (image(IMAGE).save(path), path.write_bytes(path.read_bytes()[:99])),
    ),
    "two pages": ("tif", by_pillow(image(WHITE), save_all=True, append_images=[image(ONES)])),
    "an animation": ("gif", by_pillow(image(WHITE), save_all=True, append_images=[image(ONES)])),
    "text": ("png", lambda path: path.write_text("mask")),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_can_mean_nothing_is_one_line_to_both(tmp_path, name):
    suffix, write = REFUSED[name]
    images, masks = folders(tmp_path, Encoding(suffix, write))
    path = masks[0] / f"p.{suffix}"
    with pytest.raises(WsiError) as one:
        tissue(path)
    with pytest.raises(WsiError) as other:
        plan_patches(images, masks, tmp_path / "out")
    assert one.value.message == f"cannot use this tissue mask: {other.value.message}"
    assert one.value.subject == other.value.subject == str(path)


def test_an_empty_drawing_is_an_empty_mask(tmp_path):
    for number, made in enumerate((with_alpha(BLACK, 0 * WHITE), with_alpha(PAPER, 0 * WHITE))):
        made.save(tmp_path / f"{number}.png")
        assert not tissue(tmp_path / f"{number}.png")[0].any()


def test_a_jpeg_of_labels_is_no_tissue_mask(tmp_path):
    image(LABELS * 30).save(tmp_path / "m.jpg", quality=95)
    with pytest.raises(WsiError, match=r"labels up to \d+, and lossy .* save it as PNG"):
        tissue(tmp_path / "m.jpg")


def test_a_mask_without_any_black_is_said(tmp_path):
    image(np.full_like(WHITE, 255)).save(tmp_path / "m.png")
    assert tissue(tmp_path / "m.png")[1] == (
        "tissue mask m.png: no part of it is black, so the whole slide is analysed",
    )


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((1200, 1000), None),
        ((1200, 1001), None),
        ((1200, 1018), "1.8 % off"),
        ((1000, 1200), "refused"),
    ],
)
def test_masks_of_another_shape_are_said_or_refused(tmp_path, size, expected):
    half = np.zeros(size[::-1], np.uint8)
    half[::2] = 255
    image(half).save(tmp_path / "m.png")
    if expected == "refused":
        with pytest.raises(WsiError, match="another shape"):
            tissue(tmp_path / "m.png")
        return
    assert [expected in note for note in tissue(tmp_path / "m.png")[1]] == [True] * bool(expected)


@given(arrays.arrays(np.uint8, (7, 6)))
def test_sixteen_bits_mean_what_eight_do(values):
    values[0, 0] = 255
    deep = eight_bits(values.astype(np.uint16) * 257)
    assert np.array_equal(deep, values) or mask_kind(mask_of(picture_of(image(values))))[0] in (
        "labels",
    )


@given(arrays.arrays(np.uint16, (6, 5), elements=st.integers(0, 65279)))
def test_numbers_without_white_stay_as_they_are(numbers):
    assert np.array_equal(eight_bits(numbers), numbers)
