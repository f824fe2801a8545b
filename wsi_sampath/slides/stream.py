"""Tiles of a slide as a stream of batches: read ahead by threads, every pixel decoded once.

The model plane is cut into a lattice of small blocks. A block is read once, whichever tiles it
lies under, kept while a later tile still needs it, and released after the last. So memory holds
the overlap between two rows of tiles plus the look-ahead: it grows with the slide's width, never
with its height.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import product

import numpy as np
from numpy.typing import NDArray

from wsi_sampath.slides.grid import TileGrid
from wsi_sampath.slides.readers.base import Rgb
from wsi_sampath.slides.readers.open import TileError
from wsi_sampath.slides.sampling import Sampling
from wsi_sampath.slides.slide import Slide

_BLOCK_PX = 256
_Block = tuple[int, int]


@dataclass(frozen=True)
class _Coming:
    """A block that is read, perhaps with others beside it."""

    read: Future[list[Rgb | TileError]]
    at: int

    def pixels(self) -> Rgb:
        """Wait for it; raises what its reading raised."""
        found = self.read.result()[self.at]
        if isinstance(found, TileError):
            raise found
        return found


@dataclass(frozen=True)
class Tile:
    """One tile: its row and column in the grid."""

    row: int
    column: int


@dataclass(frozen=True)
class TileBatch:
    """Tiles that were read, and tiles that could not be.

    Attributes
    ----------
    tiles
        The tiles of `images`, in grid order; a batch may cross from one row into the next.
    images
        uint8 (n, tile, tile, 3), RGB in model pixels.
    failed
        Tiles of the same stretch that could not be decoded, with the reason.
    """

    tiles: tuple[Tile, ...]
    images: NDArray[np.uint8]
    failed: tuple[tuple[Tile, str], ...] = ()


@dataclass
class ReadCounts:
    """The cost of the stream so far.

    Attributes
    ----------
    read_px, needed_px
        Level pixels that were requested from the reader, and those that lie under the tiles.
    decoded_px
        Source pixels that were decoded for that, where the reader counts them (the direct TIFF
        reader does), else `read_px`.
    seconds
        Reading time, summed over the threads.
    """

    read_px: int = 0
    needed_px: int = 0
    decoded_px: int = 0
    seconds: float = 0.0


@dataclass
class TileStream:
    """Iterate over the selected tiles of a grid, row by row.

    Parameters
    ----------
    slide, sampling, grid
        The slide to read, its plane at the model's mpp, and the tiles on it.
    batch_size
        Tiles per batch; the last one may be smaller.
    workers
        Reading threads.
    first_row
        Grid row to start from; earlier rows are left out.
    """

    slide: Slide
    sampling: Sampling
    grid: TileGrid
    batch_size: int = 4
    workers: int = 2
    first_row: int = 0
    counts: ReadCounts = field(default_factory=ReadCounts)

    def __post_init__(self) -> None:
        self._tiles = [
            Tile(row, column)
            for row in range(self.first_row, len(self.grid.ys))
            for column in self.grid.strip_columns(row)
        ]
        self._uses = Counter(block for tile in self._tiles for block in self._blocks(tile))
        self._pending: dict[_Block, _Coming] = {}
        # Resized, a pixel may differ by a rounding when more of its row is read with it.
        level = self.sampling.level
        self._is_wide = self.sampling.is_integer and self.slide.reader.reads_wide(level)
        self.counts.needed_px = sum(map(self._source_px, self._uses))

    def __iter__(self) -> Generator[TileBatch]:
        ahead = max(self.batch_size, self.workers) + self.batch_size
        before = self.slide.reader.decoded_px
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="read")
        try:
            self._submit(pool, self._tiles[:ahead])
            for start in range(0, len(self._tiles), self.batch_size):
                stop = start + self.batch_size
                self._submit(pool, self._tiles[start + ahead : stop + ahead])
                yield self._batch(self._tiles[start:stop])
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            after = self.slide.reader.decoded_px
            if before is None or after is None:
                self.counts.decoded_px = self.counts.read_px
            else:
                self.counts.decoded_px = after - before

    @property
    def n_tiles(self) -> int:
        """Count the tiles of the whole stream."""
        return len(self._tiles)

    @property
    def tile_px(self) -> int:
        """Return the side of a tile in model pixels."""
        return self.grid.tile * self.grid.stride

    def _origin(self, tile: Tile) -> tuple[int, int]:
        stride = self.grid.stride
        return self.grid.xs[tile.column] * stride, self.grid.ys[tile.row] * stride

    def _blocks(self, tile: Tile) -> list[_Block]:
        x, y = self._origin(tile)
        columns = range(x // _BLOCK_PX, -(-(x + self.tile_px) // _BLOCK_PX))
        rows = range(y // _BLOCK_PX, -(-(y + self.tile_px) // _BLOCK_PX))
        inside_x = range(-(-self.sampling.width // _BLOCK_PX))
        inside_y = range(-(-self.sampling.height // _BLOCK_PX))
        return [(i, j) for j, i in product(rows, columns) if i in inside_x and j in inside_y]

    def _source_px(self, block: _Block) -> int:
        """Return how many level pixels lie under a block; those beyond the slide are none."""
        width = min(_BLOCK_PX, self.sampling.width - block[0] * _BLOCK_PX)
        height = min(_BLOCK_PX, self.sampling.height - block[1] * _BLOCK_PX)
        return round(width * self.sampling.factor_x * height * self.sampling.factor_y)

    def _submit(self, pool: ThreadPoolExecutor, tiles: list[Tile]) -> None:
        for tile in tiles:
            new = [block for block in self._blocks(tile) if block not in self._pending]
            for blocks in self._read_together(new):
                read = pool.submit(self._read, blocks)
                self._pending |= {block: _Coming(read, at) for at, block in enumerate(blocks)}

    def _read_together(self, new: list[_Block]) -> list[list[_Block]]:
        """Put blocks side by side together where the reader reads them faster so."""
        together: list[list[_Block]] = []
        for column, row in new:
            if self._is_wide and together and together[-1][-1] == (column - 1, row):
                together[-1].append((column, row))
            else:
                together.append([(column, row)])
        return together

    def _read(self, blocks: list[_Block]) -> list[Rgb | TileError]:
        start = time.perf_counter()
        (column, row), count = blocks[0], len(blocks)
        box = (column * _BLOCK_PX, row * _BLOCK_PX, count * _BLOCK_PX, _BLOCK_PX)
        try:
            pixels = self.slide.read_sampled(self.sampling, *box)
        except TileError as error:
            # One bad place costs its own block alone.
            alone = [self._read([block]) for block in blocks] if count > 1 else [[error]]
            return [one for (one,) in alone]
        self.counts.read_px += sum(map(self._source_px, blocks))
        self.counts.seconds += time.perf_counter() - start
        return [pixels[:, at * _BLOCK_PX : (at + 1) * _BLOCK_PX] for at in range(count)]

    def _batch(self, tiles: list[Tile]) -> TileBatch:
        side = self.tile_px
        images = np.empty((len(tiles), side, side, 3), np.uint8)
        read: list[Tile] = []
        failed: list[tuple[Tile, str]] = []
        for tile in tiles:
            try:
                self._assemble(tile, images[len(read)])
                read.append(tile)
            except TileError as error:
                failed.append((tile, str(error)))
            self._release(tile)
        return TileBatch(tuple(read), images[: len(read)], tuple(failed))

    def _assemble(self, tile: Tile, image: NDArray[np.uint8]) -> None:
        x, y = self._origin(tile)
        side = self.tile_px
        if x + side > self.sampling.width or y + side > self.sampling.height:
            image[:] = self.slide.background
        for block in self._blocks(tile):
            pixels = self._pending[block].pixels()
            dx, dy = block[0] * _BLOCK_PX - x, block[1] * _BLOCK_PX - y
            left, top = max(dx, 0), max(dy, 0)
            right, bottom = min(dx + _BLOCK_PX, side), min(dy + _BLOCK_PX, side)
            image[top:bottom, left:right] = pixels[top - dy : bottom - dy, left - dx : right - dx]

    def _release(self, tile: Tile) -> None:
        for block in self._blocks(tile):
            self._uses[block] -= 1
            if not self._uses[block]:
                del self._uses[block]
                del self._pending[block]
