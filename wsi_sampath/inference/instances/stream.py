"""Nuclei of a plane whose maps come in strips: the same nuclei however the plane is cut.

Tiles, strips and batches leave no trace in them, since seeds and watershed run on each piece of
foreground as a whole, once no row to come can touch it. (A margin around tiles is not enough: how
ties are flooded depends on what else is in the image.) A piece that is larger than a limit is cut
at a lattice of the plane. Rows are gathered into bands of a fixed height before anything is
decided, so that what is known, and numbered, at the end of a band depends on the plane alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from wsi_sampath.inference.durable.ledger import Arrays
from wsi_sampath.inference.instances.closed import ClosedPieces
from wsi_sampath.inference.instances.flooding import flood
from wsi_sampath.inference.instances.pieces import Ints, OpenPieces, Pixels, Values
from wsi_sampath.inference.instances.settings import NucleusSettings
from wsi_sampath.inference.instances.terrain import Codes, Maps, TerrainStream
from wsi_sampath.outputs.nuclei.patch import NucleusPatch

BAND_ROWS = 256
"""Rows after which closed pieces are numbered; part of what decides the order of the ids."""


class NucleusStream:
    """Nuclei with final ids 1..n, from strips of any height.

    Pieces closed in a band are numbered at its end, by their first pixels, row by row; so are the
    nuclei within a piece. Held in memory are one band and the pieces that are open; of these, none
    but a giant has more than `largest_px` rows, and of a giant no more than one row of the lattice.

    Parameters
    ----------
    settings
        The thresholds.
    width
        Columns of the plane.
    channels
        Of the values that come with the maps, and are handed on with the nuclei.
    band_rows
        Rows of a band.
    """

    def __init__(
        self,
        settings: NucleusSettings,
        width: int,
        *,
        channels: int = 0,
        band_rows: int = BAND_ROWS,
    ) -> None:
        self._settings = settings
        self._band_rows = band_rows
        self._terrain = TerrainStream(settings, width)
        self._band = np.zeros((0, width), np.uint32)
        # Values of the rows from the band's first on; the last of them wait for their codes.
        self._values = np.zeros((channels, 0, width), np.uint8)
        self._open = OpenPieces.none(width, channels)
        self._y = 0
        self.count = 0

    @property
    def settled(self) -> int:
        """Rows of the plane, from the top, in which no later patch paints."""
        y = self._open.pixels.y
        return int(y[0]) if len(y) else self._y

    def append(
        self, maps: Maps, values: Values | None = None, analysed: Values | None = None
    ) -> list[NucleusPatch]:
        """Take the next rows, and return the nuclei that they complete.

        Parameters
        ----------
        maps
            float32 (3, rows, columns), finite, 0 to 1: foreground, distance to the centre, distance
            to the boundary. Where nothing was analysed, the foreground is 0.
        values
            uint8 (channels, rows, columns); None where there are no channels.
        analysed
            Not needed: the foreground says it.
        """
        if values is not None:
            self._values = np.concatenate([self._values, values], axis=1)
        self._band = np.concatenate([self._band, self._terrain.append(maps)])
        return list(self._full_bands())

    def finish(self) -> list[NucleusPatch]:
        """Return the nuclei that the bottom of the plane completes."""
        self._band = np.concatenate([self._band, self._terrain.finish()])
        patches = list(self._full_bands())
        if len(self._band):
            self._link(self._band)
            self._band = self._band[:0]
        patches += self._hand_out(is_last=True)
        return patches

    def state(self) -> tuple[dict[str, Any], Arrays]:
        """Return JSON notes and arrays, enough to resume after the rows appended last."""
        pixels = self._open.pixels
        notes = {"y": self._y, "count": self.count, "n_done": self._terrain.n_done}
        arrays: Arrays = {
            "waiting": self._terrain.waiting,
            "band": self._band,
            "pixel_y": pixels.y,
            "pixel_x": pixels.x,
            "pixel_code": pixels.code,
            "pixel_piece": pixels.piece,
            "pixel_values": pixels.values,
            "values": self._values,
            "giant": self._open.giant,
            "edge": self._open.edge,
        }
        return notes, arrays

    @classmethod
    def from_state(
        cls,
        settings: NucleusSettings,
        notes: dict[str, Any],
        arrays: Arrays,
        *,
        band_rows: int = BAND_ROWS,
    ) -> Self:
        """Resume where `state` was taken; settings and height of bands are those of that stream."""
        values = arrays["values"]
        stream = cls(settings, len(arrays["edge"]), channels=len(values), band_rows=band_rows)
        stream._terrain = TerrainStream(
            settings, len(arrays["edge"]), arrays["waiting"], notes["n_done"]
        )
        stream._band, stream._values = arrays["band"], values
        names = ("pixel_y", "pixel_x", "pixel_code", "pixel_piece", "pixel_values")
        pixels = Pixels(*(arrays[name] for name in names))
        stream._open = OpenPieces(pixels, arrays["giant"], arrays["edge"])
        stream._y, stream.count = notes["y"], notes["count"]
        return stream

    def _full_bands(self) -> Iterator[NucleusPatch]:
        rows = self._band_rows
        while len(self._band) >= rows:
            band, self._band = self._band[:rows], self._band[rows:].copy()
            self._link(band)
            yield from self._hand_out(is_last=False)

    def _link(self, band: Codes) -> None:
        rows = len(band)
        values = np.zeros((0, *band.shape), np.uint8)
        if len(self._values):
            values, self._values = self._values[:, :rows], self._values[:, rows:].copy()
        self._open = self._open.link(band, values, self._y, self._settings.largest_px)
        self._y += rows

    def _hand_out(self, *, is_last: bool) -> Iterator[NucleusPatch]:
        pieces, pixels = self._open, self._open.pixels
        is_open = np.zeros(len(pieces.giant), bool) if is_last else pieces.open_after()
        is_final = ~is_open[pixels.piece]
        is_final |= pieces.giant[pixels.piece] & (self._cell_ends(pixels.y) <= self._y)
        final = pixels.take(is_final)
        in_giant = pieces.giant[final.piece]
        closed = ClosedPieces.of(final, self._keys(final, in_giant), alone=in_giant)
        self._open = pieces.keep(~is_final, is_open)
        yield from self._flooded(closed)

    def _cell_ends(self, y: Ints) -> Ints:
        side = self._settings.largest_px
        return (y // side + 1) * side

    def _keys(self, pixels: Pixels, in_giant: NDArray[np.bool_]) -> Ints:
        """Return a number for each piece, and each part of a giant in a cell of the lattice."""
        side = self._settings.largest_px
        across = len(self._open.edge) // side + 1
        down = self._y // side + 1
        cell = np.where(in_giant, pixels.y // side * across + pixels.x // side, 0)
        return pixels.piece * (across * down) + cell

    def _flooded(self, pieces: ClosedPieces) -> list[NucleusPatch]:
        """Return the nuclei of closed pieces, numbered on."""
        pixels = pieces.pixels
        labels, n_labels = np.zeros(len(pixels), np.int64), 0
        groups = list(pieces.groups())
        for group in groups:
            found = flood(group.canvas(pixels.code))[group.rows, group.columns]
            labels[group.index] = np.where(found > 0, found + n_labels, 0)
            n_labels += int(found.max(initial=0))
        numbers, count = _numbers(labels, pieces.first, n_labels, self._settings.min_size_px)
        ids = np.where(numbers > 0, numbers + self.count, 0)[labels].astype(np.uint32)
        self.count += count
        return [
            NucleusPatch(group.y, group.x, group.canvas(ids), group.canvas_of(pixels.values, ids))
            for group in groups
            if ids[group.index].any()
        ]


def _numbers(labels: Ints, piece_first: Ints, n_labels: int, min_size_px: int) -> tuple[Ints, int]:
    """Return numbers of nuclei by first pixels, of their pieces and then of themselves.

    Parameters
    ----------
    labels
        (n,) 1..n_labels for each pixel, or 0; pixels are in the order of the rows.
    piece_first
        (n,) index of the first pixel of each pixel's piece.
    n_labels, min_size_px
        Highest label, and the fewest pixels of a nucleus.

    Returns
    -------
    (n_labels + 1,) numbers 1..count, 0 for none; and count.
    """
    sizes = np.bincount(labels, minlength=n_labels + 1)
    first = np.zeros(n_labels + 1, np.int64)
    # Of several pixels that are assigned, the last one counts.
    first[labels[::-1]] = np.arange(len(labels))[::-1]
    sizes[0] = 0
    kept = np.flatnonzero((sizes > 0) & (sizes >= min_size_px))
    order = kept[np.lexsort((first[kept], piece_first[first[kept]]))]
    numbers = np.zeros(n_labels + 1, np.int64)
    numbers[order] = np.arange(1, len(order) + 1)
    return numbers, len(order)
