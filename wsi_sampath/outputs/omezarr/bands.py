"""One multiscale image written from the top, every chunk once.

Each level gathers rows into a band one chunk high, writes the band when it is full, and passes its
halved rows down to the next level. What is held is one band a level: memory grows with the width of
the plane, not with its height.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np

from wsi_sampath.outputs.omezarr.downsample import Unsigned

CHUNK = 1024
Halve = Callable[[Unsigned], Unsigned]


class BandWriter:
    """One multiscale image that grows downwards.

    Parameters
    ----------
    arrays
        The zarr arrays of its levels, level 0 first; (h, w) or (c, h, w), of one unsigned dtype.
    halve
        How rows become rows of the next level.
    """

    def __init__(self, arrays: Sequence[Any], halve: Halve) -> None:
        self._array = arrays[0]
        self._halve = halve
        self._next = BandWriter(arrays[1:], halve) if len(arrays) > 1 else None
        *lead, height, width = self._array.shape
        self._height = height
        self._band = np.zeros((*lead, min(CHUNK, height), width), self._array.dtype)
        self._y = 0

    @property
    def y(self) -> int:
        """Rows taken so far."""
        return self._y

    def append(self, rows: Unsigned) -> None:
        """Take the next rows, (..., n, width) of the dtype of the arrays."""
        while rows.shape[-2]:
            start = self._y % CHUNK
            part = rows[..., : CHUNK - start, :]
            rows = rows[..., CHUNK - start :, :]
            self._band[..., start : start + part.shape[-2], :] = part
            self._y += part.shape[-2]
            if self._y % CHUNK == 0 or self._y == self._height:
                self._flush()

    def _flush(self) -> None:
        first = (self._y - 1) // CHUNK * CHUNK
        rows = self._band[..., : self._y - first, :]
        for place, columns in _full_chunks(rows):
            inside: tuple[Any, ...] = (*place, ..., columns)
            self._array[(*place, slice(first, self._y), columns)] = rows[inside]
        if self._next is not None:
            self._next.append(self._halve(rows))

    def restore(self, y: int) -> None:
        """Go on after `y` rows, a whole number of chunks that are on disk."""
        self._y = y
        if self._next is not None:
            self._next._restore_from(self._array, y // CHUNK * CHUNK // 2)

    def _restore_from(self, finer: Any, y: int) -> None:
        first = y // CHUNK * CHUNK
        if y > first:
            rows = self._halve(np.asarray(finer[..., 2 * first : 2 * y, :]))
            self._band[..., : y - first, :] = rows
        self.restore(y)

    def skip_to(self, y: int) -> None:
        """Leave the rows before `y` at zero."""
        while self._y < y:
            missing = min(CHUNK, y - self._y)
            shape = (*self._band.shape[:-2], missing, self._band.shape[-1])
            self.append(np.zeros(shape, self._band.dtype))

    def finish(self) -> None:
        """Fill up with zeros to the last row, so that every level is complete."""
        self.skip_to(self._height)


def _full_chunks(rows: Unsigned) -> Iterator[tuple[tuple[int, ...], slice]]:
    """Find the stretches of chunk columns that hold anything; empty chunks stay unwritten."""
    starts = range(0, rows.shape[-1], CHUNK)
    for place in np.ndindex(rows.shape[:-2]):
        full = [bool(rows[(*place, ..., slice(x, x + CHUNK))].any()) for x in starts]
        for filled, group in groupby(zip(full, starts, strict=True), key=itemgetter(0)):
            columns = [x for _, x in group]
            if filled:
                yield place, slice(columns[0], min(columns[-1] + CHUNK, rows.shape[-1]))
