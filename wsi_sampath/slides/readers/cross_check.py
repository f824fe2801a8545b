"""What OpenSlide and tiffslide make of a file, checked against the file's own pages.

Both take the first page for the slide, and every smaller page for one of its lower levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import tifffile

from wsi_sampath.slides.readers.base import BROKEN_TIFF, Box, Reader, Rgb, TileError
from wsi_sampath.slides.readers.same_picture import chain
from wsi_sampath.slides.readers.tiff import TiffReader
from wsi_sampath.slides.readers.tiff_layout import picture_of_page

# Scanners pad the scan, and let its fields overlap: pages differ from level 0 by less than this.
_PADDED = 1.5
_MOST_PAGES = 200
_MOST_DIFFERENCE = 4.0


class ChosenLevels:
    """Some levels of a reader.

    Parameters
    ----------
    reader
        The reader.
    levels
        Which of its levels to keep, level 0 first.
    warnings
        Sentences for the user, beside the reader's own.
    """

    def __init__(self, reader: Reader, levels: Sequence[int], warnings: Sequence[str]) -> None:
        self.name = reader.name
        self._reader, self._levels = reader, tuple(levels)
        self.metadata = replace(
            reader.metadata,
            level_sizes=tuple(reader.metadata.level_sizes[level] for level in levels),
            warnings=(*reader.metadata.warnings, *warnings),
        )

    @property
    def decoded_px(self) -> int | None:
        """The reader's own count."""
        return self._reader.decoded_px

    def read(self, level: int, x: int, y: int, width: int, height: int) -> Rgb:
        """Read a box of a level; see `Reader.read`."""
        return self._reader.read(self._levels[level], x, y, width, height)

    def reads_wide(self, level: int) -> bool:
        """Ask the reader."""
        return self._reader.reads_wide(self._levels[level])

    def close(self) -> None:
        """Close the file."""
        self._reader.close()


def checked(reader: Reader, path: Path, own: TiffReader | None) -> Reader:
    """Return a reader with the levels that show what its level 0 shows.

    Parameters
    ----------
    reader
        OpenSlide or tiffslide.
    path
        Its file.
    own
        The direct reader's view of the file, None where it refuses the file.

    Raises
    ------
    TileError
        Where its level 0 is not the slide, or its pixels are not what the file holds.
    """
    if own is None:
        _check_size(reader, path)
    else:
        _check_pixels(reader, own)
    same, other, unknown = chain(reader.metadata.level_sizes, reader.read, ())
    if not other and not unknown:
        return reader
    sizes = reader.metadata.level_sizes
    warnings = [
        f"{reader.name} takes {sizes[level][0]} x {sizes[level][1]} pixels for a lower level, "
        f"which {why}: it is not used"
        for levels, why in ((other, "show another picture"), (unknown, "cannot be decoded"))
        for level in levels
    ]
    return ChosenLevels(reader, same, warnings)


def _check_size(reader: Reader, path: Path) -> None:
    width, height = reader.metadata.level_sizes[0]
    try:
        with tifffile.TiffFile(path) as tiff:
            pages = [tiff.pages[i] for i in range(min(len(tiff.pages), _MOST_PAGES))]
            pictures = [picture_of_page(i, page.aspage()) for i, page in enumerate(pages)]
    except BROKEN_TIFF:
        return
    scans = [picture for picture in pictures if not picture.role]
    for picture in scans:
        if picture.area > _PADDED * width * height:
            raise TileError(f"it takes {width} x {height} pixels for the slide, not {picture}")
    others = {picture.size for picture in pictures} - {picture.size for picture in scans}
    if (width, height) in others and scans:
        raise TileError(f"it takes {width} x {height} pixels for the slide, which are not the scan")


def _check_pixels(reader: Reader, own: TiffReader) -> None:
    size, right = reader.metadata.level_sizes[0], own.metadata.level_sizes[0]
    if size != right:
        raise TileError(f"it takes {size[0]} x {size[1]} pixels for the slide, not {right}")
    boxes = [box for level, box in own.check_boxes() if level == 0]
    compared = [_difference(reader, own, box) for box in boxes]
    known = [difference for difference in compared if difference is not None]
    if not known:
        raise TileError("it cannot decode what the file holds")
    if max(known) > _MOST_DIFFERENCE:
        raise TileError("its pixels differ from those in the file")


def _difference(reader: Reader, own: TiffReader, box: Box) -> float | None:
    try:
        ours, theirs = own.read(0, *box), reader.read(0, *box)
    except TileError:
        return None
    return float(np.abs(ours.astype(np.int16) - theirs).mean())
