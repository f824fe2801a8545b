"""The tiles of a TIFF as JPEG pictures of their own, without decoding them."""

from __future__ import annotations

from typing import Any

import imagecodecs
import numpy as np

from wsi_sampath.slides.readers.base import Rgb, TileError
from wsi_sampath.slides.readers.tiff_codec import jpeg_colours, jpeg_size

_JPEG, _RGB, _YCBCR = 7, 2, 6
_START, _END = b"\xff\xd8", b"\xff\xd9"


def holds_jpeg(page: Any) -> bool:
    """Return whether every tile of a page is one JPEG of three colours.

    Parameters
    ----------
    page
        A `tifffile.TiffPage`.
    """
    return bool(
        page.is_tiled
        and page.compression == _JPEG
        and page.planarconfig == 1
        and page.samplesperpixel == 3
        and page.bitspersample == 8
        and page.photometric in (_RGB, _YCBCR)
    )


def whole_jpeg(page: Any, data: bytes) -> bytes:
    """Return a tile as a JPEG that any program shows as it is.

    Parameters
    ----------
    page
        One that `holds_jpeg`.
    data
        A tile as the file has it: it may lack the tables that the page holds once for all, and a
        word on whether its colours are RGB or YCbCr, which the page's tags have.

    Raises
    ------
    TileError
        Where the data are no complete JPEG of a tile.
    """
    if not data.startswith(_START) or _END not in data[-16:]:
        raise TileError("the JPEG data end too early")
    if jpeg_size(data) != (page.tilelength, page.tilewidth):
        raise TileError("the JPEG is not of the size of a tile")
    tables: bytes = page.jpegtables or b""
    stated = jpeg_colours(data) or jpeg_colours(tables)
    marker = b"" if stated else _adobe(page.photometric == _YCBCR)
    between = tables.removeprefix(_START).removesuffix(_END)
    return b"".join((_START, marker, between, data[len(_START) :]))


def shows(jpeg: bytes, pixels: Rgb) -> bool:
    """Return whether a JPEG by itself decodes to just these pixels."""
    try:
        decoded = imagecodecs.jpeg8_decode(jpeg)
    except (ValueError, RuntimeError):
        return False
    return np.array_equal(decoded, pixels)


def _adobe(is_ycbcr: bool) -> bytes:
    """Return Adobe's marker, which programs believe about the colours."""
    return b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00" + bytes([is_ycbcr])
