"""Pixels straight from OpenSlide's library: the bytes that its public call and `flatten` make."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import openslide
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from openslide import lowlevel

from wsi_sampath.slides.readers import openslide as reader
from wsi_sampath.slides.readers import openslide_pixels
from wsi_sampath.slides.readers.base import flatten
from wsi_sampath.slides.readers.openslide_pixels import read_rgb, rgb_of_premultiplied
from wsi_sampath.synthetic.painted import paint_slide

SIDE = 600
WHITE = (255, 255, 255)
COLOURS = st.tuples(*[st.integers(0, 255)] * 3)
REGIONS = [
    ((0, 0), 0, (256, 256)),
    ((100, 37), 0, (64, 3)),
    ((0, 0), 0, (SIDE, SIDE)),
    ((500, 500), 0, (256, 200)),
    ((-50, 20), 0, (100, 100)),
    ((5000, 5000), 0, (20, 30)),
    ((0, 0), 0, (0, 5)),
]


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    path = tmp_path_factory.mktemp("pixels") / "a.svs"
    paint_slide(path, width=SIDE, height=SIDE, mpp=0.5, seed=1)
    with openslide.OpenSlide(path) as opened:
        yield opened


def by_pillow(slide, region, background) -> np.ndarray:
    return flatten(np.asarray(slide.read_region(*region)), background)


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("background", [WHITE, (10, 200, 90)])
def test_a_region_has_the_bytes_of_the_public_call(slide, region, background, monkeypatch):
    expected = by_pillow(slide, region, background)
    with monkeypatch.context() as patch:
        if 0 not in region[2]:
            patch.setattr(openslide.OpenSlide, "read_region", None)
        found = read_rgb(slide, *region, background)
    np.testing.assert_array_equal(found, expected)
    assert found.flags["C_CONTIGUOUS"]
    assert found.flags["WRITEABLE"]


@settings(max_examples=80, deadline=None)
@given(
    samples=arrays.arrays(np.uint8, st.tuples(st.integers(0, 5), st.integers(0, 5), st.just(4))),
    alpha=st.sampled_from([None, 0, 1, 127, 128, 254, 255]),
    background=COLOURS,
)
def test_pixels_of_any_transparency_have_the_bytes_of_the_public_call(samples, alpha, background):
    if alpha is not None:
        samples[..., 3] = alpha
    # Premultiplied: no colour is above its alpha.
    samples[..., :3] = np.minimum(samples[..., :3], samples[..., 3:])
    red, green, blue, opacity = np.moveaxis(samples.astype(np.uint32), -1, 0)
    argb = np.ascontiguousarray(opacity << 24 | red << 16 | green << 8 | blue)
    expected = np.empty((*argb.shape, 3), np.uint8)
    if argb.size:
        image = lowlevel._load_image(argb.copy().ravel(), argb.shape[::-1])
        expected = flatten(np.asarray(image), background)
    np.testing.assert_array_equal(rgb_of_premultiplied(argb, background), expected)


def test_every_transparency_and_colour_has_the_bytes_of_the_public_call():
    alpha, colour = np.mgrid[:256, :256].astype(np.uint32)
    colour = np.minimum(colour, alpha)
    argb = np.ascontiguousarray(alpha << 24 | colour << 16 | (alpha - colour) << 8 | colour // 2)
    image = np.asarray(lowlevel._load_image(argb.copy().ravel(), (256, 256)))
    for background in (WHITE, (0, 128, 77)):
        found = rgb_of_premultiplied(argb, background)
        np.testing.assert_array_equal(found, flatten(image, background))


@pytest.mark.parametrize("lack", ["no function", "other arguments"])
def test_without_the_lower_call_the_public_one_is_used(slide, monkeypatch, lack):
    region = REGIONS[1]
    expected = by_pillow(slide, region, WHITE)
    if lack == "no function":
        monkeypatch.delattr(lowlevel, "_read_region")
    else:
        monkeypatch.setattr(lowlevel._read_region, "argtypes", lowlevel._read_region.argtypes[:-1])
    assert openslide_pixels._library_call(slide) is None
    # That one stands on the same function.
    monkeypatch.setattr(openslide.OpenSlide, "read_region", lambda *_: expected)
    np.testing.assert_array_equal(read_rgb(slide, *region, WHITE), expected)


def test_what_was_read_is_not_written_again(slide):
    regions = [((x, y), 0, (90, 80)) for y in range(0, 500, 50) for x in range(0, 500, 50)]
    start = threading.Barrier(4)

    def read(some):
        start.wait()
        return [read_rgb(slide, *region, WHITE) for region in some]

    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(read, [regions[n::4] for n in range(4)]))
    for n, part in enumerate(parts):
        for region, found in zip(regions[n::4], part, strict=True):
            np.testing.assert_array_equal(found, by_pillow(slide, region, WHITE))


@pytest.mark.parametrize(
    ("width", "tile", "megabytes"),
    [(40_960, ("512", "512"), 160), (100_000, ("512", "512"), 256), (5000, ("256", "256"), 10)],
)
def test_the_cache_holds_two_rows_of_tiles_and_is_bounded(width, tile, megabytes):
    names = (f"openslide.level[0].tile-{side}" for side in ("width", "height"))
    stated = dict(zip(names, tile, strict=True))
    assert reader._cache_bytes(stated, width) == megabytes << 20
    assert reader._cache_bytes({}, width) == 0


@pytest.mark.parametrize("enough", [True, False])
def test_a_cache_too_small_for_a_slide_is_enlarged_and_again_after_a_fault(
    slide, monkeypatch, enough
):
    made = []
    own = openslide.OpenSlideCache
    monkeypatch.setattr(openslide, "OpenSlideCache", lambda n: made.append(n) or own(n))
    monkeypatch.setattr(reader, "_OWN_CACHE", 1 << 30 if enough else 0)
    opened = reader.OpenSlideReader(slide._filename)
    opened._reopen(opened._handle)
    rows_of_three = 2 * 4 * 3 * 256 * 256
    assert made == ([] if enough else [rows_of_three] * 2)
    expected = by_pillow(slide, REGIONS[0], WHITE)
    np.testing.assert_array_equal(opened.read(0, 0, 0, 256, 256), expected)
    opened.close()
