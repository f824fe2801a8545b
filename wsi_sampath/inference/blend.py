"""Overlap blending in rolling strips: out = sum(w p) / sum(w), with w > 0 everywhere in a tile.

Only one tile height of sums is held, on the device of the network. Once all tiles of a row are in,
the rows above the next row of tiles can change no more: they are divided, decided and handed out
as bytes, and forgotten.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsi_sampath.slides.grid import TileGrid, blend_profile

# Rows are finished in blocks that fit a processor's cache, or fill a GPU.
_BLOCK_VALUES = {"cpu": 1 << 18, "cuda": 1 << 27, "mps": 1 << 24}


@dataclass(frozen=True)
class ClassRows:
    """Finished rows of the maps that are stored.

    Attributes
    ----------
    y
        First row, in output pixels of the plane.
    labels
        uint8 (rows, columns): 0 not analysed, 1..k the class of highest probability, decided from
        the unrounded probabilities.
    probabilities
        uint8 (classes, rows, columns): round(255 p), 0 where not analysed.
    score
        uint8 (rows, columns): the winning class's probability.
    """

    y: int
    labels: NDArray[np.uint8]
    probabilities: NDArray[np.uint8]
    score: NDArray[np.uint8]


class StripBlender:
    """Blend tile answers row by row of the grid.

    Parameters
    ----------
    grid
        The tiles; columns of the strips are those of ``grid.window``.
    n_classes
        Channels of every answer.
    device
        Where the answers are.
    probabilities
        Whether the rows handed out hold probabilities; without them they hold none (0 classes).
    """

    def __init__(
        self,
        grid: TileGrid,
        n_classes: int,
        *,
        device: str | torch.device = "cpu",
        probabilities: bool = True,
    ) -> None:
        self._grid = grid
        self._planes = n_classes if probabilities else 0
        profile = torch.from_numpy(blend_profile(grid.tile, grid.tile - grid.step)).to(device)
        self._weight = profile[:, None] * profile[None, :]
        width = grid.window.width
        self._sums = torch.zeros((n_classes, grid.tile, width), device=device)
        self._weights = torch.zeros((grid.tile, width), device=device)

    def add(self, row: int, column: int, probabilities: Tensor) -> None:
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
        sums = self._sums[:, :height, x : x + width]
        sums.addcmul_(weight, probabilities[:, :height, :width])
        self._weights[:height, x : x + width] += weight

    def finish_row(self, row: int, tissue: NDArray[np.bool_]) -> ClassRows:
        """Hand out the rows that are final once every tile of `row` has been added.

        Parameters
        ----------
        row
            The row of tiles.
        tissue
            bool (rows, columns): what is to be analysed; the rest becomes 0.
        """
        first, last = self._grid.strip_rows(row)
        height, width = last - first, self._sums.shape[-1]
        labels = np.zeros((height, width), np.uint8)
        score = np.zeros((height, width), np.uint8)
        probabilities = np.zeros((self._planes, height, width), np.uint8)
        if float(self._weights[:height].max()):
            values = _BLOCK_VALUES[self._sums.device.type]
            step = max(1, values // (width * len(self._sums)))
            for top in range(0, height, step):
                rows = slice(top, min(top + step, height))
                block = self._decide(rows, torch.from_numpy(tissue[rows]))
                labels[rows], probabilities[:, rows], score[rows] = block
        self._roll(height)
        return ClassRows(first, labels, probabilities, score)

    def carry(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the sums and weights that reach into the next row, after `finish_row`."""
        rows = int((self._weights.amax(dim=1) > 0).sum())
        return self._sums[:, :rows].cpu().numpy(), self._weights[:rows].cpu().numpy()

    def restore(self, sums: NDArray[np.float32], weights: NDArray[np.float32]) -> None:
        """Go on from what `carry` returned."""
        self._sums[:, : sums.shape[1]] = torch.from_numpy(sums)
        self._weights[: len(weights)] = torch.from_numpy(weights)

    def _decide(self, rows: slice, tissue: Tensor) -> tuple[NDArray[np.uint8], ...]:
        sums, weights = self._sums[:, rows], self._weights[rows]
        analysed = (weights > 0) & tissue.to(weights.device)
        # Where there is no weight the sums are 0, and so is what comes out.
        weights = weights.clamp_min(torch.finfo(torch.float32).tiny)
        labels, best = winners(sums)
        planes = sums[: self._planes]
        answers = (labels, _to_bytes(planes / weights), _to_bytes(best / weights))
        if not bool(analysed.all()):
            for answer in answers:
                answer.mul_(analysed)
        return tuple(answer.cpu().numpy() for answer in answers)

    def _roll(self, height: int) -> None:
        keep = self._grid.tile - height
        for sums in (self._sums, self._weights):
            for top in range(0, keep, height):
                stop = min(top + height, keep)
                sums[..., top:stop, :] = sums[..., top + height : stop + height, :]
            sums[..., keep:, :] = 0


def winners(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Return the best class of every pixel, uint8 from 1, the first of equals, and its score.

    Parameters
    ----------
    scores
        float32 (classes, rows, columns), not negative.
    """
    if scores.device.type == "cpu":
        # The same arithmetic: numpy compares several times faster than torch on a processor.
        labels, best = _winners(scores.numpy(), np)
        return torch.from_numpy(labels), torch.from_numpy(best)
    return cast(tuple[Tensor, Tensor], _winners(scores, torch))


def _winners(scores: Any, library: Any) -> tuple[Any, Any]:
    best = scores[0] * 1
    winner = library.zeros_like(best, dtype=library.uint8)
    for index, one in enumerate(scores[1:], start=1):
        # A later winner has a larger index, so that the largest one that ever led is the last.
        library.maximum(winner, (one > best).view(library.uint8) * index, out=winner)
        library.maximum(best, one, out=best)
    winner += 1
    return winner, best


def _to_bytes(probabilities: Tensor) -> Tensor:
    """Return round(255 p) as uint8."""
    half = torch.tensor(0.5, device=probabilities.device)
    return torch.add(half, probabilities, alpha=255).to(torch.uint8)
