"""OpenSlide, the reference reader."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from wsi_sampath.slides.readers.base import Rgb, TileError, read_clipped
from wsi_sampath.slides.readers.metadata import openslide_metadata, stated_number
from wsi_sampath.slides.readers.openslide_pixels import read_rgb

_MOST_TILE_PX = 1 << 28
# What OpenSlide keeps of decoded tiles by itself, and the most that a slide may have kept.
_OWN_CACHE, _MOST_CACHE = 32 << 20, 256 << 20
_RESAMPLED = (
    "the largest DICOM instance is a resampled one; the original is not in this folder, and the "
    "slide is read at the lower resolution"
)
_Region = tuple[tuple[int, int], int, tuple[int, int], tuple[int, int, int]]


class OpenSlideReader:
    """OpenSlide, the reference reader. Thread-safe."""

    name = "openslide"

    decoded_px: int | None = None

    def __init__(self, path: Path) -> None:
        import openslide

        self._path = path
        self._open: Callable[[str], Any] = openslide.OpenSlide
        self._error = openslide.OpenSlideError
        self._lock = threading.Lock()
        try:
            self._handle = self._open(str(path))
        except (openslide.OpenSlideError, OSError) as error:
            raise TileError(str(error) or type(error).__name__) from None
        _refuse_absurd_tiles(self._handle.properties)
        self._capacity = _cache_bytes(self._handle.properties, self._handle.dimensions[0])
        self._enlarge_cache(self._handle)
        self._downsamples: tuple[float, ...] = self._handle.level_downsamples
        self.metadata = openslide_metadata(self._handle)
        if self._handle.properties.get("dicom.ImageType[3]") == "RESAMPLED":
            self.metadata = replace(self.metadata, warnings=(_RESAMPLED,))

    def read(self, level: int, x: int, y: int, width: int, height: int) -> Rgb:
        """Read a box of a level; see `Reader.read`."""
        size = self.metadata.level_sizes[level]
        return read_clipped(
            size, self.metadata.background, (x, y, width, height), lambda b: self._raw(level, b)
        )

    def reads_wide(self, level: int) -> bool:
        """Return whether boxes of a level begin at whole pixels of level 0: each call costs."""
        return self._downsamples[level].is_integer()

    def _raw(self, level: int, box: tuple[int, int, int, int]) -> Rgb:
        x, y, width, height = box
        scale = self._downsamples[level]
        location = (round(x * scale), round(y * scale))
        handle = self._handle
        region = (location, level, (width, height), self.metadata.background)
        try:
            return read_rgb(handle, *region)
        except self._error:
            return self._retry(handle, region)

    def _retry(self, failed: Any, region: _Region) -> Rgb:
        # An OpenSlide handle that failed once refuses every later call, so one bad tile (or one
        # hiccup of a network disk) would cost the rest of the slide: reopen, try once more. The
        # second try has its own handle, which no other thread's bad tile can spoil.
        self._reopen(failed)
        with self._fresh() as handle:
            try:
                return read_rgb(handle, *region)
            except self._error as error:
                raise TileError(str(error)) from None

    def _reopen(self, failed: Any) -> None:
        with self._lock:
            if self._handle is failed:
                self._handle = self._fresh()

    def _fresh(self) -> Any:
        try:
            handle = self._open(str(self._path))
        except (self._error, OSError) as error:
            raise TileError(str(error)) from None
        self._enlarge_cache(handle)
        return handle

    def _enlarge_cache(self, handle: Any) -> None:
        from openslide import OpenSlideCache

        if self._capacity > _OWN_CACHE:
            handle.set_cache(OpenSlideCache(self._capacity))

    def close(self) -> None:
        """Close the file."""
        self._handle.close()


def _refuse_absurd_tiles(properties: Mapping[str, Any]) -> None:
    """Refuse a damaged header that OpenSlide believes.

    OpenSlide would end the whole process if it could not allocate such a tile.
    """
    for level in range(int(properties.get("openslide.level-count") or 0)):
        sides = (properties.get(f"openslide.level[{level}].tile-{s}") for s in ("width", "height"))
        width, height = (stated_number(side) or 0 for side in sides)
        if width * height > _MOST_TILE_PX:
            raise TileError(f"its header asks for tiles of {width:.0f} x {height:.0f} pixels")


def _cache_bytes(properties: Mapping[str, Any], width: int) -> int:
    """Bytes that hold two rows of decoded tiles of level 0: those that two grid rows both need."""
    sides = (properties.get(f"openslide.level[0].tile-{side}") for side in ("width", "height"))
    across, down = (stated_number(side) or 0 for side in sides)
    columns = -(-width // across) if across else 0
    return min(round(2 * 4 * columns * across * down), _MOST_CACHE)
