"""The direct TIFF reader: OpenSlide's pixels, or a step back."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from wsi_sampath.errors import WsiError
from wsi_sampath.slides.grid import plan_grid
from wsi_sampath.slides.readers.open import OpenSlideReader, TiffSlideReader, TileError, open_reader
from wsi_sampath.slides.readers.tiff import TiffReader
from wsi_sampath.slides.readers.tile_cache import TileCache
from wsi_sampath.slides.slide import Slide
from wsi_sampath.slides.stream import TileStream
from wsi_sampath.synthetic.svs_writer import write_svs

PLAIN = {"metadata": None, "software": False}
APERIO = "Aperio Image Library v11.2.1\n{w}x{h} [0,0 {w}x{h}] (256x256)|AppMag = 20|MPP = 0.5"


def picture(width: int = 700, height: int = 500, seed: int = 0) -> np.ndarray:
    """Colours that differ everywhere, with some noise."""
    y, x = np.mgrid[:height, :width]
    rgb = np.stack([x / 4 + 20, y / 4 + 20, (x + y) / 8 + 20], -1)
    noise = np.random.default_rng(seed).normal(0, 4, rgb.shape)
    return (rgb + noise).clip(0, 255).astype(np.uint8)


def whole(reader, level: int = 0) -> np.ndarray:
    width, height = reader.metadata.level_sizes[level]
    return reader.read(level, 0, 0, width, height)


def write_jpeg2000(path: Path, rgb: np.ndarray, compression: int) -> Path:
    """Write as Aperio does: 33003 leaves the colour transform to the reader."""

    def tiles():
        for y in range(0, rgb.shape[0], 256):
            for x in range(0, rgb.shape[1], 256):
                tile = rgb[y : y + 256, x : x + 256]
                short = [(0, 256 - n) for n in tile.shape[:2]]
                tile = np.pad(tile, [*short, (0, 0)], mode="edge")
                if compression == 33003:
                    tile = np.asarray(Image.fromarray(tile).convert("YCbCr"))
                yield imagecodecs.jpeg2k_encode(
                    tile, level=40, codecformat="j2k", mct=compression == 33005, reversible=False
                )

    height, width = rgb.shape[:2]
    tifffile.imwrite(
        path,
        tiles(),
        shape=rgb.shape,
        dtype=np.uint8,
        tile=(256, 256),
        photometric="rgb",
        compression=compression,
        description=APERIO.format(w=width, h=height),
        **PLAIN,
    )
    return path


# --- the same pixels ----------------------------------------------------------------------------


def test_every_level_is_openslides(painted):
    ours, theirs = TiffReader(painted.path), OpenSlideReader(painted.path)
    assert ours.metadata == theirs.metadata
    assert len(ours.metadata.level_sizes) == 3
    for level in range(3):
        assert np.array_equal(whole(ours, level), whole(theirs, level))


@pytest.fixture(scope="module")
def opened(painted):
    reader = TiffReader(painted.path)
    return reader, [whole(reader, level) for level in range(3)]


@settings(max_examples=60, deadline=None)
@given(
    level=st.integers(0, 2),
    x=st.integers(-300, 3100),
    y=st.integers(-300, 2400),
    width=st.integers(1, 600),
    height=st.integers(1, 600),
)
def test_any_box_is_cut_from_the_whole(opened, level, x, y, width, height):
    reader, planes = opened
    plane = planes[level]
    want = np.full((height, width, 3), 255, np.uint8)
    left, top = max(x, 0), max(y, 0)
    inside = plane[top : max(top, y + height), left : max(left, x + width)]
    if inside.size:
        want[top - y : top - y + inside.shape[0], left - x : left - x + inside.shape[1]] = inside
    assert np.array_equal(reader.read(level, x, y, width, height), want)


@pytest.mark.parametrize("tile", [240, 256, 512])
def test_a_lower_level_starts_at_exact_pixels(tmp_path, tile):
    rgb = picture(1536, 1024)
    path = write_svs(
        tmp_path / "a.svs",
        [rgb],
        width=1536,
        height=1024,
        mpp=0.5,
        tile=tile,
        levels=(1, 4),
        quality=95,
    )
    with Slide.open(path, reader="tiff") as slide:
        got = slide.read(x0=404, y0=808, width=100, height=40, mpp=2.0)
        assert slide.sampling(2.0).level == 1
    want = Image.fromarray(rgb).reduce(4)
    near = np.abs(got.astype(int) - np.asarray(want)[202:242, 101:201])
    assert near.mean() < 3


@pytest.mark.parametrize("compression", [33003, 33005])
def test_jpeg2000_is_openslides_to_one_grey_value(tmp_path, compression):
    rgb = picture()
    path = write_jpeg2000(tmp_path / "a.svs", rgb, compression)
    ours, theirs = whole(open_reader(path, reader="tiff")), whole(OpenSlideReader(path))
    assert np.abs(ours.astype(int) - theirs).max() <= 1
    assert np.abs(ours.astype(int) - rgb).mean() < 4


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize(
    ("compression", "predictor"),
    [(None, False), ("lzw", False), ("lzw", True), ("zlib", False), ("zlib", True)],
)
def test_lossless_codings(tmp_path, byteorder, bigtiff, compression, predictor):
    rgb = picture(300, 260)
    tifffile.imwrite(
        tmp_path / "a.tif",
        rgb,
        tile=(128, 64),
        photometric="rgb",
        compression=compression,
        predictor=predictor,
        byteorder=byteorder,
        bigtiff=bigtiff,
        resolution=(20000, 20000),
        resolutionunit="CENTIMETER",
    )
    reader = open_reader(tmp_path / "a.tif", reader="tiff")
    assert np.array_equal(whole(reader), rgb)
    assert reader.metadata.mpp == pytest.approx((0.5, 0.5))


@pytest.mark.parametrize(
    ("stored", "subsampling", "photometric"),
    [("rgb", None, 2), ("ycbcr", (1, 1), 6), ("ycbcr", (2, 2), 6)],
)
def test_jpeg_colours(tmp_path, stored, subsampling, photometric):
    rgb = picture()
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path,
        rgb,
        tile=(256, 256),
        compression="jpeg",
        compressionargs={"level": 97, "outcolorspace": stored},
        photometric="rgb",
        subsampling=subsampling,
    )
    with tifffile.TiffFile(path) as tiff:
        assert tiff.pages[0].photometric == photometric
    assert np.abs(whole(open_reader(path, reader="tiff")).astype(int) - rgb).mean() < 5


# --- pyramids -----------------------------------------------------------------------------------


def write_ome(path: Path, rgb: np.ndarray, **metadata) -> Path:
    with tifffile.TiffWriter(path, ome=True) as tiff:
        options = {"tile": (128, 128), "photometric": "rgb", "compression": "webp"}
        options["compressionargs"] = {"lossless": True}
        tiff.write(rgb, subifds=1, metadata={"axes": "YXS", **metadata}, **options)
        tiff.write(rgb[::2, ::2], subfiletype=1, **options)
        tiff.write(rgb[:100, :140], metadata={"axes": "YXS"}, photometric="rgb")
    return path


@pytest.mark.parametrize(
    ("size", "unit", "mpp"), [(0.5, "µm", 0.5), (500, "nm", 0.5), (0.00025, "mm", 0.25)]
)
def test_ome_pyramid_and_units(tmp_path, size, unit, mpp):
    rgb = picture(512, 384)
    path = write_ome(
        tmp_path / "a.ome.tif",
        rgb,
        PhysicalSizeX=size,
        PhysicalSizeXUnit=unit,
        PhysicalSizeY=size,
        PhysicalSizeYUnit=unit,
    )
    reader = open_reader(path, reader="tiff")
    assert reader.metadata.level_sizes == ((512, 384), (256, 192))
    assert reader.metadata.mpp == pytest.approx((mpp, mpp))
    assert np.array_equal(whole(reader), rgb)
    assert np.array_equal(whole(reader, 1), rgb[::2, ::2])


@pytest.mark.parametrize("unit", ["pixel", "reference frame", "furlong"])
def test_units_that_are_no_lengths_give_no_mpp(tmp_path, unit):
    path = write_ome(
        tmp_path / "a.ome.tif",
        picture(256, 256),
        PhysicalSizeX=1,
        PhysicalSizeXUnit=unit,
        PhysicalSizeY=1,
        PhysicalSizeYUnit=unit,
    )
    assert open_reader(path, reader="tiff").metadata.mpp is None


def test_pages_are_levels_where_their_shape_fits(tmp_path):
    rgb = picture(800, 600)
    options = {"tile": (128, 128), "photometric": "rgb", "compression": "webp"}
    options["compressionargs"] = {"lossless": True}
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        tiff.write(rgb, **options, **PLAIN)
        tiff.write(rgb[:150, :200], photometric="rgb", **PLAIN)
        tiff.write(rgb[::2, ::2], **options, **PLAIN)
        tiff.write(rgb[:200, :150], **options, **PLAIN)
        tiff.write(rgb[2::8, 2::8], **options, **PLAIN)
    reader = open_reader(tmp_path / "a.tif", reader="tiff")
    assert reader.metadata.level_sizes == ((800, 600), (400, 300), (100, 75))
    for level, want in enumerate([rgb, rgb[::2, ::2], rgb[2::8, 2::8]]):
        assert np.array_equal(whole(reader, level), want)


@pytest.mark.parametrize(
    ("unit", "per_unit", "mpp"),
    [("CENTIMETER", 40000, 0.25), ("INCH", 25400, 1.0), ("NONE", 40000, None)],
)
def test_mpp_from_the_resolution_tags(tmp_path, unit, per_unit, mpp):
    tifffile.imwrite(
        tmp_path / "a.tif",
        picture(256, 256),
        tile=(128, 128),
        photometric="rgb",
        compression="webp",
        resolution=(per_unit, per_unit),
        resolutionunit=unit,
    )
    got = open_reader(tmp_path / "a.tif", reader="tiff").metadata.mpp
    assert got == (None if mpp is None else pytest.approx((mpp, mpp)))


# --- what is left to others ---------------------------------------------------------------------


def test_ycbcr_with_fewer_colours_is_left_to_openslide(tmp_path):
    image = np.random.default_rng(0).integers(0, 200, (300, 300, 3)).astype(np.uint8)
    tifffile.imwrite(
        tmp_path / "a.tif", image, photometric="ycbcr", tile=(128, 128), subsampling=(1, 1)
    )
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+b") as tiff:
        tiff.pages[0].tags["YCbCrSubSampling"].overwrite((2, 2))
    with pytest.raises(TileError, match="YCbCr"):
        TiffReader(tmp_path / "a.tif")


@pytest.mark.parametrize("content", [b"II*\0", b"II*\0\x08\0\0\0", b"II*\0" + b"\xff" * 99])
def test_nonsense_is_one_clear_error(tmp_path, content):
    (tmp_path / "a.svs").write_bytes(content)
    with pytest.raises(WsiError) as caught:
        open_reader(tmp_path / "a.svs")
    assert caught.value.reason == "unreadable"


def test_steps_back_where_openslide_sees_other_pixels(painted, monkeypatch):
    read = OpenSlideReader.read

    def one_off(self, level, x, y, width, height):
        pixels = read(self, level, x, y, width, height).copy()
        pixels[0, 0, 0] ^= 1
        return pixels

    monkeypatch.setattr(OpenSlideReader, "read", one_off)
    assert open_reader(painted.path).name == "openslide"
    with pytest.raises(WsiError, match="differently"):
        open_reader(painted.path, reader="tiff")


def test_steps_back_where_openslide_knows_a_vendor_of_its_own(painted, monkeypatch):
    init = OpenSlideReader.__init__

    def other_vendor(self, path):
        init(self, path)
        object.__setattr__(self.metadata, "vendor", "ventana")

    monkeypatch.setattr(OpenSlideReader, "__init__", other_vendor)
    assert open_reader(painted.path).name == "openslide"


@pytest.mark.parametrize("name", ["tiff", "openslide", "tiffslide"])
def test_every_reader_can_be_named(painted, name):
    assert open_reader(painted.path, reader=name).name == name
    assert open_reader(painted.path).name == "tiff"


# --- tiles once, threads, holes -----------------------------------------------------------------


def leave_out(source: Path, target: Path, level: int, tiles: list[int]) -> Path:
    """Copy a slide, marking tiles of a page as never written (no bytes)."""
    shutil.copyfile(source, target)
    with tifffile.TiffFile(target, mode="r+b") as tiff:
        tag = [page for page in tiff.pages if page.is_tiled][level].tags["TileByteCounts"]
        counts = [0 if index in tiles else count for index, count in enumerate(tag.value)]
        tag.overwrite(counts)
    return target


def test_a_missing_tile_is_background(tmp_path):
    """In a generic TIFF, at every level, as OpenSlide has it."""
    rgb = picture(1000, 800)
    options = {"tile": (256, 256), "photometric": "rgb", "compression": "jpeg"}
    with tifffile.TiffWriter(tmp_path / "full.tif") as tiff:
        tiff.write(rgb, **options, **PLAIN)
        tiff.write(rgb[::2, ::2], subfiletype=1, **options, **PLAIN)
    path = leave_out(tmp_path / "full.tif", tmp_path / "a.tif", 0, [5, 6])
    path = leave_out(path, tmp_path / "b.tif", 1, [1])
    reader, full = open_reader(path), open_reader(tmp_path / "full.tif")
    assert reader.name == full.name == "tiff"
    for level, hole in enumerate([np.s_[256:512, 256:768], np.s_[:256, 256:]]):
        want = whole(full, level)
        want[hole] = 255
        assert np.array_equal(whole(reader, level), want)
        assert np.array_equal(whole(OpenSlideReader(path), level), want)


@pytest.mark.parametrize("level", [0, 1])
def test_holes_in_an_aperio_pyramid_are_left_to_openslide(painted, tmp_path, level):
    assert open_reader(leave_out(painted.path, tmp_path / "a.svs", level, [2])).name == "openslide"


@pytest.mark.parametrize("mpp", [0.5, 1.0, 0.7])
@pytest.mark.parametrize("tile", [240, 256])
def test_a_stream_decodes_every_tile_about_once(tmp_path, tile, mpp):
    rgb = picture(2500, 1536)
    path = write_svs(
        tmp_path / "a.svs", [rgb], width=2500, height=1536, mpp=0.5, tile=tile, levels=(1,)
    )
    with Slide.open(path) as slide:
        assert slide.reader.decoded_px == 0
        sampling = slide.sampling(mpp)
        grid = plan_grid(sampling, tile=512, overlap=128, stride=4)
        for _ in TileStream(slide, sampling, grid, batch_size=2, workers=2):
            pass
        assert 2500 * 1536 <= slide.reader.decoded_px <= 1.02 * 2500 * 1536


def test_a_wide_slide_needs_only_the_tiles_between_two_strips(tmp_path, monkeypatch):
    """Room for one row of tiles is enough where boxes lie across the tiles."""
    rgb = picture(2400, 1536)
    path = write_svs(
        tmp_path / "a.svs", [rgb], width=2400, height=1536, mpp=0.5, tile=240, levels=(1,)
    )
    reader = TiffReader(path)
    monkeypatch.setattr(reader, "_cache", TileCache(16 * 240 * 240 * 3))
    for y in range(0, 1536, 256):
        for x in range(0, 2400, 256):
            reader.read(0, x, y, 256, 256)
    assert reader.decoded_px == 2400 * 1536


@given(
    st.integers(1, 5),
    st.lists(st.tuples(st.integers(0, 8), st.sampled_from([25, 50, 100])), max_size=60),
)
def test_cache_stays_within_its_bytes(room, wishes):
    cache = TileCache(room * 100)
    made = 0
    for index, wanted in wishes:

        def make(index=index):
            nonlocal made
            made += 1
            return np.full(100, index, np.uint8)

        tile = cache.fetch((0, index), make, pixels=100, wanted=wanted)
        assert (tile == index).all()
        assert cache._held == 100 * len(cache._unread) <= room * 100
        assert cache._unread.keys() == cache._in_use.keys() | cache._spent.keys()
        assert not cache._in_use.keys() & cache._spent.keys()
    assert cache.decoded_px == 100 * made


def test_a_failing_tile_is_not_kept():
    cache = TileCache(1000)

    def fail():
        raise TileError("damaged")

    for _ in range(2):
        with pytest.raises(TileError):
            cache.fetch((0, 0), fail, pixels=9, wanted=1)
    assert cache.fetch((0, 0), lambda: np.ones(9, np.uint8), pixels=9, wanted=1).all()
    assert cache.decoded_px == 9


def test_many_threads_decode_a_tile_once(painted):
    reader, want = TiffReader(painted.path), whole(OpenSlideReader(painted.path))
    boxes = [(x, y) for y in range(0, 2300, 128) for x in range(0, 3000, 128)]
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda box: reader.read(0, *box, 128, 128), boxes))
    for (x, y), pixels in zip(boxes, got, strict=True):
        inside = want[y : y + 128, x : x + 128]
        assert np.array_equal(pixels[: inside.shape[0], : inside.shape[1]], inside)
    assert reader.decoded_px == 3000 * 2300


def test_callers_own_what_they_get(painted):
    reader = TiffReader(painted.path)
    for box in [(256, 256, 256, 256), (300, 300, 100, 100)]:
        first = reader.read(0, *box)
        kept = first.copy()
        first[:] = 0
        assert np.array_equal(reader.read(0, *box), kept)


def test_a_closed_reader_says_so(painted):
    reader = TiffReader(painted.path)
    reader.close()
    with pytest.raises(TileError):
        reader.read(0, 0, 0, 64, 64)


# --- real slides --------------------------------------------------------------------------------


def test_real_slides_read_as_the_other_readers_do(real_slides):
    compared = 0
    for path in sorted(real_slides.iterdir()):
        try:
            ours = TiffReader(path)
        except TileError:
            continue
        assert path.suffix != ".ndpi"
        try:
            theirs = OpenSlideReader(path)
        except TileError:
            theirs = TiffSlideReader(path)
        assert ours.metadata.level_sizes == theirs.metadata.level_sizes
        assert ours.metadata.mpp == pytest.approx(theirs.metadata.mpp)
        for level in range(len(ours.metadata.level_sizes)):
            assert np.array_equal(whole(ours, level), whole(theirs, level))
        compared += 1
    assert compared >= 1
