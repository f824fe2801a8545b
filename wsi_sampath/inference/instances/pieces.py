"""Pieces of foreground that stay open from one band of rows to the next."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from wsi_sampath.inference.instances.flooding import EIGHT
from wsi_sampath.inference.instances.terrain import Codes

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
Values = NDArray[np.uint8]


@dataclass(frozen=True)
class Pixels:
    """Pixels of the foreground, row by row.

    Attributes
    ----------
    y, x
        (n,) int64 where they are on the plane.
    code
        (n,) uint32, see `terrain`.
    piece
        (n,) int64 index of the piece that each belongs to.
    values
        (n, channels) uint8: what else is known of each, and goes with it.
    """

    y: Ints
    x: Ints
    code: Codes
    piece: Ints
    values: Values

    def __len__(self) -> int:
        return len(self.y)

    def take(self, chosen: NDArray[Any]) -> Pixels:
        """Return the chosen pixels."""
        return Pixels(
            self.y[chosen],
            self.x[chosen],
            self.code[chosen],
            self.piece[chosen],
            self.values[chosen],
        )


@dataclass(frozen=True)
class OpenPieces:
    """What rows to come may still change, and what they touch of it.

    Attributes
    ----------
    pixels
        Those of all open pieces; of a giant, those that were not handed out yet.
    giant
        (pieces,) whether a piece is known to be larger than the limit.
    edge
        (columns,) piece at each pixel of the last row, -1 for background.
    """

    pixels: Pixels
    giant: Flags
    edge: Ints

    @classmethod
    def none(cls, width: int, channels: int = 0) -> OpenPieces:
        """Return the state above the first row of a plane."""
        empty = np.zeros(0, np.int64)
        values = np.zeros((0, channels), np.uint8)
        pixels = Pixels(empty, empty, empty.astype(np.uint32), empty, values)
        return cls(pixels, np.zeros(0, bool), np.full(width, -1, np.int64))

    def link(self, codes: Codes, values: Values, y: int, limit_px: int) -> OpenPieces:
        """Add the next rows; the answer holds old and new pieces, closed ones as well.

        Parameters
        ----------
        codes
            uint32 (rows, columns).
        values
            uint8 (channels, rows, columns).
        y
            The first of these rows.
        limit_px
            A piece whose bounding box has a longer side is a giant.
        """
        labels, n_new = ndimage.label(codes, EIGHT, output=np.int32)
        n_old = len(self.giant)
        pairs = _touching(self.edge, labels[0].astype(np.int64) + (n_old - 1), n_old)
        graph = coo_array((np.ones(len(pairs[0]), bool), pairs), shape=(n_old + n_new,) * 2)
        n_pieces, piece_of = connected_components(graph, directed=False)
        piece_of = np.append(piece_of.astype(np.int64), -1)
        rows, x = np.nonzero(labels)
        old = self.pixels
        pixels = Pixels(
            np.concatenate([old.y, rows + y]),
            np.concatenate([old.x, x]),
            np.concatenate([old.code, codes[rows, x]]),
            np.concatenate([piece_of[old.piece], piece_of[labels[rows, x] + (n_old - 1)]]),
            np.concatenate([old.values, values[:, rows, x].T]),
        )
        giant = _longest_sides(pixels, n_pieces) > limit_px
        giant[piece_of[:n_old][self.giant]] = True
        last = labels[-1]
        edge = np.where(last > 0, piece_of[last + (n_old - 1)], -1)
        return OpenPieces(pixels, giant, edge)

    def open_after(self) -> Flags:
        """(pieces,) Whether the next row may touch a piece."""
        is_open = np.zeros(len(self.giant), bool)
        is_open[self.edge[self.edge >= 0]] = True
        return is_open

    def keep(self, kept: Flags, is_open: Flags) -> OpenPieces:
        """Return the open pieces with the pixels that are kept."""
        index = np.append(np.cumsum(is_open) - 1, -1)
        left = self.pixels.take(kept)
        pixels = replace(left, piece=index[left.piece])
        return OpenPieces(pixels, self.giant[is_open], index[self.edge])


def _touching(above: Ints, below: Ints, first_new: int) -> tuple[Ints, Ints]:
    """Pair the pieces of two rows, one over the other, that touch by sides or corners."""
    width = len(above)
    tops, bottoms = [], []
    for shift in (-1, 0, 1):
        top = above[max(0, -shift) : width - max(0, shift)]
        bottom = below[max(0, shift) : width - max(0, -shift)]
        both = (top >= 0) & (bottom >= first_new)
        tops.append(top[both])
        bottoms.append(bottom[both])
    return np.concatenate(tops), np.concatenate(bottoms)


def _longest_sides(pixels: Pixels, n_pieces: int) -> Ints:
    longest = np.zeros(n_pieces, np.int64)
    for place in (pixels.y, pixels.x):
        low = np.full(n_pieces, np.iinfo(np.int64).max)
        high = np.full(n_pieces, -1)
        np.minimum.at(low, pixels.piece, place)
        np.maximum.at(high, pixels.piece, place)
        # An open giant may have no pixel left here.
        longest = np.maximum(longest, np.where(high < 0, 0, high - low + 1))
    return longest
