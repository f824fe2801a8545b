"""The fast way into tiled TIFF slides: their tiles straight from the file.

OpenSlide stays the reference: where it opens the file too, a few boxes are compared at opening and
this reader steps back unless they are the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsi_sampath.slides.readers import OpenSlideReader, Reader, Rgb, TileError, read_clipped
from wsi_sampath.slides.tiff_pages import TiledPage, read_pages
from wsi_sampath.slides.tile_cache import TileCache

_OPENSLIDE_VENDORS = frozenset({"aperio", "generic-tiff"})
_LEAST_CACHE, _MOST_CACHE = 64 << 20, 256 << 20
_CHECK_PX = 96
_CHECKS = 4
_JPEG2000_TOLERANCE = 1


@dataclass(frozen=True)
class _Part:
    """One tile's share of a box: where it is in the tile and where in the box."""

    index: int
    source: tuple[slice, slice]
    target: tuple[slice, slice]
    wanted: int


class TiffReader:
    """Tiles of a TIFF decoded directly. Thread-safe.

    Takes Aperio SVS, generic pyramidal TIFF and OME-TIFF with 8-bit RGB tiles.

    Parameters
    ----------
    path
        A local file.

    Raises
    ------
    TileError
        Where the file is of another kind, or its pixels are not OpenSlide's.
    """

    name = "tiff"

    def __init__(self, path: Path) -> None:
        if not hasattr(os, "pread"):
            raise TileError("this system has no positioned reads")
        self._pages, self.metadata = read_pages(path)
        self._cache = TileCache(_capacity(self._pages[0]))
        self._file = path.open("rb", buffering=0)
        try:
            self._agree(path)
        except TileError:
            self.close()
            raise
        self._cache = TileCache(_capacity(self._pages[0]))

    @property
    def decoded_px(self) -> int:
        """Pixels of the slide decoded so far; a tile decoded twice counts twice."""
        return self._cache.decoded_px

    def read(self, level: int, x: int, y: int, width: int, height: int) -> Rgb:
        """Read a box of a level; see `Reader.read`."""
        page = self._pages[level]
        return read_clipped(
            (page.width, page.height),
            self.metadata.background,
            (x, y, width, height),
            lambda box: self._raw(level, box),
        )

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _raw(self, level: int, box: tuple[int, int, int, int]) -> Rgb:
        page = self._pages[level]
        whole = _whole_tile(page, box)
        if whole is not None and page.counts[whole]:
            self._cache.count(box[2] * box[3])
            return page.decode(self._bytes(page, whole), whole)
        out = np.empty((box[3], box[2], 3), np.uint8)
        for part in _parts(page, box):
            if page.counts[part.index] == 0:
                out[part.target] = self.metadata.background
            else:
                out[part.target] = self._tile(level, part)[part.source]
        return out

    def _tile(self, level: int, part: _Part) -> Rgb:
        page, index = self._pages[level], part.index
        row, column = divmod(index, page.columns)
        width = min(page.tile_width, page.width - column * page.tile_width)
        height = min(page.tile_height, page.height - row * page.tile_height)
        return self._cache.fetch(
            (level, index),
            lambda: page.decode(self._bytes(page, index), index),
            pixels=width * height,
            wanted=part.wanted,
        )

    def _bytes(self, page: TiledPage, index: int) -> bytes:
        count, offset = int(page.counts[index]), int(page.offsets[index])
        if not 0 < count <= page.most_bytes or offset <= 0:
            raise TileError(f"tile {index}: {count} bytes at {offset} cannot be right")
        try:
            data = os.pread(self._file.fileno(), count, offset)
        except (OSError, ValueError) as error:
            raise TileError(f"tile {index}: {error}") from None
        if len(data) < count:
            raise TileError(f"tile {index}: the file ends before it; is it fully copied?")
        return data

    def _agree(self, path: Path) -> None:
        """Take OpenSlide's word for the metadata, and compare pixels with it."""
        try:
            reference: Reader = OpenSlideReader(path)
        except TileError:
            for level, box in self._check_boxes():
                self.read(level, *box)
            return
        try:
            self._agree_with(reference)
        finally:
            reference.close()

    def _agree_with(self, reference: Reader) -> None:
        stated = reference.metadata
        if stated.vendor not in _OPENSLIDE_VENDORS:
            raise TileError(f"{stated.vendor} files are left to OpenSlide")
        if stated.level_sizes != self.metadata.level_sizes:
            raise TileError("OpenSlide sees other levels")
        holes = any((page.counts == 0).any() for page in self._pages)
        if holes and stated.vendor == "aperio" and len(self._pages) > 1:
            # It takes a hole for a fault of the scanner, distrusts what lies over it in the lower
            # levels, and paints that from the finest level.
            raise TileError("tiles are missing; OpenSlide mends that")
        self.metadata = replace(stated)
        for level, box in self._check_boxes():
            tolerance = 0 if self._pages[level].exact else _JPEG2000_TOLERANCE
            ours, theirs = _try(self, level, box), _try(reference, level, box)
            if not _same(ours, theirs, tolerance):
                raise TileError(f"OpenSlide reads {box} of level {level} differently")

    def _check_boxes(self) -> Iterator[tuple[int, tuple[int, int, int, int]]]:
        """Yield boxes of level 0 where there is most to see, and the corners of lower levels."""
        page = self._pages[0]
        weight = np.where(page.counts > page.most_bytes, 0, page.counts)
        for tiles in np.array_split(np.arange(len(weight)), min(_CHECKS, len(weight))):
            row, column = divmod(int(tiles[weight[tiles].argmax()]), page.columns)
            x = _across((column + 1) * page.tile_width, page.width)
            y = _across((row + 1) * page.tile_height, page.height)
            yield 0, (x, y, min(_CHECK_PX, page.width), min(_CHECK_PX, page.height))
        for level, lower in enumerate(self._pages[1:], 1):
            yield level, (0, 0, min(_CHECK_PX, lower.width), min(_CHECK_PX, lower.height))


def _across(border: int, size: int) -> int:
    """Place a box to be compared over the border of a tile, inside the level."""
    return max(0, min(border - _CHECK_PX // 2, size - _CHECK_PX))


def _whole_tile(page: TiledPage, box: tuple[int, int, int, int]) -> int | None:
    """Return the index of the tile that a box is, to the pixel."""
    column, dx = divmod(box[0], page.tile_width)
    row, dy = divmod(box[1], page.tile_height)
    exact = (dx, dy, box[2], box[3]) == (0, 0, page.tile_width, page.tile_height)
    return row * page.columns + column if exact else None


def _parts(page: TiledPage, box: tuple[int, int, int, int]) -> Iterator[_Part]:
    x, y, width, height = box
    for row in range(y // page.tile_height, -(-(y + height) // page.tile_height)):
        from_y, to_y = _shares(row, page.tile_height, y, height)
        for column in range(x // page.tile_width, -(-(x + width) // page.tile_width)):
            from_x, to_x = _shares(column, page.tile_width, x, width)
            wanted = (to_y.stop - to_y.start) * (to_x.stop - to_x.start)
            index = row * page.columns + column
            yield _Part(index, (from_y, from_x), (to_y, to_x), wanted)


def _shares(place: int, step: int, start: int, length: int) -> tuple[slice, slice]:
    """Cut a tile and a box to what they have in common, along one axis."""
    origin = place * step
    first, last = max(origin, start), min(origin + step, start + length)
    return slice(first - origin, last - origin), slice(first - start, last - start)


def _capacity(page: TiledPage) -> int:
    """Bytes that hold two rows of tiles: what lies across the border of two strips, and slack."""
    row = page.columns * page.tile_width * page.tile_height * 3
    return min(max(2 * row, _LEAST_CACHE), _MOST_CACHE)


def _try(reader: Reader, level: int, box: tuple[int, int, int, int]) -> Rgb | None:
    try:
        return reader.read(level, *box)
    except TileError:
        return None


def _same(ours: Rgb | None, theirs: Rgb | None, tolerance: int) -> bool:
    if ours is None or theirs is None:
        return ours is theirs
    difference: NDArray[np.int16] = np.abs(ours.astype(np.int16) - theirs)
    return int(difference.max(initial=0)) <= tolerance
