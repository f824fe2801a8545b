"""Whether a level shows the same picture as the level above it, judged from a few small places."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsi_sampath.slides.readers.base import Rgb, TileError

Read = Callable[[int, int, int, int], Rgb]
Size = tuple[int, int]
Place = tuple[float, float]
Item = TypeVar("Item")
# Sides of a place, in pixels of the lower and of the upper level; means over cells are compared.
_PLACE_PX, _MOST_UPPER_PX, _CELL_PX = 32, 512, 8
_SMALL_PX = 1 << 18
_FIXED: tuple[Place, ...] = ((0.5, 0.5), (0.3, 0.65))
_MANY = tuple(((x + 0.5) / 8, (y + 0.5) / 8) for y in range(8) for x in range(8))
# In grey values. Empty areas may be filled with another white than that of the scanned glass.
_NEAR, _FAR, _FLAT = 24.0, 60.0, 8.0
_LEAST_CORRELATION = 0.5


def same_picture(
    upper: tuple[Read, Size], lower: tuple[Read, Size], places: Iterable[Place] = ()
) -> bool | None:
    """Compare two levels.

    Parameters
    ----------
    upper, lower
        How to read boxes (x, y, width, height) of a level, and its (width, height). Boxes that
        raise `TileError` are left out.
    places
        Relative (x, y), 0 to 1, of detail in the upper level. Places with detail in the lower level
        are added, and two fixed ones.

    Returns
    -------
    bool or None
        None where nothing could be compared.
    """
    pairs = list(_pairs(upper, lower, (*places, *_busiest(*lower), *_FIXED)))
    # Nearly all of a level may be damaged; its few intact parts are evidence enough.
    pairs = pairs or list(_pairs(upper, lower, _MANY))
    if not pairs:
        return None
    unlike = sum(not _is_alike(a, b) for a, b in pairs)
    if unlike >= math.ceil(len(pairs) / 3):
        return False
    above = np.concatenate([a.reshape(-1, 3) for a, _ in pairs])
    below = np.concatenate([b.reshape(-1, 3) for _, b in pairs])
    return _is_flat(above, below) or _correlation(above, below) >= _LEAST_CORRELATION


def _pairs(
    upper: tuple[Read, Size], lower: tuple[Read, Size], places: Iterable[Place]
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    for place in places:
        with suppress(TileError):
            yield _cells(upper, lower, place)


def chain(
    sizes: Sequence[Size], read: Callable[[int, int, int, int, int], Rgb], hints: Iterable[Place]
) -> tuple[list[int], list[int], list[int]]:
    """Sort the levels of a reader, largest first, by what they show.

    Parameters
    ----------
    sizes
        (width, height) of all levels, level 0 first.
    read
        Reads (level, x, y, width, height).
    hints
        See `same_picture`.

    Returns
    -------
    (list of int, list of int, list of int)
        Levels that show the same picture, that show another one, that could not be decoded.
    """
    same, hints = [0], tuple(hints)
    other: list[int] = []
    unknown: list[int] = []
    for level in range(1, len(sizes)):
        above = same[-1]
        answer = same_picture(
            (_of_level(read, above), sizes[above]), (_of_level(read, level), sizes[level]), hints
        )
        (unknown if answer is None else same if answer else other).append(level)
    return same, other, unknown


def _of_level(read: Callable[[int, int, int, int, int], Rgb], level: int) -> Read:
    return lambda x, y, width, height: read(level, x, y, width, height)


def _busiest(read: Read, size: Size) -> Iterator[Place]:
    """Yield the two places of a small level with the most detail."""
    if size[0] * size[1] > _SMALL_PX or min(size) < 2 * _CELL_PX:
        return
    try:
        grey = read(0, 0, *size).mean(-1)
    except TileError:
        return
    rows, columns = (side // _CELL_PX for side in grey.shape)
    blocks = grey[: rows * _CELL_PX, : columns * _CELL_PX]
    blocks = blocks.reshape(rows, _CELL_PX, columns, _CELL_PX)
    for score in (blocks.std((1, 3)), 255 - blocks.mean((1, 3))):
        row, column = np.unravel_index(int(score.argmax()), score.shape)
        yield (float(column) + 0.5) / columns, (float(row) + 0.5) / rows


def _cells(
    upper: tuple[Read, Size], lower: tuple[Read, Size], place: Place
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Average cells of one place in both levels; float (n, n, 3) each."""
    (read_upper, upper_size), (read_lower, lower_size) = upper, lower
    factors = upper_size[0] / lower_size[0], upper_size[1] / lower_size[1]
    most = int(_MOST_UPPER_PX / max(factors))
    side = max(1, min(_PLACE_PX, most, *lower_size))
    left, top = (
        min(max(0, round(share * whole - side / 2)), whole - side)
        for share, whole in zip(place, lower_size, strict=True)
    )
    n = max(1, side // _CELL_PX)
    below = Image.fromarray(read_lower(left, top, side, side))
    x0, x1 = left * factors[0], (left + side) * factors[0]
    y0, y1 = top * factors[1], (top + side) * factors[1]
    x, y = int(x0), int(y0)
    above = Image.fromarray(read_upper(x, y, math.ceil(x1) - x, math.ceil(y1) - y))
    box = (x0 - x, y0 - y, min(x1 - x, above.width), min(y1 - y, above.height))
    return _averaged(above.resize((n, n), Image.Resampling.BOX, box=box)), _averaged(
        below.resize((n, n), Image.Resampling.BOX)
    )


def _averaged(image: Image.Image) -> NDArray[np.float64]:
    return np.asarray(image, np.float64)


def _is_alike(a: NDArray[np.float64], b: NDArray[np.float64]) -> bool:
    distance = float(np.abs(a - b).mean())
    if distance <= _NEAR:
        return True
    return distance <= _FAR and not _is_flat(a, b) and _correlation(a, b) >= _LEAST_CORRELATION


def _is_flat(a: NDArray[np.float64], b: NDArray[np.float64]) -> bool:
    return min(float(_varying(a).std()), float(_varying(b).std())) < _FLAT


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float(np.corrcoef(_varying(a).ravel(), _varying(b).ravel())[0, 1])


def _varying(cells: NDArray[np.float64]) -> NDArray[np.float64]:
    """Subtract the mean colour: pictures of one stain are not the same for their colour alone."""
    colours = cells.reshape(-1, cells.shape[-1])
    varying: NDArray[np.float64] = colours - colours.mean(0)
    return varying
