"""Closed pieces of foreground, gathered to be flooded many at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from wsi_sampath.inference.instances.pieces import Flags, Ints, Pixels, Values
from wsi_sampath.inference.instances.terrain import SEED

Scalar = TypeVar("Scalar", bound=np.generic)
_SIDE_PX = 512
"""A piece with a longer side is flooded alone, since a canvas of several is as high as it."""
_CANVAS_PX = 2048


@dataclass(frozen=True)
class Group:
    """Pixels that are flooded at once, whole pieces of them.

    Attributes
    ----------
    y, x, height, width
        Their box on the plane.
    index
        Which of all pixels they are, in the order of the rows.
    rows, columns
        Where they are in the box.
    """

    y: int
    x: int
    height: int
    width: int
    index: Ints
    rows: Ints
    columns: Ints

    def canvas(self, values: NDArray[Scalar]) -> NDArray[Scalar]:
        """Return values of all pixels, (n,), as (height, width), 0 where there is no pixel."""
        canvas = np.zeros((self.height, self.width), values.dtype)
        canvas[self.rows, self.columns] = values[self.index]
        return canvas

    def canvas_of(self, values: Values, ids: NDArray[Any]) -> Values:
        """Return values (n, channels) as (channels, height, width), 0 where the id is 0."""
        canvas = np.zeros((values.shape[1], self.height, self.width), np.uint8)
        is_nucleus = ids[self.index] > 0
        index, rows, columns = (one[is_nucleus] for one in (self.index, self.rows, self.columns))
        canvas[:, rows, columns] = values[index].T
        return canvas


@dataclass(frozen=True)
class ClosedPieces:
    """Closed pieces that have a seed.

    Attributes
    ----------
    pixels
        Their pixels, and others.
    first
        (n,) index of the first pixel of each pixel's piece.
    group
        (n,) number of the group that each pixel belongs to; -1 where its piece has no seed.
    """

    pixels: Pixels
    first: Ints
    group: Ints

    @classmethod
    def of(cls, pixels: Pixels, keys: Ints, *, alone: Flags) -> Self:
        """Gather pieces by where they are.

        Parameters
        ----------
        pixels
            All of them, in the order of the rows.
        keys
            (n,) tell the pieces apart.
        alone
            (n,) whether a pixel's piece may touch another one, and must be flooded alone.
        """
        _, first, piece = np.unique(keys, return_index=True, return_inverse=True)
        n_pieces = len(first)
        # Specks of noise have no seed, and are many.
        has_seed = np.zeros(n_pieces, bool)
        has_seed[piece[(pixels.code & SEED) > 0]] = True
        longest, left = np.zeros(n_pieces, np.int64), np.zeros(n_pieces, np.int64)
        is_single = np.zeros(n_pieces, bool)
        is_single[piece[alone]] = True
        for place in (pixels.y, pixels.x):
            low, high = np.full(n_pieces, np.iinfo(np.int64).max), np.zeros(n_pieces, np.int64)
            np.minimum.at(low, piece, place)
            np.maximum.at(high, piece, place)
            longest, left = np.maximum(longest, high - low + 1), low
        n_columns = int(left.max(initial=0)) // _CANVAS_PX + 1
        is_single |= longest > _SIDE_PX
        group = np.where(is_single, n_columns + np.arange(n_pieces), left // _CANVAS_PX)
        group[~has_seed] = -1
        return cls(pixels, first[piece], group[piece])

    def groups(self) -> Iterator[Group]:
        """Yield the pieces, several at once where they are small and near to each other."""
        order = np.argsort(self.group, kind="stable")
        order = order[np.searchsorted(self.group[order], 0) :]
        begins = np.flatnonzero(np.diff(self.group[order], prepend=-1))
        for index in np.split(order, begins)[1:]:
            y, x = self.pixels.y[index], self.pixels.x[index]
            top, left = int(y.min()), int(x.min())
            height, width = int(y.max()) - top + 1, int(x.max()) - left + 1
            yield Group(top, left, height, width, index, y - top, x - left)
