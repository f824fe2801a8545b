"""Overlap blending in rolling strips: out = sum(w p) / sum(w), with w > 0 everywhere in a tile.

Only one tile height of sums is held, on the device of the network. Once all tiles of a row are in,
the rows above the next row of tiles can change no more: a `Reading` turns them into the planes that
are kept, block by block, and they are forgotten.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsi_sampath.slides.grid import TileGrid, blend_profile

# Rows are finished in blocks that fit a processor's cache, or fill a GPU.
_BLOCK_VALUES = {"cpu": 1 << 18, "cuda": 1 << 27, "mps": 1 << 24}


@dataclass(frozen=True)
class Plane:
    """A plane that a reading keeps.

    Attributes
    ----------
    name
        Its key in `Rows.planes`.
    dtype
        Of its values; 0 stands where nothing was analysed.
    lead
        Axes before (rows, columns), such as ``(n_classes,)``.
    """

    name: str
    dtype: type[np.generic] = np.uint8
    lead: tuple[int, ...] = ()


class Reading(Protocol):
    """What is kept of blended maps, pixel by pixel, on the device."""

    @property
    def n_maps(self) -> int:
        """Maps that are blended."""
        ...

    @property
    def planes(self) -> tuple[Plane, ...]:
        """The planes that a call returns, in order."""
        ...

    def blended(self, tiles: Tensor, maps: Tensor) -> Tensor:
        """Return what is blended of a batch.

        Parameters
        ----------
        tiles
            uint8 (n, tile, tile, 3), RGB.
        maps
            float32 (n, m, side, side): the network's answers to them.

        Returns
        -------
        float32 (n, `n_maps`, side, side)
        """
        ...

    def __call__(self, sums: Tensor, weights: Tensor, analysed: Tensor) -> tuple[Tensor, ...]:
        """Read a block of rows.

        Parameters
        ----------
        sums
            float32 (maps, rows, columns): sum(w p); 0 where there is no weight.
        weights
            float32 (rows, columns): sum(w), above 0 everywhere.
        analysed
            bool (rows, columns): elsewhere the answer is to be 0.
        """
        ...


@dataclass(frozen=True)
class Rows:
    """Finished rows of the planes.

    Attributes
    ----------
    y
        First row, in output pixels of the plane.
    planes
        Arrays (*lead, rows, columns of the grid's window) by the name of the plane.
    """

    y: int
    planes: dict[str, NDArray[Any]]


class StripBlender:
    """Blend tile answers row by row of the grid.

    Parameters
    ----------
    grid
        The tiles; columns of the strips are those of ``grid.window``.
    reading
        Makes of the blended maps what is kept.
    device
        Where the answers are.
    """

    def __init__(
        self,
        grid: TileGrid,
        reading: Reading,
        *,
        device: str | torch.device = "cpu",
    ) -> None:
        self._grid = grid
        self._reading = reading
        profile = torch.from_numpy(blend_profile(grid.tile, grid.tile - grid.step)).to(device)
        self._weight = profile[:, None] * profile[None, :]
        width = grid.window.width
        self._sums = torch.zeros((reading.n_maps, grid.tile, width), device=device)
        self._weights = torch.zeros((grid.tile, width), device=device)

    def add(self, row: int, column: int, maps: Tensor) -> None:
        """Add one tile's answer.

        Parameters
        ----------
        row, column
            The tile. Rows must come in order; within a row any order will do.
        maps
            float32 (maps, tile, tile).
        """
        grid = self._grid
        x = grid.xs[column] - grid.window.x
        height = min(grid.tile, grid.window.y + grid.window.height - grid.ys[row])
        width = min(grid.tile, grid.window.width - x)
        weight = self._weight[:height, :width]
        sums = self._sums[:, :height, x : x + width]
        sums.addcmul_(weight, maps[:, :height, :width])
        self._weights[:height, x : x + width] += weight

    def finish_row(self, row: int, tissue: NDArray[np.bool_]) -> Rows:
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
        planes: dict[str, NDArray[Any]] = {
            plane.name: np.zeros((*plane.lead, height, width), plane.dtype)
            for plane in self._reading.planes
        }
        if float(self._weights[:height].max()):
            values = _BLOCK_VALUES[self._sums.device.type]
            step = max(1, values // (width * len(self._sums)))
            for top in range(0, height, step):
                rows = slice(top, min(top + step, height))
                block = self._read(rows, torch.from_numpy(tissue[rows]))
                for target, made in zip(planes.values(), block, strict=True):
                    target[..., rows, :] = made.cpu().numpy()
        self._roll(height)
        return Rows(first, planes)

    def carry(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the sums and weights that reach into the next row, after `finish_row`."""
        rows = int((self._weights.amax(dim=1) > 0).sum())
        return self._sums[:, :rows].cpu().numpy(), self._weights[:rows].cpu().numpy()

    def restore(self, sums: NDArray[np.float32], weights: NDArray[np.float32]) -> None:
        """Continue from what `carry` returned."""
        self._sums[:, : sums.shape[1]] = torch.from_numpy(sums)
        self._weights[: len(weights)] = torch.from_numpy(weights)

    def _read(self, rows: slice, tissue: Tensor) -> tuple[Tensor, ...]:
        sums, weights = self._sums[:, rows], self._weights[rows]
        analysed = (weights > 0) & tissue.to(weights.device)
        # Where there is no weight the sums are 0, and so is what comes out.
        return self._reading(sums, weights.clamp_min(torch.finfo(torch.float32).tiny), analysed)

    def _roll(self, height: int) -> None:
        keep = self._grid.tile - height
        for sums in (self._sums, self._weights):
            for top in range(0, keep, height):
                stop = min(top + height, keep)
                sums[..., top:stop, :] = sums[..., top + height : stop + height, :]
            sums[..., keep:, :] = 0


def to_bytes(probabilities: Tensor) -> Tensor:
    """Return round(255 p) as uint8."""
    half = torch.tensor(0.5, device=probabilities.device)
    return torch.add(half, probabilities, alpha=255).to(torch.uint8)
