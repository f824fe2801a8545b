"""The pages of a TIFF as levels: where their tiles lie, and how they become RGB.

Everything is read at opening, into plain arrays and functions without state, so that any number of
threads may use it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from wsi_sampath.slides.readers.base import BROKEN_TIFF, RefusedError, Rgb, TileError, tiff_file
from wsi_sampath.slides.readers.metadata import SlideMetadata
from wsi_sampath.slides.readers.ome_layout import ome_pictures
from wsi_sampath.slides.readers.tiff_codec import COMPRESSIONS, contradicts_tag, tile_decoder
from wsi_sampath.slides.readers.tiff_layout import Picture, choose, lower_levels, plain_pictures
from wsi_sampath.slides.readers.tiff_pixels import Raw, Samples, samples_of

# Formats that tifffile knows and that are laid out as plain pages. Others place their tiles by
# their own rules (overlaps in BIF, restart markers in NDPI), which only OpenSlide knows.
_PLAIN_FLAGS = frozenset(
    {"svs", "ome", "shaped", "uniform", "imagej", "qpi", "geotiff", "gdal", "subifd"}
    | {"multipage", "volumetric", "virtual", "frame", "indica", "mrc"}
)
_MOST_TILE_PX = 8192
_MOST_STRIP_PX = 1 << 27
_RAW_STRIP_PX = 1 << 20
_UNCOMPRESSED = 1
_UM_PER_TAG = {2: 25400.0, 3: 10000.0}

ReadBytes = Callable[[int, int], bytes]


@dataclass(frozen=True, eq=False)
class Plane:
    """Where the tiles of a page, or of one of its colours, lie.

    Attributes
    ----------
    offsets, counts
        int64 (n,): first byte and number of bytes of every tile, row by row; the writer left out
        tiles of no bytes.
    decode
        (bytes, index of the tile) -> (h, w, samples), which covers the tile as far as it lies
        inside the level; raises `TileError`.
    """

    offsets: NDArray[np.int64]
    counts: NDArray[np.int64]
    decode: Callable[[bytes, int], Raw]


@dataclass(frozen=True, eq=False)
class TiledPage:
    """One level of the pyramid.

    Attributes
    ----------
    width, height, tile_width, tile_height
        In pixels of this level; a strip is a tile as wide as the level.
    planes
        One, or one for each colour.
    samples
        How decoded samples become RGB.
    exact
        Whether two correct decoders give the same pixels (in JPEG 2000 rounding is free).
    compared
        Whether OpenSlide is known to read such pages correctly.
    source
        The page in the file.
    """

    width: int
    height: int
    tile_width: int
    tile_height: int
    planes: tuple[Plane, ...]
    samples: Samples
    exact: bool
    compared: bool
    source: Any

    @property
    def columns(self) -> int:
        """Tiles in a row."""
        return -(-self.width // self.tile_width)

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """int64 (n,): bytes of every tile."""
        if len(self.planes) == 1:
            return self.planes[0].counts
        total: NDArray[np.int64] = np.sum([plane.counts for plane in self.planes], axis=0)
        return total

    @property
    def most_bytes(self) -> int:
        """Bytes beyond which a tile's count must be wrong."""
        wide = max(1, self.samples.bits // 8) * max(3, int(self.source.samplesperpixel))
        return 2 * wide * self.tile_width * self.tile_height + 65536

    def raw(self, index: int, read: ReadBytes) -> Raw:
        """Read and decode a tile, (h, w, samples), before its samples are interpreted.

        Raises
        ------
        TileError
            Where it is damaged.
        """
        parts = [plane.decode(self.coded(index, read, plane), index) for plane in self.planes]
        if any(part.ndim != 3 for part in parts):
            raise TileError(f"tile {index}: its data are not a picture")
        tile = parts[0] if len(parts) == 1 else np.concatenate(parts, -1)
        if tile.shape[-1] < self.samples.n_colours + (self.samples.alpha != "none"):
            raise TileError(f"tile {index}: it has {tile.shape[-1]} samples per pixel")
        return tile

    def coded(self, index: int, read: ReadBytes, plane: Plane | None = None) -> bytes:
        """Read a tile of a plane, the first if None, as it is in the file; see `raw`."""
        plane = plane or self.planes[0]
        count, offset = int(plane.counts[index]), int(plane.offsets[index])
        if not 0 < count <= self.most_bytes or offset <= 0:
            raise TileError(f"tile {index}: {count} bytes at {offset} cannot be right")
        return read(offset, count)

    def is_whole(self, index: int) -> bool:
        """Return whether a tile lies within the level up to its last pixel."""
        row, column = divmod(index, self.columns)
        right, bottom = (column + 1) * self.tile_width, (row + 1) * self.tile_height
        return right <= self.width and bottom <= self.height

    def tile(self, index: int, read: ReadBytes) -> Rgb:
        """Read a tile as uint8 (h, w, 3); see `raw`."""
        return self.samples.rgb(self.raw(index, read))

    def says_otherwise(self, index: int, read: ReadBytes) -> bool:
        """Return whether a JPEG tile has other colours than its tag says; see `contradicts_tag`."""
        return contradicts_tag(self.source, self.coded(index, read))


@dataclass(frozen=True)
class Layout:
    """The slide in a TIFF.

    Attributes
    ----------
    picture
        The picture that is the slide.
    pictures
        All pictures of the file.
    levels
        Level 0 and possible lower levels, largest first.
    metadata
        What the file says of `levels`.
    """

    picture: Picture
    pictures: tuple[Picture, ...]
    levels: tuple[TiledPage, ...]
    metadata: SlideMetadata

    @property
    def is_openslides(self) -> bool:
        """Whether no other picture of the same size can be what OpenSlide reads."""
        return not self.picture.of_stack and self.is_unique(self.levels[0])

    def is_unique(self, level: TiledPage) -> bool:
        """Return whether no other page of the file has the size of a level."""
        pages = (
            planes[0] for picture in self.pictures for planes in (picture.planes, *picture.reduced)
        )
        sizes = [(page.imagewidth, page.imagelength) for page in pages]
        return sizes.count((level.width, level.height)) == 1


def read_layout(path: Path, image: int | None = None) -> Layout:
    """Read the structure of a TIFF.

    Parameters
    ----------
    path
        The file, local or on a server.
    image
        Number of the picture to take; None takes the largest scan.

    Raises
    ------
    TileError
        Where this is not a TIFF of plain pages.
    RefusedError
        Where no RGB can be made of it.
    WsiError
        ``bad-input`` where there is no picture of that number.
    """
    try:
        with tiff_file(path) as tiff:
            strange = set(tiff.flags) - _PLAIN_FLAGS
            if strange and not tiff.is_svs:
                raise TileError(f"{', '.join(sorted(strange))} files are not read directly")
            return _layout(tiff, image)
    except BROKEN_TIFF as error:
        raise TileError(str(error) or type(error).__name__) from None


def _layout(tiff: tifffile.TiffFile, image: int | None) -> Layout:
    pictures = pictures_of(tiff)
    picture, warnings = choose(pictures, image)
    _refuse_channels(tiff, picture, pictures)
    first = tiled_page(picture.planes)
    if picture.order != first.samples.order:
        first = replace(first, samples=replace(first.samples, order=picture.order), compared=False)
    levels = [first]
    for planes in lower_levels(picture, pictures):
        try:
            lower = tiled_page(planes)
        except TileError:
            continue
        fits = lower.width < levels[-1].width and lower.samples.is_like(first.samples)
        if fits:
            levels.append(lower)
    warnings += picture.warnings + _orientation(picture.planes[0]) + _unused_xml(tiff, pictures)
    metadata = replace(_metadata(tiff, picture, levels), warnings=warnings)
    return Layout(picture, pictures, tuple(levels), metadata)


def pictures_of(tiff: tifffile.TiffFile) -> tuple[Picture, ...]:
    """Return all pictures of a TIFF, with the mpp that each states."""
    found = (ome_pictures(tiff) if tiff.is_ome else None) or plain_pictures(tiff)
    return tuple(
        picture if picture.ome else replace(picture, mpp=_tag_mpp(picture.planes[0]))
        for picture in found
    )


def _refuse_channels(
    tiff: tifffile.TiffFile, picture: Picture, pictures: Sequence[Picture]
) -> None:
    """Refuse a picture that is one of several grey ones, not RGB."""
    if picture.refusal:
        raise RefusedError(f"{picture}: {picture.refusal}")
    if picture.planes[0].samplesperpixel > 1 or len(picture.planes) > 1 or picture.ome:
        return
    alike = [p for p in pictures if p.size == picture.size and p.planes[0].samplesperpixel == 1]
    held = max(len(alike), int((tiff.imagej_metadata or {}).get("images", 1)))
    if held > 1:
        raise RefusedError(
            f"it holds {held} grey pictures of {picture.size[0]} x {picture.size[1]} pixels: "
            "channels or focal planes, not an RGB slide"
        )


def tiled_page(planes: Sequence[Any]) -> TiledPage:
    """Take one page, or three grey ones, as a level; raises `TileError` where it cannot be one."""
    page = planes[0]
    samples = samples_of(planes)
    _check_cut(page)
    width, height = int(page.imagewidth), int(page.imagelength)
    tile_width, tile_height = _tile_size(page)
    n_tiles = -(-width // tile_width) * -(-height // tile_height)
    if any(_layout_of(plane) != _layout_of(page) for plane in planes):
        raise TileError("its channels are not laid out alike")
    return TiledPage(
        width,
        height,
        tile_width,
        tile_height,
        tuple(part for plane in planes for part in _parts(plane, n_tiles, tile_height)),
        samples,
        exact=COMPRESSIONS.get(page.compression) != "jpeg2000",
        compared=samples.is_plain and not samples.assembled and page.planarconfig == 1,
        source=page,
    )


def _layout_of(page: Any) -> tuple[Any, ...]:
    return (page.imagewidth, page.imagelength, page.is_tiled, *_tile_size(page), str(page.dtype))


def _check_cut(page: Any) -> None:
    if page.imagedepth != 1 or page.tiledepth > 1:
        raise TileError("the image is a volume")
    width, height = _tile_size(page)
    tiles = page.is_tiled and not (0 < width <= _MOST_TILE_PX and 0 < height <= _MOST_TILE_PX)
    if tiles or not 0 < width * height <= _MOST_STRIP_PX:
        raise TileError(f"tiles of {width} x {height} pixels are too large; cut it into smaller")


def _tile_size(page: Any) -> tuple[int, int]:
    if page.is_tiled:
        return int(page.tilewidth), int(page.tilelength)
    width, height = int(page.imagewidth), int(page.imagelength)
    rows = min(int(page.rowsperstrip), height)
    if _is_raw(page) and rows * width > _RAW_STRIP_PX:
        # Rows of such a strip can be read separately.
        return width, max(1, _RAW_STRIP_PX // width)
    return width, max(1, rows)


def _is_raw(page: Any) -> bool:
    strip = len(page.dataoffsets) == (page.samplesperpixel if page.planarconfig == 2 else 1)
    whole = page.bitspersample in (8, 16) and page.fillorder == 1
    return page.compression == _UNCOMPRESSED and not page.is_tiled and strip and whole


def _parts(page: Any, n_tiles: int, rows: int) -> list[Plane]:
    """Return one plane, or one per sample where samples are stored separately."""
    n_planes = int(page.samplesperpixel) if page.planarconfig == 2 else 1
    offsets = np.asarray(page.dataoffsets, np.int64)
    counts = np.asarray(page.databytecounts, np.int64)
    if _is_raw(page) and n_tiles > 1:
        return [
            _cut_raw(page, int(start), int(size), rows, n_planes)
            for start, size in zip(offsets, counts, strict=True)
        ]
    if offsets.shape != (n_tiles * n_planes,) or counts.shape != offsets.shape:
        raise TileError(f"{len(offsets)} tiles are listed where {n_tiles * n_planes} should be")
    decode = tile_decoder(page)
    return [
        Plane(
            offsets[first : first + n_tiles],
            counts[first : first + n_tiles],
            lambda data, index, first=first: decode(data, first + index),  # type: ignore[misc]
        )
        for first in range(0, n_tiles * n_planes, n_tiles)
    ]


def _cut_raw(page: Any, start: int, size: int, rows: int, n_planes: int) -> Plane:
    """Cut one uncompressed strip into strips of some rows."""
    width, height = int(page.imagewidth), int(page.imagelength)
    samples = int(page.samplesperpixel) // n_planes
    dtype = np.dtype(page.dtype).newbyteorder(page.parent.byteorder)
    row = width * samples * dtype.itemsize
    if size < row * height:
        raise TileError("its strip is shorter than its picture")
    tops = np.arange(0, height, rows, dtype=np.int64)
    counts = np.minimum(rows, height - tops) * row

    def decode(data: bytes, index: int) -> Raw:
        pixels = np.frombuffer(data, dtype).reshape(-1, width, samples)
        return pixels.astype(dtype.newbyteorder("="))

    return Plane(start + tops * row, counts, decode)


def _orientation(page: Any) -> tuple[str, ...]:
    turned = int(page.tags.valueof(274, 1))
    if turned in (0, 1):
        return ()
    return (f"its Orientation tag is {turned} (turned or mirrored); it is read as it is stored",)


def _unused_xml(tiff: tifffile.TiffFile, pictures: Sequence[Picture]) -> tuple[str, ...]:
    first: Any = tiff.pages[0]
    if "<OME" not in str(first.description or "") or any(picture.ome for picture in pictures):
        return ()
    return (
        "its OME-XML is damaged or does not fit its pages: what it says of images and channels is "
        "not used",
    )


def _metadata(
    tiff: tifffile.TiffFile, picture: Picture, levels: Sequence[TiledPage]
) -> SlideMetadata:
    page = picture.planes[0]
    sizes = tuple((level.width, level.height) for level in levels)
    if picture.ome:
        return SlideMetadata(sizes, picture.mpp or _tag_mpp(page), vendor="ome")
    if tiff.is_svs:
        return SlideMetadata(sizes, _aperio_mpp(page.description), vendor="aperio")
    return SlideMetadata(sizes, picture.mpp)


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
