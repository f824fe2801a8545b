"""tiffslide, for TIFFs that OpenSlide refuses."""

from __future__ import annotations

from pathlib import Path

from wsi_sampath.slides.readers.base import (
    BROKEN_TIFF,
    Rgb,
    TileError,
    as_rgb,
    flatten,
    read_clipped,
)
from wsi_sampath.slides.readers.file_checks import lost_parts
from wsi_sampath.slides.readers.metadata import tiffslide_metadata


class TiffSlideReader:
    """tiffslide, for TIFFs that OpenSlide refuses. Not thread-safe: it has one file position."""

    name = "tiffslide"

    decoded_px: int | None = None

    def __init__(self, path: Path) -> None:
        import tiffslide

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

    def reads_wide(self, level: int) -> bool:
        """Return False: it decodes tile by tile."""
        return False

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
        return flatten(as_rgb(pixels), self.metadata.background)

    def close(self) -> None:
        """Close the file."""
        self._handle.close()
