"""Write any pixels as a pyramidal Aperio SVS, in memory that does not grow with the height.

Demos, tests and benchmarks make their own slides with it; it is not a converter: one JPEG setting,
no colour profile, no label or macro image.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import IO

import imagecodecs
import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image

UInt8Array = npt.NDArray[np.uint8]
Region = Callable[[int, int, int, int], UInt8Array]
"""Pixels of the box (x, y, width, height) as uint8 (height, width, 3)."""

BAND_PX = 256
_THUMBNAIL_PX = 1024
_BIGTIFF_ABOVE_PX = 2_000_000_000


def write_svs(
    path: str | Path,
    rows: Iterable[UInt8Array] | Region,
    *,
    width: int,
    height: int,
    mpp: float | None,
    levels: Sequence[int] = (1, 4, 16),
    tile: int = 256,
    quality: int = 80,
    app_mag: float | None = None,
    thumbnail: bool = True,
    threads: int | None = None,
) -> Path:
    """Write a slide that OpenSlide opens as vendor `aperio`.

    Parameters
    ----------
    path
        The file to write; an existing one is replaced.
    rows
        Bands from top to bottom, uint8 (rows, width, 3), each but the last a multiple of 256 rows;
        or a function that returns the uint8 pixels of a box (x, y, width, height).
    width, height, mpp
        Size of level 0 in pixels, and microns per pixel; None leaves them out of the file.
    levels
        Downsamples, from 1 upwards, each dividing the next and 256. Level sizes round down.
    tile, quality
        Side of the JPEG tiles in pixels, a multiple of 16, and their quality, 1..100; chroma is
        stored at half resolution, as scanners do.
    app_mag
        Magnification to note; by default 10 / mpp rounded, and none where mpp is None.
    thumbnail
        Add a thumbnail as the second page, as scanners do.
    threads
        Encoding threads; all cores by default.

    Raises
    ------
    ValueError
        For levels, tile or bands that break the rules above.
    """
    _check(width, height, levels, tile)
    description = _description(width, height, mpp, app_mag, f"({tile}x{tile}) JPEG/RGB Q={quality}")
    with (
        ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool,
        tempfile.TemporaryFile() as spool,
        tifffile.TiffWriter(path, bigtiff=width * height > _BIGTIFF_ABOVE_PX) as tiff,
    ):
        encoder = _Encoder(pool, tile, quality)
        reduced = [_Level(spool, encoder, width // f, height // f, f) for f in levels[1:]]
        small = _Thumbnail(width, height)
        level0 = _tee(_bands(rows, width, height), [*reduced, small])
        _write_page(tiff, encoder.tiles(level0), (height, width), tile, description)
        if thumbnail:
            _write_thumbnail(tiff, small.pixels, f"{width}x{height}")
        for level in reduced:
            _write_page(tiff, level.replay(), (level.height, level.width), tile, description)
    return Path(path)


# tifffile would otherwise note its own metadata in the description that marks a file as Aperio.
_PLAIN = {"metadata": None, "software": False}


def _write_thumbnail(tiff: tifffile.TiffWriter, pixels: UInt8Array, size: str) -> None:
    note = f"{_header()}\n{size} -> {pixels.shape[1]}x{pixels.shape[0]} - |"
    tiff.write(pixels, photometric="rgb", compression="lzw", description=note, **_PLAIN)


def _check(width: int, height: int, levels: Sequence[int], tile: int) -> None:
    if tile % 16 or tile <= 0:
        raise ValueError(f"tile must be a multiple of 16, not {tile}")
    if not levels or levels[0] != 1 or any(b % a or b == a for a, b in pairwise(levels)):
        raise ValueError(f"levels must start at 1 and each divide the next, not {levels}")
    if BAND_PX % levels[-1] or min(width, height) < levels[-1]:
        raise ValueError(
            f"level {levels[-1]} must divide 256 and leave a pixel of {width}x{height}"
        )


def _header() -> str:
    return "Aperio Image Library v11.2.1"


def _description(
    width: int, height: int, mpp: float | None, app_mag: float | None, coding: str
) -> str:
    if app_mag is None and mpp is not None:
        app_mag = max(1, round(10 / mpp))
    size = f"{width}x{height} [0,0 {width}x{height}] {coding}"
    fields = [("AppMag", app_mag), ("MPP", mpp)]
    notes = "".join(f"|{name} = {value:.8g}" for name, value in fields if value is not None)
    return f"{_header()}\n{size}{notes or '|'}"


def _bands(rows: Iterable[UInt8Array] | Region, width: int, height: int) -> Iterator[UInt8Array]:
    """Yield checked bands that together have exactly `height` rows."""
    if callable(rows):
        region = rows
        rows = (region(0, y, width, min(BAND_PX, height - y)) for y in range(0, height, BAND_PX))
    done = 0
    for band in rows:
        if band.ndim != 3 or band.shape[1:] != (width, 3) or band.dtype != np.uint8:
            raise ValueError(f"a band must be uint8 (rows, {width}, 3), not {band.shape}")
        done += band.shape[0]
        if done > height or (done < height and band.shape[0] % BAND_PX):
            raise ValueError(f"bands must be multiples of {BAND_PX} rows up to {height}")
        yield band
    if done != height:
        raise ValueError(f"bands hold {done} rows, not {height}")


class _Encoder:
    """Cuts bands into JPEG tiles, several at once."""

    def __init__(self, pool: ThreadPoolExecutor, tile: int, quality: int) -> None:
        self._pool, self._tile, self._quality = pool, tile, quality

    def tiles(self, bands: Iterable[UInt8Array]) -> Iterator[bytes]:
        """Encode bands of any height, row of tiles by row of tiles."""
        waiting: list[UInt8Array] = []
        rows = 0
        for band in bands:
            waiting.append(band)
            rows += band.shape[0]
            if rows >= self._tile:
                joined = np.concatenate(waiting) if len(waiting) > 1 else band
                whole = rows - rows % self._tile
                yield from self._encode_rows(joined[:whole])
                waiting, rows = [joined[whole:].copy()] if whole < rows else [], rows - whole
        if rows:
            yield from self._encode_rows(np.concatenate(waiting))

    def _encode_rows(self, pixels: UInt8Array) -> Iterator[bytes]:
        side = self._tile
        height, width = pixels.shape[:2]
        boxes = (
            pixels[y : y + side, x : x + side]
            for y in range(0, height, side)
            for x in range(0, width, side)
        )
        yield from self._pool.map(self._encode, boxes)

    def _encode(self, pixels: UInt8Array) -> bytes:
        missing = [(0, self._tile - n) for n in pixels.shape[:2]]
        if any(after for _, after in missing):
            # Repeated edges keep the ringing of a hard border out of the last pixels.
            pixels = np.pad(pixels, [*missing, (0, 0)], mode="edge")
        data = imagecodecs.jpeg8_encode(
            np.ascontiguousarray(pixels),
            level=self._quality,
            colorspace="RGB",
            outcolorspace="YCBCR",
            subsampling="420",
        )
        return bytes(data)


class _Level:
    """A lower level: its tiles wait, encoded, on disk until level 0 is written."""

    def __init__(
        self, spool: IO[bytes], encoder: _Encoder, width: int, height: int, factor: int
    ) -> None:
        self.width, self.height = width, height
        self._factor, self._encoder, self._spool = factor, encoder, spool
        self._rows: list[UInt8Array] = []
        self._places: list[tuple[int, int]] = []
        self._left = height

    def add(self, band: UInt8Array) -> None:
        """Take one band of level 0."""
        whole = band[: band.shape[0] // self._factor * self._factor]
        if not whole.size:
            return
        small = np.asarray(Image.fromarray(whole).reduce(self._factor))[:, : self.width]
        self._rows.append(small)
        self._left -= small.shape[0]
        rows = sum(part.shape[0] for part in self._rows)
        if rows % self._encoder._tile == 0 or self._left == 0:
            self._flush()

    def _flush(self) -> None:
        for data in self._encoder.tiles([np.concatenate(self._rows)]):
            self._places.append((self._spool.seek(0, os.SEEK_END), len(data)))
            self._spool.write(data)
        self._rows = []

    def replay(self) -> Iterator[bytes]:
        """Yield the encoded tiles in order."""
        for start, length in self._places:
            self._spool.seek(start)
            yield self._spool.read(length)


class _Thumbnail:
    """Every n-th pixel of the bands, at most 1024 pixels on a side."""

    def __init__(self, width: int, height: int) -> None:
        self._step = -(-max(width, height) // _THUMBNAIL_PX)
        self._parts: list[UInt8Array] = []
        self._next = 0

    def add(self, band: UInt8Array) -> None:
        """Take one band of level 0."""
        self._parts.append(band[self._next :: self._step, :: self._step].copy())
        self._next = (self._next - band.shape[0]) % self._step

    @property
    def pixels(self) -> UInt8Array:
        """The thumbnail, uint8 (h, w, 3)."""
        return np.concatenate(self._parts)


def _tee(
    bands: Iterable[UInt8Array], takers: Sequence[_Level | _Thumbnail]
) -> Iterator[UInt8Array]:
    for band in bands:
        for taker in takers:
            taker.add(band)
        yield band


def _write_page(
    tiff: tifffile.TiffWriter,
    tiles: Iterator[bytes],
    shape: tuple[int, int],
    tile: int,
    description: str,
) -> None:
    tiff.write(
        tiles,
        shape=(*shape, 3),
        dtype=np.uint8,
        tile=(tile, tile),
        photometric="ycbcr",
        compression="jpeg",
        subsampling=(2, 2),
        description=description,
        **_PLAIN,
    )
