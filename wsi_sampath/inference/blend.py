"""Overlap blending in rolling strips: out = sum(w p) / sum(w), with w > 0 everywhere in a tile.

Only one tile height of sums is held. Once all tiles of a row are in, the rows above the next row
of tiles can change no more: they are divided, handed out and forgotten.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_sampath.slides.grid import TileGrid, blend_profile


@dataclass(frozen=True)
class Strip:
    """Finished rows of the analysed window.

    Attributes
    ----------
    y
        First row, in output pixels of the plane.
    probabilities
        float32 (classes, rows, columns); 0 where nothing was analysed.
    covered
        bool (rows, columns): where at least one tile answered.
    """

    y: int
    probabilities: NDArray[np.float32]
    covered: NDArray[np.bool_]


class StripBlender:
    """Blend tile answers row by row of the grid.

    Parameters
    ----------
    grid
        The tiles; columns of the strips are those of ``grid.window``.
    n_classes
        Channels of every answer.
    """

    def __init__(self, grid: TileGrid, n_classes: int) -> None:
        self._grid = grid
        profile = blend_profile(grid.tile, grid.tile - grid.step)
        self._weight = profile[:, None] * profile[None, :]
        width = grid.window.width
        self._sums = np.zeros((n_classes, grid.tile, width), np.float32)
        self._weights = np.zeros((grid.tile, width), np.float32)

    def add(self, row: int, column: int, probabilities: NDArray[np.float32]) -> None:
        """Add one tile's answer.

        Parameters
        ----------
        row, column
            The tile. Rows must come in order; within a row any order will do.
        probabilities
            float32 (classes, tile, tile).
        """
        grid = self._grid
        x = grid.xs[column] - grid.window.x
        height = min(grid.tile, grid.window.y + grid.window.height - grid.ys[row])
        width = min(grid.tile, grid.window.width - x)
        weight = self._weight[:height, :width]
        self._sums[:, :height, x : x + width] += weight * probabilities[:, :height, :width]
        self._weights[:height, x : x + width] += weight

    def finish_row(self, row: int) -> Strip:
        """Hand out the rows that are final once every tile of `row` has been added."""
        first, last = self._grid.strip_rows(row)
        height = last - first
        weights = self._weights[:height]
        covered = weights > 0
        strip = Strip(first, np.zeros_like(self._sums[:, :height]), covered)
        np.divide(self._sums[:, :height], weights, out=strip.probabilities, where=covered)
        self._roll(height)
        return strip

    def carry(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the sums and weights that reach into the next row, after `finish_row`."""
        rows = int(self._weights.any(axis=1).sum())
        return self._sums[:, :rows].copy(), self._weights[:rows].copy()

    def restore(self, sums: NDArray[np.float32], weights: NDArray[np.float32]) -> None:
        """Go on from what `carry` returned."""
        self._sums[:, : sums.shape[1]] = sums
        self._weights[: len(weights)] = weights

    def _roll(self, height: int) -> None:
        keep = self._grid.tile - height
        for sums in (self._sums, self._weights):
            sums[..., :keep, :] = sums[..., height:, :].copy()
            sums[..., keep:, :] = 0
