"""Headers are held against the file: what claims too much is refused, what is true is read."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from wsi_sampath.errors import WsiError
from wsi_sampath.slides.readers.base import TileError
from wsi_sampath.slides.readers.file_checks import (
    check_claims,
    check_header,
    lost_parts,
    missing_data,
)
from wsi_sampath.slides.readers.open import READERS, open_reader
from wsi_sampath.slides.readers.tiff_header import read_header
from wsi_sampath.slides.slide import Slide

SIDE, TILE = 512, 128
APERIO = f"Aperio Image Library v11.2.1\n{SIDE}x{SIDE}|AppMag = 20|MPP = 0.5"
PICTURE = np.random.default_rng(0).integers(60, 255, (SIDE, SIDE, 3), np.uint8)
# What may be believed of the 200 kB below, in pixels: deflate packs at most 1032 bytes into one.
SANE_PX = 1032 * 200_000 // 3


def paint(path: Path, *, pixels: np.ndarray = PICTURE, **options) -> Path:
    values = {"tile": (TILE, TILE), "compression": "jpeg", "description": APERIO, **options}
    tifffile.imwrite(path, pixels, photometric="rgb", metadata=None, **values)
    return path


def patch(path: Path, tag: int, *, value: int | None = None, count: int = 1) -> Path:
    """Overwrite a tag of the first directory by one LONG, or only its count."""
    data = bytearray(path.read_bytes())
    start = struct.unpack("<I", data[4:8])[0]
    for index in range(struct.unpack("<H", data[start : start + 2])[0]):
        at = start + 2 + 12 * index
        if struct.unpack("<H", data[at : at + 2])[0] != tag:
            continue
        if value is None:
            data[at + 4 : at + 8] = struct.pack("<I", count)
        else:
            data[at + 2 : at + 12] = struct.pack("<HII", 4, count, value)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("reader", ["auto", *READERS])
@pytest.mark.parametrize(
    ("tag", "value"),
    [
        (256, 1 << 24),
        (256, 200_000),
        (256, 4_000_000_000),
        (256, SIDE + (1 << 17)),
        (257, 1 << 31),
        (257, SIDE + TILE),
        (322, 2**32 - 1),
        (322, TILE + 16),
        (322, 0),
        (323, 1 << 20),
        (277, 60_000),
        (324, 1 << 31),
    ],
)
def test_sizes_that_the_file_cannot_hold_are_one_line(tmp_path, tag, value, reader):
    path = patch(paint(tmp_path / "a.svs"), tag, value=value)
    with pytest.raises(WsiError) as caught:
        open_reader(path, reader=reader)
    assert caught.value.reason == "unreadable"
    assert "\n" not in caught.value.line()


@pytest.mark.parametrize("tag", [324, 325])
def test_a_list_longer_than_the_file_is_refused_before_it_is_read(tmp_path, tag):
    path = patch(paint(tmp_path / "a.svs"), tag, count=4_000_000_000)
    with pytest.raises(WsiError, match="4000000000 values"):
        open_reader(path)


@pytest.mark.parametrize("tag", [273, 279])
@pytest.mark.parametrize("kind", [2, 5, 12])
def test_lists_of_other_values_than_whole_numbers_are_refused(tmp_path, tag, kind):
    path = paint(tmp_path / "a.tif", tile=None, rowsperstrip=32, compression=None)
    Slide.open(path).close()
    data = bytearray(path.read_bytes())
    at = data.index(struct.pack("<H", tag), struct.unpack("<I", data[4:8])[0])
    data[at + 2 : at + 4] = struct.pack("<H", kind)
    path.write_bytes(data)
    with pytest.raises(WsiError, match=f"tag {tag}.*copy it again"):
        Slide.open(path)


@pytest.mark.parametrize("compression", ["none", "deflate", "lzw", "zstd", "packbits", "jpeg"])
@pytest.mark.parametrize("width", [SIDE * 3, SIDE + 1, 1 << 26])
def test_the_width_of_strips_is_held_against_their_bytes(tmp_path, compression, width):
    path = tmp_path / "a.tif"
    options = {"compression": None if compression == "none" else compression, "rowsperstrip": 64}
    tifffile.imwrite(path, PICTURE, photometric="rgb", metadata=None, **options)
    check_claims(path, [(SIDE, SIDE)])
    patch(path, 256, value=width)
    with pytest.raises(TileError, match="damaged"):
        check_claims(path, [(width, SIDE)])


@pytest.mark.parametrize("lost", [256, 257, 322, 324, 325])
def test_a_damaged_page_is_never_replaced_by_a_smaller_one(tmp_path, lost):
    path = tmp_path / "a.svs"
    options = {"tile": (TILE, TILE), "photometric": "rgb", "metadata": None, "description": "mpp=1"}
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(PICTURE, **options)
        tiff.write(PICTURE[::2, ::2], **options)
    data = bytearray(path.read_bytes())
    start = struct.unpack("<I", data[4:8])[0]
    at = data.index(struct.pack("<H", lost), start + 2)
    data[at : at + 2] = struct.pack("<H", 65001)
    path.write_bytes(data)
    with pytest.raises(WsiError, match="damaged"):
        Slide.open(path)


def test_a_refusal_says_both_numbers_and_what_to_do(tmp_path):
    path = patch(paint(tmp_path / "a.svs"), 256, value=200_000)
    with pytest.raises(WsiError, match=r"200000 x 512 px.*lists 16.*copy it again"):
        open_reader(path)


@pytest.mark.parametrize("compression", ["deflate", "lzw", "jpeg2000", "webp", "jpeg"])
def test_a_uniform_picture_that_compresses_to_nothing_is_read(tmp_path, compression):
    white = np.full((2048, 2048, 3), 255, np.uint8)
    path = paint(tmp_path / "a.svs", pixels=white, compression=compression, description="mpp=0.5")
    with Slide.open(path) as slide:
        assert slide.size == (2048, 2048)
        assert (slide.thumbnail(8.0)[0] > 250).all()


def test_one_deflated_strip_of_a_white_slide_is_read(tmp_path):
    white = np.full((4096, 4096, 3), 255, np.uint8)
    tifffile.imwrite(
        tmp_path / "a.tif", white, photometric="rgb", compression="deflate", rowsperstrip=4096
    )
    check_claims(tmp_path / "a.tif", [(4096, 4096)])
    assert missing_data(tmp_path / "a.tif", [(4096, 4096)]) == ()


@pytest.mark.parametrize("reader", ["auto", "openslide"])
def test_a_sparse_slide_of_empty_tiles_is_read(tmp_path, reader):
    path = paint(tmp_path / "a.svs")
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tiff:
        tag = tiff.pages[0].tags["TileByteCounts"]
        width = tag.valuebytecount // tag.count
        data[tag.valueoffset : tag.valueoffset + 15 * width] = bytes(15 * width)
    path.write_bytes(data)
    with Slide.open(path, reader=reader) as slide:
        assert slide.warnings == ()
        assert (slide.reader.read(0, 0, 0, TILE, TILE) == 255).all()
        assert slide.reader.read(0, SIDE - TILE, SIDE - TILE, TILE, TILE).std() > 20


@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_headers_of_every_kind_are_read(tmp_path, bigtiff, byteorder):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path, bigtiff=bigtiff, byteorder=byteorder) as tiff:
        tiff.write(PICTURE, tile=(TILE, TILE), photometric="rgb", subifds=1)
        tiff.write(PICTURE[::2, ::2], tile=(TILE, TILE), photometric="rgb", subfiletype=1)
        tiff.write(PICTURE[:100], photometric="rgb", rowsperstrip=7)
    header = read_header(path)
    assert header is not None
    assert [one.size for one in header.directories] == [(512, 512), (256, 256), (512, 100)]
    assert [one.segments for one in header.directories] == [16, 4, 15]
    assert not header.cut_off
    check_header(path)
    check_claims(path, [one.size for one in header.directories])
    assert lost_parts(path, [one.size for one in header.directories]) == {}


def test_directories_that_lead_back_to_themselves_end(tmp_path):
    path = paint(tmp_path / "a.svs")
    data = bytearray(path.read_bytes())
    start = struct.unpack("<I", data[4:8])[0]
    after = start + 2 + 12 * struct.unpack("<H", data[start : start + 2])[0]
    data[after : after + 4] = struct.pack("<I", start)
    path.write_bytes(data)
    header = read_header(path)
    assert header is not None
    assert len(header.directories) == 1


@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "folder", "missing", "empty"])
def test_what_is_not_a_plain_file_is_one_line_at_once(tmp_path, kind):
    path = tmp_path / "a.svs"
    with socket.socket(socket.AF_UNIX) as held:
        match kind:
            case "pipe":
                os.mkfifo(path)
            case "socket":
                # A path of at most 108 bytes.
                os.chdir(tmp_path)
                held.bind("a.svs")
            case "device":
                path = Path("/dev/zero")
            case "folder":
                path.mkdir()
            case "empty":
                path.touch()
        with pytest.raises(WsiError) as caught:
            Slide.open(path)
    assert caught.value.reason == "unreadable"
    assert caught.value.subject == str(path)


def test_a_name_that_no_file_can_have_is_one_line():
    for name in ("a\0b.svs", "a" * 5000 + ".svs"):
        with pytest.raises(WsiError) as caught:
            Slide.open(name)
        assert caught.value.reason == "unreadable"


@pytest.mark.parametrize("reader", ["auto", *READERS])
@pytest.mark.parametrize("compression", [None, "deflate", "jpeg"])
def test_nothing_that_lies_beyond_the_end_is_made_up(tmp_path, compression, reader):
    path = paint(tmp_path / "a.svs", compression=compression)
    data = path.read_bytes()
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        offsets, counts = page.dataoffsets, page.databytecounts
    path.write_bytes(data[: offsets[10] + counts[10] // 2])
    try:
        opened = open_reader(path, reader=reader)
    except WsiError:
        assert reader not in ("auto", "tiff")  # noqa: PT017 - they must open it
        return
    for index in range(16):
        y, x = (place * TILE for place in divmod(index, 4))
        if index < 10:
            assert opened.read(0, x, y, TILE, TILE).std() > 20
        else:
            with pytest.raises(TileError):
                opened.read(0, x, y, TILE, TILE)


def test_a_cut_off_file_says_so(tmp_path):
    path = paint(tmp_path / "a.svs")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 3 // 4])
    with Slide.open(path) as slide:
        assert "of 16 parts of level 0 are missing" in " ".join(slide.warnings)


SOURCES = {
    "jpeg tiles": {},
    "raw strips": {"tile": None, "rowsperstrip": 32, "compression": None},
    "deflated strips": {"tile": None, "rowsperstrip": 32, "compression": "deflate"},
}


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("sources")
    small = PICTURE[:256, :256]
    options = {"tile": (64, 64), "description": "mpp=0.5"}
    return {
        name: paint(folder / "a.tif", pixels=small, **{**options, **changes}).read_bytes()
        for name, changes in SOURCES.items()
    }


@pytest.mark.parametrize("name", SOURCES)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(flips=st.lists(st.tuples(st.integers(0, 255), st.integers(0, 7)), min_size=1, max_size=3))
@example(flips=[(21, 0), (84, 0)])  # A width of 16,777,472, and offsets of strips as fractions.
def test_flipped_bits_of_a_header_end_in_a_refusal_or_a_sane_slide(sources, name, flips):
    content = bytearray(sources[name])
    start = struct.unpack("<I", content[4:8])[0]
    length = 2 + 12 * struct.unpack("<H", content[start : start + 2])[0] + 4
    places = [*range(8), *range(start, start + length)]
    for index, bit in flips:
        content[places[index % len(places)]] ^= 1 << bit
    with TemporaryDirectory() as folder:
        path = Path(folder, "a.tif")
        path.write_bytes(content)
        try:
            slide = Slide.open(path, slide_mpp=0.5)
        except WsiError as error:
            assert "\n" not in error.line()  # noqa: PT017 - refusing is one of two right ways
            return
        with slide:
            assert slide.size[0] * slide.size[1] <= SANE_PX
            image, failed, _ = slide.thumbnail(8.0)
            assert image.shape[:2] == failed.shape


@pytest.mark.parametrize("cut", [{"tile": (64, 64)}, {"rowsperstrip": 256}, {"rowsperstrip": 16}])
def test_zeros_at_the_end_of_an_uncompressed_slide_are_said(tmp_path, cut):
    path = tmp_path / "a.tif"
    rgb = np.full((256, 512, 3), 200, np.uint8)
    tifffile.imwrite(path, rgb, photometric="rgb", metadata=None, **cut)
    size = ((512, 256),)
    assert missing_data(path, size) == ()
    data = bytearray(path.read_bytes())
    data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
    path.write_bytes(data)
    assert "% of level 0 holds only zeros" in missing_data(path, size)[0]


def test_zeros_that_are_white_or_transparent_are_not_damage(tmp_path):
    path = tmp_path / "a.tif"
    blank = np.zeros((256, 512), np.uint8)
    tifffile.imwrite(path, blank, photometric="miniswhite", tile=(64, 64), metadata=None)
    assert missing_data(path, ((512, 256),)) == ()
    clear = np.zeros((256, 512, 4), np.uint8)
    tifffile.imwrite(
        path, clear, photometric="rgb", extrasamples=["unassalpha"], tile=(64, 64), metadata=None
    )
    assert missing_data(path, ((512, 256),)) == ()
