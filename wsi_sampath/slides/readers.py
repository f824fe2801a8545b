"""Readers: one face over OpenSlide, tiffslide and our own TIFF reader.

Levels are read in their own pixels; whatever lies outside the level, or is transparent, comes back
in the slide's background colour.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from wsi_sampath.errors import WsiError
from wsi_sampath.slides.metadata import (
    SlideMetadata,
    openslide_metadata,
    stated_number,
    tiffslide_metadata,
)

Rgb = NDArray[np.uint8]
_MOST_TILE_PX = 1 << 28


# What the TIFF libraries raise on files that are cut off or nonsense, as found by damaging files.
BROKEN_TIFF = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    RuntimeError,
    ArithmeticError,
    struct.error,
)


class TileError(Exception):
    """A region that the reader cannot decode."""


class Reader(Protocol):
    """One open slide file; `read` may be called from several threads at once."""

    name: str
    metadata: SlideMetadata

    @property
    def decoded_px(self) -> int | None:
        """Count the source pixels decoded so far; None where the reader cannot tell."""
        ...

    def read(self, level: int, x: int, y: int, width: int, height: int) -> Rgb:
        """Read a box of a level, in that level's pixels, as uint8 (height, width, 3)."""
        ...

    def close(self) -> None:
        """Let go of the file."""
        ...


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
        self._downsamples: tuple[float, ...] = self._handle.level_downsamples
        self.metadata = openslide_metadata(self._handle)

    def read(self, level: int, x: int, y: int, width: int, height: int) -> Rgb:
        """Read a box of a level; see `Reader.read`."""
        size = self.metadata.level_sizes[level]
        return read_clipped(
            size, self.metadata.background, (x, y, width, height), lambda b: self._raw(level, b)
        )

    def _raw(self, level: int, box: tuple[int, int, int, int]) -> Rgb:
        x, y, width, height = box
        scale = self._downsamples[level]
        location = (round(x * scale), round(y * scale))
        handle = self._handle
        try:
            image = handle.read_region(location, level, (width, height))
        except self._error:
            image = self._retry(handle, location, level, (width, height))
        return _flatten(np.asarray(image), self.metadata.background)

    def _retry(
        self, failed: Any, location: tuple[int, int], level: int, size: tuple[int, int]
    ) -> Any:
        # An OpenSlide handle that failed once refuses every later call, so one bad tile (or one
        # hiccup of a network disk) would cost the rest of the slide: reopen, try once more. The
        # second try has a handle of its own, which no other thread's bad tile can spoil.
        self._reopen(failed)
        with self._fresh() as handle:
            try:
                return handle.read_region(location, level, size)
            except self._error as error:
                raise TileError(str(error)) from None

    def _reopen(self, failed: Any) -> None:
        with self._lock:
            if self._handle is failed:
                self._handle = self._fresh()

    def _fresh(self) -> Any:
        try:
            return self._open(str(self._path))
        except (self._error, OSError) as error:
            raise TileError(str(error)) from None

    def close(self) -> None:
        """Close the file."""
        self._handle.close()


class TiffSlideReader:
    """tiffslide, for TIFFs that OpenSlide refuses. Not thread-safe: it has one file position."""

    name = "tiffslide"

    decoded_px: int | None = None

    def __init__(self, path: Path) -> None:
        import tiffslide

        from wsi_sampath.slides.file_checks import lost_parts

        try:
            self._handle = tiffslide.TiffSlide(str(path))
            self.metadata = tiffslide_metadata(self._handle)
            self._lost = lost_parts(path, self.metadata.level_sizes)
        except BROKEN_TIFF as error:
            raise TileError(str(error) or type(error).__name__) from None

    def read(self, level: int, x: int, y: int, width: int, height: int) -> Rgb:
        """Read a box of a level; see `Reader.read`."""
        size = self.metadata.level_sizes[level]
        return read_clipped(
            size, self.metadata.background, (x, y, width, height), lambda b: self._raw(level, b)
        )

    def _raw(self, level: int, box: tuple[int, int, int, int]) -> Rgb:
        x, y, width, height = box
        if level in self._lost and self._lost[level].touch(box):
            # Its decoders would fill what is missing with grey or black.
            raise TileError("the file ends before this; is it fully copied?")
        scale = self._handle.level_downsamples[level]
        location = (round(x * scale), round(y * scale))
        try:
            pixels = self._handle.read_region(location, level, (width, height), as_array=True)
        except BROKEN_TIFF as error:
            raise TileError(str(error) or type(error).__name__) from None
        return _flatten(_as_rgb(pixels), self.metadata.background)

    def close(self) -> None:
        """Close the file."""
        self._handle.close()


def _open_tiff(path: Path) -> Reader:
    from wsi_sampath.slides.tiff_reader import TiffReader

    return TiffReader(path)


READERS: dict[str, Callable[[Path], Reader]] = {
    "tiff": _open_tiff,
    "openslide": OpenSlideReader,
    "tiffslide": TiffSlideReader,
}


_FOR_ONE_THREAD = {"tiffslide"}


def open_reader(path: Path, *, reader: str = "auto") -> Reader:
    """Open a slide with the first reader that takes it, or with the named one.

    Raises
    ------
    WsiError
        ``unreadable`` where the file is missing, empty or refused by all, with each one's reason;
        ``bad-input`` for an unknown reader name.
    """
    if reader != "auto" and reader not in READERS:
        raise WsiError("bad-input", f"no reader {reader!r}; there are: auto, {', '.join(READERS)}")
    # Here, because these modules need what this one defines.
    from wsi_sampath.slides.file_checks import FalseClaim, check_regular

    check_regular(path)
    refusals = []
    for name in READERS if reader == "auto" else (reader,):
        try:
            opened = _opened(name, path)
        except FalseClaim as error:
            message = f"{error}; copy it again from where it came"
            raise WsiError("unreadable", message, subject=str(path)) from None
        except TileError as error:
            refusals.append(f"{name}: {error}")
        else:
            return _shared(opened, path) if name in _FOR_ONE_THREAD else opened
    raise WsiError(
        "unreadable",
        f"no reader can open it ({'; '.join(refusals)}); is it a whole-slide image, fully copied?",
        subject=str(path),
    )


def _shared(reader: Reader, path: Path) -> Reader:
    from wsi_sampath.slides.reader_process import SharedReader

    return SharedReader(reader, path)


def _opened(name: str, path: Path) -> Reader:
    """Open a file whose claims hold, as far as they can be checked."""
    from wsi_sampath.slides.file_checks import FalseClaim, check_claims, check_header

    check_header(path)
    opened = READERS[name](path)
    try:
        check_claims(path, opened.metadata.level_sizes)
    except FalseClaim:
        opened.close()
        raise
    return opened


def read_clipped(
    size: tuple[int, int],
    background: tuple[int, int, int],
    box: tuple[int, int, int, int],
    raw: Callable[[tuple[int, int, int, int]], Rgb],
) -> Rgb:
    """Read a box (x, y, width, height) of which only the part inside `size` can be read."""
    x, y, width, height = box
    left, top = max(x, 0), max(y, 0)
    right, bottom = min(x + width, size[0]), min(y + height, size[1])
    if (left, top, right, bottom) == (x, y, x + width, y + height):
        return raw(box)
    out = np.empty((height, width, 3), np.uint8)
    out[:] = background
    if left < right and top < bottom:
        inside = raw((left, top, right - left, bottom - top))
        out[top - y : bottom - y, left - x : right - x] = inside
    return out


def _flatten(pixels: NDArray[np.uint8], background: tuple[int, int, int]) -> Rgb:
    """Composite (h, w, 4) on the background; (h, w, 3) passes."""
    if pixels.shape[-1] == 3:
        return pixels
    alpha = pixels[..., 3:]
    colour = pixels[..., :3]
    if alpha.min(initial=255) == 255:
        return np.ascontiguousarray(colour)
    weight = alpha.astype(np.uint16)
    ground = np.asarray(background, np.uint16)
    mixed = (colour * weight + ground * (255 - weight) + 127) // 255
    return mixed.astype(np.uint8)


def _as_rgb(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    if pixels.dtype != np.uint8:
        raise TileError(f"pixels are {pixels.dtype}, not 8-bit")
    if pixels.ndim == 2:
        return np.repeat(pixels[..., None], 3, axis=-1)
    if pixels.ndim == 3 and pixels.shape[-1] == 1:
        return np.repeat(pixels, 3, axis=-1)
    if pixels.ndim != 3 or pixels.shape[-1] not in (3, 4):
        raise TileError(f"pixels of shape {pixels.shape} are not RGB")
    return pixels


def _refuse_absurd_tiles(properties: Mapping[str, Any]) -> None:
    """Refuse a damaged header that OpenSlide believes.

    It would end the whole process when it cannot get the memory for such a tile.
    """
    for level in range(int(properties.get("openslide.level-count") or 0)):
        sides = (properties.get(f"openslide.level[{level}].tile-{s}") for s in ("width", "height"))
        width, height = (stated_number(side) or 0 for side in sides)
        if width * height > _MOST_TILE_PX:
            raise TileError(f"its header asks for tiles of {width:.0f} x {height:.0f} pixels")
