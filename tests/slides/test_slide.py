from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile
from PIL import Image

from wsi_sampath.errors import WsiError
from wsi_sampath.slides.readers.open import TileError
from wsi_sampath.slides.slide import Slide
from wsi_sampath.synthetic.painted import paint_slide
from wsi_sampath.synthetic.svs_writer import write_svs


def openslide_rgb(path: Path, x: int, y: int, w: int, h: int) -> np.ndarray:
    with openslide.OpenSlide(str(path)) as handle:
        return np.asarray(handle.read_region((x, y), 0, (w, h)).convert("RGB"))


def test_levels_mpp_and_reader(painted):
    with Slide.open(painted.path) as slide:
        assert slide.reader.name == "tiff"
        assert slide.size == (3000, 2300)
        assert [level.downsample_x for level in slide.levels] == [1, 4, 16]
        assert (slide.mpp.x, slide.mpp.y, slide.mpp.source) == (0.5, 0.5, "metadata")


def test_level_0_pixels_are_openslides(painted):
    with Slide.open(painted.path) as slide:
        got = slide.read(x0=700, y0=900, width=300, height=200, mpp=0.5)
    assert np.array_equal(got, openslide_rgb(painted.path, 700, 900, 300, 200))


def test_tiffslide_reads_the_same_pixels(painted):
    with Slide.open(painted.path, reader="tiffslide") as slide:
        assert slide.reader.name == "tiffslide"
        got = slide.read(x0=700, y0=900, width=300, height=200, mpp=0.5)
    assert np.array_equal(got, openslide_rgb(painted.path, 700, 900, 300, 200))


def test_whole_factors_average_whole_blocks(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 256, (512, 768, 3), np.uint8)
    path = write_svs(
        tmp_path / "one_level.svs", [rgb], width=768, height=512, mpp=0.25, levels=(1,), quality=95
    )
    level0 = openslide_rgb(path, 0, 0, 768, 512)
    with Slide.open(path) as slide:
        plan = slide.sampling(0.5)
        assert plan.is_integer
        got = slide.read_sampled(plan, 10, 20, 100, 60)
    blocks = level0[40:160, 20:220].reshape(60, 2, 100, 2, 3).mean((1, 3))
    assert np.abs(got - blocks).max() <= 0.5


def test_any_box_comes_out_the_same_however_it_is_cut(painted):
    with Slide.open(painted.path) as slide:
        plan = slide.sampling(0.7)
        assert not plan.is_integer
        whole = slide.read_sampled(plan, 0, 0, 400, 300).astype(int)
        part = slide.read_sampled(plan, 123, 77, 150, 90).astype(int)
    assert np.abs(whole[77:167, 123:273] - part).max() <= 2


def test_downsampling_is_antialiased(tmp_path):
    stripes = np.zeros((512, 512, 3), np.uint8)
    stripes[:, ::2] = 255
    path = write_svs(
        tmp_path / "stripes.svs",
        [stripes],
        width=512,
        height=512,
        mpp=0.25,
        levels=(1,),
        quality=95,
    )
    with Slide.open(path) as slide:
        for mpp in (0.5, 0.6, 0.85):
            inside = slide.read(x0=40, y0=40, width=60, height=60, mpp=mpp).astype(float)
            assert np.abs(inside.mean() - 127.5) < 6
            assert inside.std() < 25


def test_axes_are_resampled_apart(tmp_path):
    ramp = np.zeros((400, 800, 3), np.uint8)
    ramp[..., 0] = np.linspace(0, 255, 800)[None, :]
    ramp[..., 1] = np.linspace(0, 255, 400)[:, None]
    path = write_svs(
        tmp_path / "ramp.svs",
        [ramp[:256], ramp[256:]],
        width=800,
        height=400,
        mpp=0.5,
        levels=(1,),
        quality=95,
    )
    with Slide.open(path, slide_mpp=(0.25, 0.5)) as slide:
        plan = slide.sampling(0.5)
        assert (plan.width, plan.height) == (400, 400)
        got = slide.read(x0=0, y0=0, width=400, height=400, mpp=0.5).astype(float)
    want = np.asarray(Image.fromarray(ramp).resize((400, 400), Image.Resampling.BOX)).astype(float)
    assert np.abs(got - want)[..., :2].mean() < 3


def test_outside_is_background(painted):
    with Slide.open(painted.path) as slide:
        got = slide.read(x0=-100, y0=-100, width=150, height=150, mpp=0.5)
        far = slide.read(x0=10**6, y0=0, width=8, height=8, mpp=0.5)
    assert (got[:100] == 255).all()
    assert (got[:, :100] == 255).all()
    assert not (got[100:, 100:] == 255).all()
    assert (far == 255).all()


def test_threads_read_the_same_pixels(painted):
    boxes = [(x, y) for x in range(0, 2600, 200) for y in range(0, 2000, 200)]
    with Slide.open(painted.path) as slide, ThreadPoolExecutor(8) as pool:

        def read(box):
            return slide.read(x0=box[0], y0=box[1], width=256, height=256, mpp=0.5)

        threaded = list(pool.map(read, boxes))
        for box, got in zip(boxes, threaded, strict=True):
            assert np.array_equal(got, read(box))


def test_missing_mpp(tmp_path):
    path = tmp_path / "no_mpp.svs"
    paint_slide(path, width=600, height=600, mpp_in_file=False)
    with pytest.raises(WsiError) as caught:
        Slide.open(path)
    assert caught.value.reason == "no-mpp"
    assert caught.value.subject == str(path)
    assert Slide.open(path, slide_mpp=0.5).mpp.source == "flag"


@pytest.mark.parametrize("content", [None, b"", b"not a slide at all" * 50])
def test_unreadable(tmp_path, content):
    path = tmp_path / "bad.svs"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WsiError) as caught:
        Slide.open(path)
    assert caught.value.reason == "unreadable"


def test_unknown_reader(painted):
    with pytest.raises(WsiError) as caught:
        Slide.open(painted.path, reader="magic")
    assert caught.value.reason == "bad-input"


def corrupt(source: Path, target: Path, tiles: range) -> Path:
    """Copy a slide with the bytes of some level-0 tiles overwritten."""
    data = bytearray(source.read_bytes())
    with tifffile.TiffFile(source) as tiff:
        page = tiff.pages[0]
        for index in tiles:
            start, count = page.dataoffsets[index], page.databytecounts[index]
            data[start : start + count] = bytes(count)
    target.write_bytes(data)
    return target


def test_a_tile_that_cannot_be_decoded_does_not_spoil_the_next(painted, tmp_path):
    path = corrupt(painted.path, tmp_path / "corrupt.svs", range(50, 53))
    with Slide.open(path) as slide:
        outcomes = []
        for y in range(0, 2300, 256):
            for x in range(0, 3000, 256):
                try:
                    slide.read(x0=x, y0=y, width=200, height=200, mpp=0.5)
                    outcomes.append(True)
                except TileError:
                    outcomes.append(False)
    bad = [index for index, fine in enumerate(outcomes) if not fine]
    assert bad == [50, 51, 52]


def test_fingerprint_tells_slides_apart(painted, tmp_path):
    other = corrupt(painted.path, tmp_path / "other.svs", range(1))
    with Slide.open(painted.path) as a, Slide.open(painted.path) as b, Slide.open(other) as c:
        assert a.fingerprint() == b.fingerprint() != c.fingerprint()


def test_every_real_slide_opens_or_says_why(real_slides):
    readers = {}
    for path in sorted(real_slides.iterdir()):
        try:
            with Slide.open(path, slide_mpp=0.5) as slide:
                readers[path.name] = slide.reader.name
                image, failed, plan = slide.thumbnail(8.0)
                assert image.shape == (plan.height, plan.width, 3)
                assert not failed.any()
        except WsiError as error:
            assert error.reason == "unreadable"  # noqa: PT017 - some are meant to fail
            readers[path.name] = ""
    assert readers.keys() == {path.name for path in real_slides.iterdir()}
    for name, reader in readers.items():
        if name.startswith("broken"):
            assert reader == ""
        if name.endswith((".webp.tiff", ".ome.tif")):
            assert reader in ("tiff", "tiffslide")
        if name.endswith(".ndpi"):
            assert reader == "openslide"
