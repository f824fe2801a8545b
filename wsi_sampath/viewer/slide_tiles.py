"""Tiles of a slide: those of the file untouched where they fit, all others encoded and kept."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import imagecodecs
import numpy as np
from PIL import Image
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from wsi_sampath.slides.overview import read_in_parts
from wsi_sampath.slides.readers.base import Rgb, TileError
from wsi_sampath.slides.readers.tiff import TiffReader
from wsi_sampath.slides.sampling import Sampling, plan_sampling
from wsi_sampath.slides.slide import Slide
from wsi_sampath.viewer.answers import kept_for_ever, whole
from wsi_sampath.viewer.recent import Recent
from wsi_sampath.viewer.shelf import Missing, Shelf, ShownSlide

TILE = 512
_QUALITY = 85
_JPEG = "image/jpeg"
# Tiles of a file outside of these sides would be very many, or very much at once.
_SOURCE_SIDES = range(128, 1025)
# Level 0 of the largest slides has some 2^20 px.
_MOST_LEVELS = 16
_KEPT_BYTES = 256 << 20
# Pixels along a side that become one in one step: a tile of the page is then 4 Mpx of the slide.
_MOST_REDUCED = 4
_THUMBNAIL_SIDES = range(16, 1025)
_THUMBNAIL = 320
_MOST_PLANS = 64


@dataclass(frozen=True)
class PageLevel:
    """A level as the page sees it.

    Attributes
    ----------
    sampling
        How it is read; its zoom is the level's scale in level-0 px per px.
    width, height
        In px.
    tile
        Width and height of its tiles in px.
    source
        The level of the file of which the tiles are sent untouched, None where they are encoded.
    """

    sampling: Sampling
    width: int
    height: int
    tile: tuple[int, int]
    source: int | None

    @property
    def columns(self) -> int:
        """Tiles in a row."""
        return -(-self.width // self.tile[0])

    @property
    def rows(self) -> int:
        """Rows of tiles."""
        return -(-self.height // self.tile[1])


def page_levels(slide: Slide) -> tuple[PageLevel, ...]:
    """Return a slide's levels, the finest first, each about half the one before, down to a tile.

    They halve in pixels of level 0 along both sides, whatever the size of a pixel: those that the
    file has are taken as they are, the others are read from the next finer one.
    """
    levels: list[PageLevel] = []
    while not levels or (
        max(levels[-1].width, levels[-1].height) > TILE and len(levels) < _MOST_LEVELS
    ):
        levels.append(_page_level(slide, 2.0 ** len(levels)))
    return tuple(levels)


def _page_level(slide: Slide, zoom: float) -> PageLevel:
    sampling = plan_sampling(slide.levels, (1.0, 1.0), zoom)
    width, height, tile = sampling.width, sampling.height, (TILE, TILE)
    if sampling.factor_x != 1 or sampling.factor_y != 1:
        return PageLevel(sampling, width, height, tile, None)
    own = slide.levels[sampling.level]
    reader = slide.reader
    grid = reader.jpeg_grid(sampling.level) if isinstance(reader, TiffReader) else None
    if grid is None or not all(side in _SOURCE_SIDES for side in grid):
        return PageLevel(sampling, own.width, own.height, tile, None)
    return PageLevel(sampling, own.width, own.height, grid, sampling.level)


class SlideTiles:
    """JPEG tiles of the slides of a shelf. Thread-safe; keeps a bounded number of bytes.

    Parameters
    ----------
    kept_bytes
        Most bytes of encoded tiles that are kept, of all slides together.
    """

    def __init__(self, *, kept_bytes: int = _KEPT_BYTES) -> None:
        # One for each level: a tile of one may be made of those of the next finer one.
        share = kept_bytes // _MOST_LEVELS
        self._kept: tuple[Recent[bytes], ...] = tuple(
            Recent(share, len) for _ in range(_MOST_LEVELS)
        )
        self._thumbnails: Recent[bytes] = Recent(share, len)
        self._plans: Recent[tuple[PageLevel, ...]] = Recent(_MOST_PLANS, lambda _: 1)

    def levels(self, shown: ShownSlide) -> Sequence[PageLevel]:
        """Return the levels of a slide; see `page_levels`."""
        return self._plans.fetch(shown.id, partial(page_levels, shown.slide))

    def tile(self, shown: ShownSlide, level: int, column: int, row: int) -> bytes:
        """Return a tile as JPEG, cut at the edges of its level.

        Raises
        ------
        Missing
            Where the slide has no such tile.
        TileError
            Where the file cannot be decoded there.
        """
        levels = self.levels(shown)
        if not 0 <= level < len(levels):
            raise Missing("the slide has no such level")
        at = levels[level]
        if not (column < at.columns and row < at.rows):
            raise Missing("the slide has no such tile")
        reader = shown.slide.reader
        if at.source is not None and isinstance(reader, TiffReader):
            untouched = reader.jpeg_tile(at.source, column, row)
            if untouched is not None:
                return untouched
        make = partial(self._made, shown, level, column, row)
        return self._kept[level].fetch((shown.id, column, row), make)

    def thumbnail(self, shown: ShownSlide, side: int) -> bytes:
        """Return the whole slide as a JPEG of `side` px along its longer side.

        Its pixels are as square as those of the slide are not.
        """
        return self._thumbnails.fetch((shown.id, side), partial(self._small, shown, side))

    def _made(self, shown: ShownSlide, level: int, column: int, row: int) -> bytes:
        at = self.levels(shown)[level]
        if at.sampling.factor_x > _MOST_REDUCED and _is_half(at, self.levels(shown)[level - 1]):
            # So each pixel of a slide without lower levels is decoded once for all of them.
            two = range(2 * column, 2 * column + 2), range(2 * row, 2 * row + 2)
            return as_jpeg(
                np.asarray(Image.fromarray(self._joined(shown, level - 1, *two)).reduce(2))
            )
        x, y = column * at.tile[0], row * at.tile[1]
        box = (x, y, min(at.tile[0], at.width - x), min(at.tile[1], at.height - y))
        return as_jpeg(read_in_parts(shown.slide.read_sampled, at.sampling, box))

    def _small(self, shown: ShownSlide, side: int) -> bytes:
        levels = self.levels(shown)
        fine = [n for n, one in enumerate(levels) if max(one.width, one.height) >= side]
        at = levels[max(fine, default=0)]
        whole = self._joined(shown, max(fine, default=0), range(at.columns), range(at.rows))
        mpp, (width, height) = shown.slide.mpp, shown.slide.size
        scale = side / max(width * mpp.x, height * mpp.y)
        size = max(1, round(width * mpp.x * scale)), max(1, round(height * mpp.y * scale))
        return as_jpeg(np.asarray(Image.fromarray(whole).resize(size, Image.Resampling.BOX)))

    def _joined(self, shown: ShownSlide, level: int, columns: range, rows: range) -> Rgb:
        """Join tiles of a level; background where they cannot be decoded, cut at the edges."""
        at = self.levels(shown)[level]
        left, top = columns.start * at.tile[0], rows.start * at.tile[1]
        width = min(columns.stop * at.tile[0], at.width) - left
        height = min(rows.stop * at.tile[1], at.height) - top
        joined = np.empty((height, width, 3), np.uint8)
        joined[:] = shown.slide.background
        for column in range(columns.start, min(columns.stop, at.columns)):
            for row in range(rows.start, min(rows.stop, at.rows)):
                x, y = column * at.tile[0] - left, row * at.tile[1] - top
                with suppress(TileError):
                    tile = imagecodecs.jpeg8_decode(self.tile(shown, level, column, row))
                    joined[y : y + len(tile), x : x + tile.shape[1]] = tile
        return joined


def _is_half(coarse: PageLevel, fine: PageLevel) -> bool:
    """Return whether four pixels of a level are one of another, and four tiles too."""
    one, other = coarse.sampling, fine.sampling
    return (
        (one.zoom_x, one.zoom_y) == (2 * other.zoom_x, 2 * other.zoom_y)
        and (coarse.width, coarse.height) == (-(-fine.width // 2), -(-fine.height // 2))
        and coarse.tile == fine.tile
    )


def as_jpeg(pixels: Rgb) -> bytes:
    """Return uint8 (h, w, 3) as JPEG."""
    rgb = np.ascontiguousarray(pixels)
    return bytes(imagecodecs.jpeg8_encode(rgb, level=_QUALITY, subsampling="420"))


def routes(shelf: Shelf, tiles: SlideTiles) -> list[Route]:
    """Return the routes of tiles and thumbnails."""

    def tile(request: Request) -> Response:
        entry = shelf.entry(request.path_params["sid"])
        level, column, row = (whole(request.path_params[one]) for one in ("level", "column", "row"))

        def make() -> bytes:
            with shelf.open(entry.id, unscaled=True) as shown:
                return tiles.tile(shown, level, column, row)

        return kept_for_ever(request, _JPEG, make)

    def thumbnail(request: Request) -> Response:
        entry = shelf.entry(request.path_params["sid"])
        side = whole(request.query_params.get("side", str(_THUMBNAIL)))
        side = min(max(side, _THUMBNAIL_SIDES.start), _THUMBNAIL_SIDES.stop - 1)

        def make() -> bytes:
            with shelf.open(entry.id, unscaled=True) as shown:
                return tiles.thumbnail(shown, side)

        return kept_for_ever(request, _JPEG, make)

    return [
        Route("/api/slides/{sid}/tiles/{level}/{column}_{row}.jpg", tile),
        Route("/api/slides/{sid}/thumbnail.jpg", thumbnail),
    ]
