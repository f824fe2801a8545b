"""Decode one tile of a TIFF, and detect damaged ones.

JPEG decoders patch over damage: they fill what is missing with grey and only warn, and the warning
does not reach Python. OpenSlide refuses such tiles; so do we, by our own evidence.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from wsi_sampath.slides.readers.base import TileError

Raw = NDArray[Any]
COMPRESSIONS = {
    1: "none",
    5: "lzw",
    7: "jpeg",
    8: "deflate",
    32946: "deflate",
    33003: "jpeg2000",
    33005: "jpeg2000",
    50001: "webp",
}
_JPEG2000_YCBCR = 33003
_END_OF_IMAGE = b"\xff\xd9"
_GREY = 128
# Any bytes but 0xff would do that are unlikely to mean "no change".
_FILLER = bytes(range(17, 217, 3))
_ADOBE = 0xEE
_TAG_RGB, _TAG_YCBCR = 2, 6
_FAILURES = (
    tifffile.TiffFileError,
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    NotImplementedError,
)


def tile_decoder(page: Any) -> Callable[[bytes, int], Raw]:
    """Return the function that decodes the tiles of a page; it no longer needs the file.

    Parameters
    ----------
    page
        A `tifffile.TiffPage`.

    Returns
    -------
    (bytes, int) -> (h, w, samples)
        Takes the bytes of a tile or strip and its index; raises `TileError` where they are damaged
        or in a compression that is not known.
    """
    decode, tables = page.decode, page.jpegtables
    coding = COMPRESSIONS.get(page.compression, "")
    shape = (page.tilelength, page.tilewidth) if page.is_tiled else _strip_shape(page)
    as_ycbcr = page.compression == _JPEG2000_YCBCR

    def plain(data: bytes, index: int) -> Raw:
        try:
            tile: Raw = decode(data, index, jpegtables=tables)[0][0]
        except _FAILURES as error:
            raise TileError(f"tile {index}: {error or type(error).__name__}") from None
        return tile

    def colours(data: bytes, index: int) -> Raw:
        if page.photometric != _TAG_RGB or not contradicts_tag(page, data):
            return plain(data, index)
        try:
            tile: Raw = imagecodecs.jpeg8_decode(data, tables=tables, outcolorspace="RGB")
        except _FAILURES as error:
            raise TileError(f"tile {index}: {error or type(error).__name__}") from None
        return tile

    def jpeg(data: bytes, index: int) -> Raw:
        _check_size(jpeg_size(data), shape, index)
        tile = colours(data, index)
        if _is_cut_short(data, tile, lambda longer: colours(longer, index)):
            raise TileError(f"tile {index}: the JPEG data end too early")
        return tile

    def jpeg2000(data: bytes, index: int) -> Raw:
        _check_size(jpeg2000_size(data), shape, index)
        tile = plain(data, index)
        return _from_ycbcr(tile) if as_ycbcr else tile

    return {"jpeg": jpeg, "jpeg2000": jpeg2000}.get(coding, plain)


def contradicts_tag(page: Any, data: bytes) -> bool:
    """Return whether a JPEG tile contradicts the tag PhotometricInterpretation about its colours.

    The tile is right: the encoder wrote it, while the tag comes from whatever assembled the file.
    """
    if page.compression != 7 or page.samplesperpixel != 3 or page.planarconfig != 1:
        return False
    stated = jpeg_colours(data) or jpeg_colours(page.jpegtables or b"")
    return bool(stated) and stated != int(page.photometric)


def jpeg_colours(data: bytes) -> int:
    """Return the tag's number for the colours that Adobe's or the JFIF marker state; 0 if none.

    `libjpeg` uses the same two.
    """
    at, jfif = 2, False
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        if data[at + 1] == 0xFF:
            at += 1
            continue
        length = _number(data, at + 2, 2)
        if data[at + 1] == _ADOBE and data[at + 4 : at + 9] == b"Adobe" and length >= 14:
            return {0: _TAG_RGB, 1: _TAG_YCBCR}.get(data[at + 15], 0)
        jfif = jfif or data[at + 4 : at + 8] == b"JFIF"
        at += 2 + length
    return _TAG_YCBCR if jfif else 0


def _strip_shape(page: Any) -> tuple[int, int]:
    return min(int(page.rowsperstrip), int(page.imagelength)), int(page.imagewidth)


def _check_size(size: tuple[int, int] | None, most: tuple[int, int], index: int) -> None:
    # A damaged header may ask for gigapixels: check before the memory is allocated.
    if size is None:
        raise TileError(f"tile {index}: the header of the image is damaged")
    if not (0 < size[0] <= most[0] and 0 < size[1] <= most[1]):
        raise TileError(f"tile {index}: an image of {size[1]} x {size[0]} pixels is not a tile")


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Read (height, width) from the frame header of a JPEG stream."""
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return _number(data, at + 5, 2), _number(data, at + 7, 2)
        at += 2 + _number(data, at + 2, 2)
    return None


def jpeg2000_size(data: bytes) -> tuple[int, int] | None:
    """Read (height, width) from the SIZ segment, which opens every codestream."""
    start = data.find(b"\xff\x4f\xff\x51", 0, 4096)
    if start < 0 or start + 24 > len(data):
        return None
    right, bottom, left, top = (_number(data, start + 8 + 4 * i, 4) for i in range(4))
    return bottom - top, right - left


def _number(data: bytes, at: int, length: int) -> int:
    return int.from_bytes(data[at : at + length], "big")


def _is_cut_short(data: bytes, tile: Raw, decode: Callable[[bytes], Raw]) -> bool:
    """Return whether the decoder ran out of data before the last pixel.

    It then leaves the rest mid-grey. A picture may truly be grey there: only where data are missing
    do a few more bytes before the end change anything.
    """
    end = data.rfind(_END_OF_IMAGE)
    if end < 0:
        return True
    if not (tile[-8:, -8:] == _GREY).all():
        return False
    return not np.array_equal(tile, decode(data[:end] + _FILLER + data[end:]))


def _from_ycbcr(tile: Raw) -> Raw:
    return np.asarray(Image.fromarray(tile, "YCbCr").convert("RGB"))
