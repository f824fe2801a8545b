"""The direct way into TIFF slides: their tiles straight from the file.

OpenSlide stays the reference: where it opens the file too, and knows what such pages mean, a few
boxes are compared at opening and this reader steps back unless they are the same. Which page is the
slide is not left to it: it takes the first.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsi_sampath.slides.readers.base import Box, Reader, Rgb, TileError, read_clipped
from wsi_sampath.slides.readers.openslide import OpenSlideReader
from wsi_sampath.slides.readers.same_picture import Place, chain
from wsi_sampath.slides.readers.stand_in import Spans, as_local, spans_of
from wsi_sampath.slides.readers.tiff_jpeg import holds_jpeg, shows, whole_jpeg
from wsi_sampath.slides.readers.tiff_layout import named_others
from wsi_sampath.slides.readers.tiff_pages import Layout, TiledPage, read_layout
from wsi_sampath.slides.readers.tiff_pixels import Raw, settle
from wsi_sampath.slides.readers.tile_cache import TileCache
from wsi_sampath.slides.remote.place import RemoteStream, read_at

_OPENSLIDE_VENDORS = frozenset({"aperio", "generic-tiff"})
_LEAST_CACHE, _MOST_CACHE = 64 << 20, 256 << 20
_CHECK_PX = 96
_CHECKS = 4
_PLACES = 3
_MOST_SAMPLED = 16
_MOST_TRIED = 64
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

    Reads Aperio SVS, generic TIFF and OME-TIFF, in tiles or strips, of any samples that
    `tiff_pixels` can turn into RGB.

    Parameters
    ----------
    path
        The file, local or on a server.
    image
        Number of the picture to read; None reads the largest scan.

    Raises
    ------
    TileError
        Where the file is of another kind, or its pixels are not OpenSlide's.
    RefusedError
        Where it cannot be turned into RGB.
    WsiError
        ``bad-input`` where there is no such image.
    """

    name = "tiff"

    def __init__(self, path: Path, image: int | None = None) -> None:
        if not hasattr(os, "pread"):
            raise TileError("this system has no positioned reads")
        layout = read_layout(path, image)
        self._pages, self.metadata = layout.levels, layout.metadata
        self._cache = TileCache(_capacity(self._pages[0]))
        self._file = path.open("rb", buffering=0)
        try:
            self._settle()
            self._choose_levels(layout)
            self._agree(path, layout)
        except BaseException:
            self.close()
            raise
        self._cache = TileCache(_capacity(self._pages[0]))
        if isinstance(self._file, RemoteStream):
            self._file.file.widen(int(np.median(self._pages[0].counts)))

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

    def reads_wide(self, level: int) -> bool:
        """Return whether the level is in strips, which are as wide as the slide."""
        return not self._pages[level].source.is_tiled

    def jpeg_grid(self, level: int) -> tuple[int, int] | None:
        """Return width and height of the tiles that `jpeg_tile` has of a level.

        None where the tiles are none that every program shows as they are read here: a few are
        decoded to make sure.
        """
        page = self._pages[level]
        if not page.samples.is_plain or not holds_jpeg(page.source):
            return None
        whole = [index for index in _busiest(page, _CHECKS) if page.is_whole(index)]
        whole = [index for index in whole if page.counts[index]]
        try:
            same = [shows(self._jpeg(page, one), page.tile(one, self._bytes)) for one in whole]
        except TileError:
            return None
        return (page.tile_width, page.tile_height) if same and all(same) else None

    def jpeg_tile(self, level: int, column: int, row: int) -> bytes | None:
        """Return a tile of a level with a `jpeg_grid` as a JPEG, just as the file has it.

        None for a tile that reaches beyond the edge, or that the file leaves out.

        Raises
        ------
        TileError
            Where it is damaged.
        """
        page = self._pages[level]
        index = row * page.columns + column
        if not page.is_whole(index) or not page.counts[index]:
            return None
        return self._jpeg(page, index)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _jpeg(self, page: TiledPage, index: int) -> bytes:
        return whole_jpeg(page.source, page.coded(index, self._bytes))

    def _raw(self, level: int, box: Box) -> Rgb:
        page = self._pages[level]
        counts = page.counts
        whole = _whole_tile(page, box)
        if whole is not None and counts[whole]:
            self._cache.count(box[2] * box[3])
            return page.tile(whole, self._bytes)
        out = np.empty((box[3], box[2], 3), np.uint8)
        parts = list(_parts(page, box))
        if isinstance(self._file, RemoteStream):
            wanted = [part.index for part in parts if not self._cache.holds((level, part.index))]
            self._file.file.expect(spans_of(page, wanted), onward=True)
        for part in parts:
            if counts[part.index] == 0:
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
            lambda: page.tile(index, self._bytes),
            pixels=width * height,
            wanted=part.wanted,
        )

    def _bytes(self, offset: int, count: int) -> bytes:
        try:
            data = read_at(self._file, count, offset)
        except (OSError, ValueError) as error:
            raise TileError(f"bytes at {offset}: {error}") from None
        if len(data) < count:
            raise TileError(f"bytes at {offset}: the file ends before; is it fully copied?")
        return data

    def _settle(self) -> None:
        """Decide by some tiles what the tags leave open."""
        first = self._pages[0]
        samples, warnings = settle(first.samples, self._sampled() if not first.compared else [])
        self._pages = tuple(replace(page, samples=samples) for page in self._pages)
        self._warn(warnings)

    def _sampled(self) -> list[Raw]:
        """Decode tiles of level 0, the busiest and others, and the whole lowest level if small."""
        first, last = self._pages[0], self._pages[-1]
        spread = np.linspace(0, len(first.counts) - 1, _MOST_SAMPLED // 2).astype(int)
        wanted = [(first, int(index)) for index in (*_busiest(first, _CHECKS), *spread)]
        if len(last.counts) <= _MOST_SAMPLED:
            wanted += [(last, index) for index in range(len(last.counts))]
        found = []
        for page, index in dict.fromkeys(wanted):
            if page.counts[index]:
                with suppress(TileError):
                    found.append(page.raw(index, self._bytes))
        return found

    def _choose_levels(self, layout: Layout) -> None:
        """Keep the lower levels that show the same picture as level 0."""
        same, other, unknown = chain(
            self.metadata.level_sizes, self.read, list(_places(self._pages[0]))
        )
        warnings = [_refused(self._pages[level], "shows another picture") for level in other]
        warnings += [_refused(self._pages[level], "cannot be decoded") for level in unknown]
        known = [page.source for page in self._pages]
        self._warn((*named_others(layout.picture, layout.pictures, known), *warnings))
        self._pages = tuple(self._pages[level] for level in same)
        sizes = tuple(self.metadata.level_sizes[level] for level in same)
        self.metadata = replace(self.metadata, level_sizes=sizes)
        self._cache = TileCache(_capacity(self._pages[0]))

    def _warn(self, warnings: Sequence[str]) -> None:
        self.metadata = replace(self.metadata, warnings=(*self.metadata.warnings, *warnings))

    def _agree(self, path: Path, layout: Layout) -> None:
        """Take the metadata from OpenSlide, and compare pixels with it."""
        self._check_that_it_decodes()
        with as_local(path, self._compared_spans) as local:
            try:
                reference: Reader = OpenSlideReader(local)
            except TileError:
                return
            try:
                self._agree_with(reference, layout)
            finally:
                reference.close()

    def _compared_spans(self) -> Spans:
        spans: Spans = []
        for level, box in self.check_boxes():
            page = self._pages[level]
            spans += spans_of(page, (part.index for part in _parts(page, box)))
        return spans

    def _check_that_it_decodes(self) -> None:
        """Raise `TileError` where neither the busiest tiles nor some others can be decoded."""
        page = self._pages[0]
        present = np.flatnonzero(page.counts)
        if not len(present):
            return
        spread = present[np.linspace(0, len(present) - 1, _MOST_TRIED).astype(int)]
        busiest = [index for index in _busiest(page, _CHECKS) if page.counts[index]]
        failure: TileError | None = None
        for index in dict.fromkeys((*busiest, *map(int, spread))):
            try:
                page.tile(index, self._bytes)
            except TileError as error:
                failure = failure or error
            else:
                return
        if failure is not None:
            raise failure

    def _agree_with(self, reference: Reader, layout: Layout) -> None:
        stated, own = reference.metadata, self.metadata
        if stated.vendor not in _OPENSLIDE_VENDORS:
            raise TileError(f"{stated.vendor} files are left to OpenSlide")
        if stated.level_sizes[0] == own.level_sizes[0]:
            self.metadata = replace(
                stated,
                level_sizes=own.level_sizes,
                mpp=stated.mpp or own.mpp,
                warnings=own.warnings,
            )
        if not self._pages[0].compared or not layout.is_openslides:
            return
        holes = any((page.counts == 0).any() for page in self._pages)
        as_ours = stated.level_sizes == own.level_sizes and len(own.level_sizes) > 1
        if holes and stated.vendor == "aperio" and as_ours:
            # OpenSlide takes a hole for a fault of the scanner, distrusts the lower levels there,
            # and paints that area from the finest level.
            raise TileError("tiles are missing; OpenSlide mends that")
        self._compare(reference, layout)

    def _compare(self, reference: Reader, layout: Layout) -> None:
        sizes = reference.metadata.level_sizes
        pairs = []
        for level, box in self.check_boxes():
            page = self._pages[level]
            if (page.width, page.height) in sizes and layout.is_unique(page):
                theirs = _try(reference, sizes.index((page.width, page.height)), box)
                pairs.append((level, box, _try(self, level, box), theirs))
        if all(theirs is None for *_, theirs in pairs) and any(p[2] is not None for p in pairs):
            return  # OpenSlide opens the file, but knows nothing of its tiles.
        for level, box, ours, theirs in pairs:
            tolerance = 0 if self._pages[level].exact else _JPEG2000_TOLERANCE
            if _same(ours, theirs, tolerance) or self._says_otherwise(level, box):
                continue
            raise TileError(f"OpenSlide reads {box} of level {level} differently")

    def _says_otherwise(self, level: int, box: Box) -> bool:
        page = self._pages[level]
        index = next(_parts(page, box)).index
        try:
            return bool(page.counts[index]) and page.says_otherwise(index, self._bytes)
        except TileError:
            return False

    def check_boxes(self) -> Iterator[tuple[int, tuple[int, int, int, int]]]:
        """Yield boxes of level 0 with the most detail, and the corners of lower levels."""
        page = self._pages[0]
        for tile in _busiest(page, _CHECKS):
            row, column = divmod(tile, page.columns)
            x = _across((column + 1) * page.tile_width, page.width)
            y = _across((row + 1) * page.tile_height, page.height)
            yield 0, (x, y, min(_CHECK_PX, page.width), min(_CHECK_PX, page.height))
        for level, lower in enumerate(self._pages[1:], 1):
            yield level, (0, 0, min(_CHECK_PX, lower.width), min(_CHECK_PX, lower.height))


def _busiest(page: TiledPage, n: int) -> list[int]:
    """Return the tiles with the most bytes in each of n parts of a level."""
    weight = np.where(page.counts > page.most_bytes, 0, page.counts)
    parts = np.array_split(np.arange(len(weight)), min(n, len(weight)))
    return [int(tiles[weight[tiles].argmax()]) for tiles in parts]


def _places(page: TiledPage) -> Iterator[Place]:
    """Yield the places of a level with the most detail."""
    for index in _busiest(page, _PLACES):
        row, column = divmod(index, page.columns)
        x, y = (column + 0.5) * page.tile_width, (row + 0.5) * page.tile_height
        yield min(1.0, x / page.width), min(1.0, y / page.height)


def _refused(page: TiledPage, why: str) -> str:
    return f"a page of {page.width} x {page.height} pixels {why}: it is not used as a lower level"


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
    """Intersect a tile and a box along one axis."""
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
