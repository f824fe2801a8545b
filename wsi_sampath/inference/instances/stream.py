"""Nuclei of a plane whose maps come in strips: the same nuclei however the plane is cut.

Tiles, strips and batches leave no trace in them, since seeds and watershed run on each piece of
foreground as a whole, once no row to come can touch it. (A margin around tiles is not enough: how
ties are flooded depends on what else is in the image.) A piece that is larger than a limit is cut
at a lattice of the plane. Rows are gathered into bands of a fixed height before anything is
decided, so that what is known, and numbered, at the end of a band depends on the plane alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from wsi_sampath.inference.durable.ledger import Arrays
from wsi_sampath.inference.instances.flooding import flood, numbered
from wsi_sampath.inference.instances.pieces import Ints, OpenPieces, Pixels
from wsi_sampath.inference.instances.settings import NucleusSettings
from wsi_sampath.inference.instances.terrain import SEED, Codes, Maps, TerrainStream

BAND_ROWS = 256
"""Rows after which closed pieces are numbered; part of what decides the order of the ids."""


@dataclass(frozen=True)
class NucleusPatch:
    """Final nuclei of one piece of foreground.

    Attributes
    ----------
    y, x
        First row and column of its box on the plane.
    labels
        uint32 (rows, columns): ids of nuclei, 0 where there is none or another piece's.
    """

    y: int
    x: int
    labels: NDArray[np.uint32]

    def paint(self, plane: NDArray[np.uint32]) -> None:
        """Write the ids into a plane, and nothing where there is none."""
        rows, columns = self.labels.shape
        box = plane[self.y : self.y + rows, self.x : self.x + columns]
        np.copyto(box, self.labels, where=self.labels > 0)


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
    band_rows
        Rows of a band.
    """

    def __init__(
        self, settings: NucleusSettings, width: int, *, band_rows: int = BAND_ROWS
    ) -> None:
        self._settings = settings
        self._band_rows = band_rows
        self._terrain = TerrainStream(settings, width)
        self._band = np.zeros((0, width), np.uint32)
        self._open = OpenPieces.none(width)
        self._y = 0
        self.count = 0

    @property
    def settled(self) -> int:
        """Rows of the plane, from the top, in which no later patch paints."""
        y = self._open.pixels.y
        return int(y[0]) if len(y) else self._y

    def append(self, maps: Maps) -> list[NucleusPatch]:
        """Take the next rows, and return the nuclei that they complete.

        Parameters
        ----------
        maps
            float32 (3, rows, columns), finite, 0 to 1: foreground, distance to the centre, distance
            to the boundary. Where nothing was analysed, the foreground is 0.
        """
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
        stream = cls(settings, len(arrays["edge"]), band_rows=band_rows)
        stream._terrain = TerrainStream(
            settings, len(arrays["edge"]), arrays["waiting"], notes["n_done"]
        )
        stream._band = arrays["band"]
        pixels = Pixels(
            arrays["pixel_y"], arrays["pixel_x"], arrays["pixel_code"], arrays["pixel_piece"]
        )
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
        self._open = self._open.link(band, self._y, self._settings.largest_px)
        self._y += len(band)

    def _hand_out(self, *, is_last: bool) -> Iterator[NucleusPatch]:
        pieces, pixels = self._open, self._open.pixels
        is_open = np.zeros(len(pieces.giant), bool) if is_last else pieces.open_after()
        is_final = ~is_open[pixels.piece]
        is_final |= pieces.giant[pixels.piece] & (self._cell_ends(pixels.y) <= self._y)
        final = pixels.take(is_final)
        keys = self._keys(final, pieces.giant[final.piece])
        self._open = pieces.keep(~is_final, is_open)
        if len(final):
            for group in final.groups(keys):
                # Specks of noise have no seed, and are many.
                if (group.code & SEED).any():
                    yield from self._flooded(group)

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

    def _flooded(self, pixels: Pixels) -> Iterator[NucleusPatch]:
        y, x = int(pixels.y.min()), int(pixels.x.min())
        box = (int(pixels.y.max()) - y + 1, int(pixels.x.max()) - x + 1)
        codes = np.zeros(box, np.uint32)
        codes[pixels.y - y, pixels.x - x] = pixels.code
        labels, count = numbered(flood(codes), self._settings.min_size_px)
        if count:
            ids = np.where(labels > 0, labels + np.int64(self.count), 0)
            self.count += count
            yield NucleusPatch(y, x, ids.astype(np.uint32))
