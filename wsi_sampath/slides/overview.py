"""A whole slide at low resolution; where a level is damaged, finer levels fill in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from wsi_sampath.slides.readers.base import TileError
from wsi_sampath.slides.sampling import Level, Sampling, read_from

Box = tuple[int, int, int, int]
ReadSampled = Callable[[Sampling, int, int, int, int], NDArray[np.uint8]]
_BAND_PIXELS = 1 << 24
# In pixels of the overview: smaller parts are read from the next finer level, or given up.
_SMALLEST_CELL = 32
# The same at level 0, by the number of failed reads so far: otherwise a slide with half of it
# missing would take an hour; parts given up here are tried again at full resolution.
_SMALLEST_CELLS_OF_LEVEL_0 = ((200, 4), (1000, 32), (2000, 128))
_LARGEST_CELL = 512
_LISTED_BOXES = 5


@dataclass(frozen=True)
class Overview:
    """A low-resolution image of a slide, and what is missing in it.

    Attributes
    ----------
    image
        uint8 (h, w, 3); background colour where no level could be decoded.
    failed
        bool (h, w): where no level could be decoded.
    mended
        Levels that were damaged somewhere and replaced by finer ones there.
    """

    image: NDArray[np.uint8]
    failed: NDArray[np.bool_]
    mended: tuple[int, ...]


def read_overview(
    read: ReadSampled,
    sampling: Sampling,
    levels: Sequence[Level],
    background: tuple[int, int, int],
) -> Overview:
    """Read the whole plane of `sampling`, in parts to bound memory.

    Parts that its level does not have are read from the next finer one, down to level 0.

    Parameters
    ----------
    read
        Reads (sampling, x, y, width, height), a box in pixels of the plane; raises `TileError`.
    sampling
        The plane.
    levels
        Levels of the slide.
    background
        RGB of empty areas.
    """
    image = np.empty((sampling.height, sampling.width, 3), np.uint8)
    image[:] = background
    failed = np.zeros((sampling.height, sampling.width), bool)
    painter = _Painter(read, levels, image, failed)
    painter.paint(sampling, (0, 0, sampling.width, sampling.height))
    return Overview(image, failed, tuple(sorted(painter.mended)))


def read_in_parts(read: ReadSampled, sampling: Sampling, box: Box) -> NDArray[np.uint8]:
    """Read a box of a plane, in parts where it is many pixels of its level, to bound memory.

    The pixels are those of a single read. Beside a level that is much finer than the plane, a
    square of the plane may be gigabytes of it.

    Parameters
    ----------
    read, sampling
        As in `read_overview`.
    box
        x, y, width, height in pixels of the plane.

    Raises
    ------
    TileError
        Where a part cannot be decoded.
    """
    x, y, width, height = box
    if not _is_large(sampling, box):
        return read(sampling, x, y, width, height)
    image = np.empty((height, width, 3), np.uint8)
    for left, top, columns, rows in _halves((0, 0, width, height)):
        part = read_in_parts(read, sampling, (x + left, y + top, columns, rows))
        image[top : top + rows, left : left + columns] = part
    return image


def _is_large(sampling: Sampling, box: Box) -> bool:
    _, _, width, height = box
    pixels = width * height * max(1.0, sampling.factor_x * sampling.factor_y)
    return pixels > _BAND_PIXELS and max(width, height) > 1


@dataclass
class _Painter:
    read: ReadSampled
    levels: Sequence[Level]
    image: NDArray[np.uint8]
    failed: NDArray[np.bool_]
    mended: set[int] = field(default_factory=set)
    failures: int = 0

    def paint(self, sampling: Sampling, box: Box) -> None:
        """Read a box, in parts where it is too large or cannot be read as a whole."""
        x, y, width, height = box
        if _is_large(sampling, box):
            self._paint_halves(sampling, box)
            return
        try:
            self.image[y : y + height, x : x + width] = self.read(sampling, x, y, width, height)
        except TileError:
            self._paint_around(sampling, box)

    def _paint_halves(self, sampling: Sampling, box: Box) -> None:
        for part in _halves(box):
            self.paint(sampling, part)

    def _paint_around(self, sampling: Sampling, box: Box) -> None:
        x, y, width, height = box
        if max(width, height) > self._smallest(sampling.level):
            self._paint_halves(sampling, box)
        elif sampling.level > 0:
            self.mended.add(sampling.level)
            self.paint(read_from(sampling, self.levels, sampling.level - 1), box)
        else:
            self.failures += 1
            self.failed[y : y + height, x : x + width] = True

    def _smallest(self, level: int) -> int:
        if level > 0:
            return _SMALLEST_CELL
        steps = (cell for most, cell in _SMALLEST_CELLS_OF_LEVEL_0 if self.failures < most)
        return next(steps, _LARGEST_CELL)


def _halves(box: Box) -> tuple[Box, ...]:
    """Cut a box in two along its longer side, where borders of tiles are likely."""
    x, y, width, height = box
    if width >= height:
        half = _largest_power_below(width)
        return (x, y, half, height), (x + half, y, width - half, height)
    half = _largest_power_below(height)
    return (x, y, width, half), (x, y + half, width, height - half)


def _largest_power_below(length: int) -> int:
    power: int = 1 << ((length - 1).bit_length() - 1)
    return power


def damage_warnings(overview: Overview, sampling: Sampling) -> tuple[str, ...]:
    """Return warnings about what could not be decoded, and the consequences."""
    notes = []
    if overview.mended:
        names = ", ".join(map(str, overview.mended))
        notes.append(
            f"parts of level {names} cannot be decoded; tissue was found there on a finer level. "
            "Is the file fully copied?"
        )
    if overview.failed.any():
        share = 100 * float(overview.failed.mean())
        boxes = _boxes(overview.failed, sampling)
        more = f" and {len(boxes) - _LISTED_BOXES} more" if len(boxes) > _LISTED_BOXES else ""
        notes.append(
            f"{max(share, 0.01):.2g} % of the slide cannot be decoded on any level: not analysed "
            f"there (level-0 boxes x, y, width, height: {'; '.join(boxes[:_LISTED_BOXES])}{more})"
        )
    return tuple(notes)


def _boxes(failed: NDArray[np.bool_], sampling: Sampling) -> list[str]:
    # Slow to import, and hardly any slide is damaged.
    from scipy import ndimage

    labels, _ = ndimage.label(failed)
    boxes = []
    for rows, columns in ndimage.find_objects(labels):
        edges = (
            columns.start * sampling.zoom_x,
            rows.start * sampling.zoom_y,
            (columns.stop - columns.start) * sampling.zoom_x,
            (rows.stop - rows.start) * sampling.zoom_y,
        )
        boxes.append(", ".join(str(round(edge)) for edge in edges))
    return boxes
