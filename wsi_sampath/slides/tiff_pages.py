"""What a tiled RGB TIFF holds: its pyramid, where its tiles lie, and how they are decoded.

Everything is read at opening, into plain arrays and functions without state, so that any number of
threads may use it. Whatever is not plainly a tiled 8-bit RGB pyramid is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile
from numpy.typing import NDArray

from wsi_sampath.slides.metadata import SlideMetadata
from wsi_sampath.slides.readers import BROKEN_TIFF, TileError
from wsi_sampath.slides.tiff_codec import COMPRESSIONS, Rgb, tile_decoder

# Formats that tifffile knows and that are laid out as plain pyramids. Others place their tiles by
# rules of their own (overlaps in BIF, restart markers in NDPI) which only OpenSlide knows.
_PLAIN_FLAGS = frozenset({"svs", "ome", "shaped", "uniform"})
_MOST_PAGES = 100
_MOST_TILE_PX = 8192
_UM_PER = {
    "m": 1e6,
    "dm": 1e5,
    "cm": 1e4,
    "mm": 1e3,
    "\u00b5m": 1.0,
    "\u03bcm": 1.0,
    "um": 1.0,
    "nm": 1e-3,
    "pm": 1e-6,
    "\u00c5": 1e-4,
    "in": 25400.0,
}
_UM_PER_TAG = {2: 25400.0, 3: 10000.0}


@dataclass(frozen=True, eq=False)
class TiledPage:
    """One level of the pyramid.

    Attributes
    ----------
    width, height, tile_width, tile_height
        In pixels of this level.
    offsets, counts
        int64 (n,): first byte and number of bytes of every tile, row by row; a tile of no bytes
        was left out by the writer.
    decode
        (bytes, index of the tile) -> uint8 (h, w, 3) that covers the tile as far as it lies inside
        the level; raises `TileError`.
    exact
        Whether two right decoders give the same pixels (JPEG 2000 leaves them to rounding).
    """

    width: int
    height: int
    tile_width: int
    tile_height: int
    offsets: NDArray[np.int64]
    counts: NDArray[np.int64]
    decode: Callable[[bytes, int], Rgb]
    exact: bool

    @property
    def columns(self) -> int:
        """Tiles in a row."""
        return -(-self.width // self.tile_width)

    @property
    def most_bytes(self) -> int:
        """Bytes beyond which a tile's count must be wrong."""
        return 6 * self.tile_width * self.tile_height + 65536


def read_pages(path: Path) -> tuple[tuple[TiledPage, ...], SlideMetadata]:
    """Read the structure of a TIFF.

    Parameters
    ----------
    path
        A local file.

    Returns
    -------
    (tuple of TiledPage, SlideMetadata)
        The levels, level 0 first, and what the file says of itself.

    Raises
    ------
    TileError
        Where this is no tiled pyramid of 8-bit RGB in a known compression.
    """
    try:
        with tifffile.TiffFile(path) as tiff:
            strange = set(tiff.flags) - _PLAIN_FLAGS
            if strange:
                raise TileError(f"{', '.join(sorted(strange))} files are not read directly")
            pixels = _ome_pixels(tiff) if tiff.is_ome else None
            pages = tuple(_tiled_page(page) for page in _pyramid(tiff))
            return pages, _metadata(tiff, pages, pixels)
    except (*BROKEN_TIFF, ElementTree.ParseError) as error:
        raise TileError(str(error) or type(error).__name__) from None


def _pyramid(tiff: tifffile.TiffFile) -> list[Any]:
    """Choose the pages that are levels: the first, and its smaller copies."""
    first = tiff.pages[0]
    others: Iterable[Any] = first.pages or ()
    if not first.subifds and not tiff.is_ome:
        if len(tiff.pages) > _MOST_PAGES:
            raise TileError(f"{len(tiff.pages)} pages are a stack, not a slide")
        others = [tiff.pages[index] for index in range(1, len(tiff.pages))]
    return [first, *_smaller_copies(first, others)]


def _smaller_copies(first: Any, others: Iterable[Any]) -> Iterator[Any]:
    last = first
    for page in others:
        expected = first.imagewidth * page.imagelength / first.imagelength
        fits = abs(page.imagewidth - expected) <= max(2, 0.02 * expected)
        if page.is_tiled and fits and page.imagewidth < last.imagewidth:
            yield page
            last = page


def _tiled_page(page: Any) -> TiledPage:
    _check_plain(page)
    columns = -(-page.imagewidth // page.tilewidth)
    n_tiles = columns * -(-page.imagelength // page.tilelength)
    offsets = np.asarray(page.dataoffsets, np.int64)
    counts = np.asarray(page.databytecounts, np.int64)
    if offsets.shape != (n_tiles,) or counts.shape != (n_tiles,):
        raise TileError(f"{len(offsets)} tiles are listed where {n_tiles} should be")
    return TiledPage(
        page.imagewidth,
        page.imagelength,
        page.tilewidth,
        page.tilelength,
        offsets,
        counts,
        tile_decoder(page),
        exact=COMPRESSIONS[page.compression] != "jpeg2000",
    )


def _check_plain(page: Any) -> None:
    if not page.is_tiled or page.imagedepth != 1 or page.tiledepth != 1:
        raise TileError("the image is not cut into tiles")
    if not (0 < page.tilewidth <= _MOST_TILE_PX and 0 < page.tilelength <= _MOST_TILE_PX):
        raise TileError(f"tiles of {page.tilewidth} x {page.tilelength} pixels are no tiles")
    if page.samplesperpixel != 3 or page.planarconfig != 1 or page.extrasamples:
        raise TileError("the pixels are not interleaved RGB")
    if page.bitspersample != 8 or page.dtype != np.uint8:
        raise TileError(f"the samples are {page.bitspersample}-bit {page.dtype}, not 8-bit")
    coding = COMPRESSIONS.get(page.compression)
    if coding is None:
        raise TileError(f"compression {int(page.compression)} is not read directly")
    if page.photometric not in ((2, 6) if coding in ("jpeg", "jpeg2000") else (2,)):
        raise TileError(f"photometric {int(page.photometric)} with {coding} is not RGB")


def _ome_pixels(tiff: tifffile.TiffFile) -> ElementTree.Element:
    """Find the OME image that the first page belongs to; a stack is refused."""
    first: Any = tiff.pages[0]
    root = ElementTree.fromstring(tiff.ome_metadata or "")
    size = (str(first.imagewidth), str(first.imagelength))
    for pixels in root.iterfind(".//{*}Pixels"):
        if (pixels.get("SizeX"), pixels.get("SizeY")) == size:
            if (pixels.get("SizeZ"), pixels.get("SizeT"), pixels.get("SizeC")) != ("1", "1", "3"):
                raise TileError("the OME image is a stack, not one RGB plane")
            return pixels
    raise TileError("the OME metadata describe another image")


def _metadata(
    tiff: tifffile.TiffFile, pages: tuple[TiledPage, ...], ome: ElementTree.Element | None
) -> SlideMetadata:
    first: Any = tiff.pages[0]
    sizes = tuple((page.width, page.height) for page in pages)
    if ome is not None:
        return SlideMetadata(sizes, _ome_mpp(ome) or _tag_mpp(first), vendor="ome")
    if tiff.is_svs:
        return SlideMetadata(sizes, _aperio_mpp(first.description), vendor="aperio")
    return SlideMetadata(sizes, _tag_mpp(first))


def _ome_mpp(pixels: ElementTree.Element) -> tuple[float, float] | None:
    found = []
    for axis in "XY":
        size = float(pixels.get(f"PhysicalSize{axis}", "nan"))
        unit = pixels.get(f"PhysicalSize{axis}Unit", "\u00b5m")
        found.append(size * _UM_PER.get(unit, float("nan")))
    return _positive(found[0], found[1])


def _tag_mpp(page: Any) -> tuple[float, float] | None:
    # 282, 283 and 296 are XResolution, YResolution and ResolutionUnit, in pixels per unit.
    per_unit = _UM_PER_TAG.get(int(page.tags.valueof(296, 2)), float("nan"))
    found = []
    for tag in (282, 283):
        above, below = page.tags.valueof(tag, (0, 1))
        found.append(per_unit * below / above if above else float("nan"))
    return _positive(found[0], found[1])


def _aperio_mpp(description: str) -> tuple[float, float] | None:
    found = re.search(r"\|\s*MPP\s*=\s*([0-9.]+)", description)
    return _positive(float(found[1]), float(found[1])) if found else None


def _positive(x: float, y: float) -> tuple[float, float] | None:
    return (x, y) if x > 0 and y > 0 and np.isfinite([x, y]).all() else None
