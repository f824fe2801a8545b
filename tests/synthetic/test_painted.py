"""Painted slides open as Aperio slides and their truth is true."""

import hashlib
import itertools

import numpy as np
import openslide
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsi_sampath.synthetic.histology import make_palette
from wsi_sampath.synthetic.painted import GLAND, GLASS, OTHER, paint_slide
from wsi_sampath.synthetic.svs_writer import write_svs


def ramp(width, height):
    """A picture in which every place has a colour of its own, smooth enough for JPEG."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x / 4 + 20, y / 4 + 20, (x + y) / 8 + 20], -1).round().astype(np.uint8)


def pixels(path, level=0):
    with openslide.OpenSlide(path) as slide:
        size = slide.level_dimensions[level]
        return np.asarray(slide.read_region((0, 0), level, size).convert("RGB"))


@pytest.fixture(scope="module")
def biopsy(tmp_path_factory):
    path = tmp_path_factory.mktemp("painted") / "biopsy.svs"
    return paint_slide(path, width=2100, height=1530, mpp=1.0, seed=3, pen="blue", border=True)


def test_openslide_reads_vendor_levels_and_pixel_size(biopsy):
    with openslide.OpenSlide(biopsy.path) as slide:
        assert slide.properties["openslide.vendor"] == "aperio"
        assert slide.level_dimensions == ((2100, 1530), (525, 382), (131, 95))
        assert float(slide.properties["openslide.mpp-x"]) == 1.0
        assert float(slide.properties["openslide.mpp-y"]) == 1.0
        assert float(slide.properties["openslide.objective-power"]) == 10
        assert max(slide.associated_images["thumbnail"].size) <= 1024


def test_truth_fits_the_pixels(biopsy):
    rgb, truth = pixels(biopsy.path), biopsy.label_at(1.0)
    assert truth.shape == (1530, 2100)
    assert biopsy.glands > 20
    assert set(np.unique(truth)) == {GLASS, OTHER, GLAND}
    green = [rgb[..., 1][truth == label].mean() for label in (OTHER, GLAND)]
    border = rgb[:30]
    assert border.max() < 40
    assert (truth[:30] == GLASS).all()
    clear = (truth == GLASS) & (rgb.min(2) > 150)
    assert rgb[clear].mean() > 235
    assert 130 < green[0] < 190
    assert 80 < green[1] < green[0] - 15


def test_pen_and_border_are_glass(biopsy, tmp_path):
    plain = paint_slide(tmp_path / "plain.svs", width=2100, height=1530, mpp=1.0, seed=3)
    marked, bare = biopsy.label_at(1.0), plain.label_at(1.0)
    changed = marked != bare
    assert changed.any()
    assert (marked[changed] == GLASS).all()


def test_glands_have_the_size_of_crypts(biopsy):
    area_um2 = np.count_nonzero(biopsy.label_at(1.0) == GLAND) / biopsy.glands
    diameter_um = 2 * np.sqrt(area_um2 / np.pi)
    assert 65 < diameter_um < 110


def test_truth_at_a_coarser_scale_samples_the_fine_one(biopsy):
    fine, coarse = biopsy.label_at(1.0), biopsy.label_at(4.0)
    assert coarse.shape == (382, 525)
    rows = ((np.arange(382) + 0.5) * 1530 / 382).astype(int)
    columns = ((np.arange(525) + 0.5) * 2100 / 525).astype(int)
    np.testing.assert_array_equal(coarse, fine[np.ix_(rows, columns)])


def test_same_seed_same_bytes_other_seed_other_slide(tmp_path):
    def digest(name, seed):
        paint_slide(tmp_path / name, width=600, height=500, mpp=2.0, seed=seed)
        return hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()

    first = digest("a.svs", 1)
    make_palette.cache_clear()
    assert digest("b.svs", 1) == first
    assert digest("c.svs", 2) != first


def test_no_pieces_is_bare_glass(tmp_path):
    truth = paint_slide(tmp_path / "glass.svs", width=700, height=400, mpp=2.0, pieces=0)
    assert not truth.label_at(2.0).any()
    assert truth.glands == 0
    assert pixels(truth.path).min() > 220


def test_pieces_are_apart(tmp_path):
    ndimage = pytest.importorskip("scipy.ndimage")
    truth = paint_slide(tmp_path / "three.svs", width=3000, height=1200, mpp=2.0, pieces=3)
    assert ndimage.label(truth.label_at(8.0))[1] >= 3


def test_mpp_can_be_left_out(tmp_path):
    truth = paint_slide(tmp_path / "x.svs", width=300, height=300, mpp=2.0, mpp_in_file=False)
    with openslide.OpenSlide(truth.path) as slide:
        assert slide.properties["openslide.vendor"] == "aperio"
        assert "openslide.mpp-x" not in slide.properties
        assert "openslide.objective-power" not in slide.properties


def test_stroma_repeats_without_a_seam():
    stroma = make_palette(2.0, 0).stroma.astype(np.float64)
    inner = np.abs(np.diff(stroma, axis=0)).mean()
    seam = np.abs(stroma[0] - stroma[-1]).mean()
    assert seam < 1.5 * inner


@settings(max_examples=15, deadline=None)
@given(
    width=st.integers(16, 700),
    height=st.integers(16, 700),
    levels=st.sampled_from([(1,), (1, 4, 16), (1, 2, 4, 8)]),
    tile=st.sampled_from([240, 256, 512]),
    from_bands=st.booleans(),
)
def test_written_pixels_come_back(tmp_path_factory, width, height, levels, tile, from_bands):
    picture = ramp(width, height)
    path = tmp_path_factory.mktemp("svs") / "ramp.svs"

    def region(x, y, w, h):
        return picture[y : y + h, x : x + w]

    bands = (picture[y : y + 256] for y in range(0, height, 256))
    rows = bands if from_bands else region
    write_svs(path, rows, width=width, height=height, mpp=0.5, levels=levels, tile=tile, quality=95)
    with openslide.OpenSlide(path) as slide:
        assert slide.level_dimensions == tuple((width // f, height // f) for f in levels)
    for level, factor in enumerate(levels):
        small = picture[: height // factor * factor, : width // factor * factor]
        small = small.reshape(height // factor, factor, width // factor, factor, 3).mean((1, 3))
        assert np.abs(pixels(path, level) - small).mean() < 4


def test_the_writer_streams(tmp_path):
    """Bands are asked for one at a time, and never again."""
    live = []

    def bands():
        for _ in range(12):
            band = np.full((256, 512, 3), 200, np.uint8)
            live.append(band.nbytes)
            yield band

    write_svs(tmp_path / "tall.svs", bands(), width=512, height=256 * 12, mpp=0.25)
    assert len(live) == 12
    with openslide.OpenSlide(tmp_path / "tall.svs") as slide:
        assert slide.dimensions == (512, 3072)
        assert slide.properties["openslide.mpp-x"] == "0.25"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tile": 100}, "multiple of 16"),
        ({"levels": (1, 3, 4)}, "divide the next"),
        ({"levels": (2, 4)}, "start at 1"),
        ({"levels": (1, 128)}, "leave a pixel"),
    ],
)
def test_the_writer_refuses_bad_layouts(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        write_svs(tmp_path / "x.svs", iter([]), width=100, height=100, mpp=0.5, **options)


@pytest.mark.parametrize("heights", [(100, 156), (256,), (256, 200)])
def test_the_writer_refuses_bands_that_do_not_add_up(tmp_path, heights):
    bands = itertools.chain(np.zeros((rows, 64, 3), np.uint8) for rows in heights)
    with pytest.raises(ValueError, match="bands"):
        write_svs(tmp_path / "x.svs", bands, width=64, height=300, mpp=0.5)
