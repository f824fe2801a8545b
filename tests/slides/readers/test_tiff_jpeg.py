"""Tiles of a TIFF sent as they are: by themselves they decode to what the reader reads."""

from __future__ import annotations

import imagecodecs
import numpy as np
import pytest
import tifffile

from wsi_sampath.slides.readers.base import TileError
from wsi_sampath.slides.readers.tiff import TiffReader

SIDE = 128
WIDTH, HEIGHT = 3 * SIDE + 40, 2 * SIDE


@pytest.fixture(scope="module")
def pixels():
    down, right = np.mgrid[:HEIGHT, :WIDTH]
    waves = [120 + 100 * np.sin(right / n + down / (2 * n)) for n in (5, 9, 14)]
    return np.stack(waves, -1).astype(np.uint8)


def write(path, pixels, **how):
    options = {"tile": (SIDE, SIDE), "compression": "jpeg", "photometric": "ycbcr"}
    tifffile.imwrite(path, pixels, metadata=None, **{**options, **how})
    return path


KINDS = {
    "ycbcr": {},
    "4:4:4": {"subsampling": (1, 1)},
    "rgb": {"photometric": "rgb"},
    "rgb data without a marker": {
        "photometric": "rgb",
        "compressionargs": {"outcolorspace": "rgb", "level": 80},
    },
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_tile_by_itself_shows_what_the_reader_reads(tmp_path, pixels, kind):
    path = write(tmp_path / "s.tif", pixels, **KINDS[kind])
    reader = TiffReader(path)
    assert reader.jpeg_grid(0) == (SIDE, SIDE)
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        for column, row in ((0, 0), (2, 1)):
            sent = reader.jpeg_tile(0, column, row)
            box = (column * SIDE, row * SIDE, SIDE, SIDE)
            assert np.array_equal(imagecodecs.jpeg8_decode(sent), reader.read(0, *box))
            index = row * 4 + column
            tiff.filehandle.seek(page.dataoffsets[index])
            assert sent.endswith(tiff.filehandle.read(page.databytecounts[index])[2:])
    # The last column reaches beyond the slide.
    assert reader.jpeg_tile(0, 3, 0) is None
    reader.close()


def test_the_tables_of_a_page_come_with_every_tile(real_slides):
    path = real_slides / "CMU-1-Small-Region.svs"
    with tifffile.TiffFile(path) as tiff:
        assert tiff.pages[0].jpegtables
    reader = TiffReader(path)
    width, height = reader.jpeg_grid(0)
    for column, row in ((0, 0), (4, 7), (8, 11)):
        box = (column * width, row * height, width, height)
        sent = reader.jpeg_tile(0, column, row)
        assert np.array_equal(imagecodecs.jpeg8_decode(sent), reader.read(0, *box))
    reader.close()


@pytest.mark.parametrize(
    "how",
    [
        {"compression": "deflate", "photometric": "rgb"},
        {"compression": None, "photometric": "rgb"},
        {"tile": None, "rowsperstrip": 16},
        {"planarconfig": "separate", "photometric": "rgb"},
    ],
)
def test_what_is_no_jpeg_of_a_tile_is_not_sent(tmp_path, pixels, how):
    if how.get("planarconfig"):
        pixels = np.moveaxis(pixels, -1, 0)
    reader = TiffReader(write(tmp_path / "s.tif", pixels, **how))
    assert reader.jpeg_grid(0) is None
    reader.close()


def test_tiles_that_show_other_colours_than_are_read_are_not_sent(tmp_path, pixels):
    path = write(tmp_path / "s.tif", pixels, photometric="ycbcr")
    reader = TiffReader(path)
    page = reader._pages[0]
    # As if the reader, by the tag, took the same data for RGB.
    decode = page.planes[0].decode
    object.__setattr__(page.planes[0], "decode", lambda data, at: 255 - decode(data, at))
    assert reader.jpeg_grid(0) is None
    reader.close()


def test_a_tile_cut_short_is_not_sent(tmp_path, pixels):
    path = write(tmp_path / "s.tif", pixels)
    with tifffile.TiffFile(path) as tiff:
        end = tiff.pages[0].dataoffsets[1] + tiff.pages[0].databytecounts[1]
    reader = TiffReader(path)
    with path.open("r+b") as stream:
        stream.seek(end - 20)
        stream.write(b"\0" * 20)
    with pytest.raises(TileError, match="end too early"):
        reader.jpeg_tile(0, 1, 0)
    reader.close()
