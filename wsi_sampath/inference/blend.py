"""Overlap blending in rolling strips: out = sum(w p) / sum(w), with w > 0 everywhere in a tile.

Only one tile height of sums is held, on the device of the network. Once all tiles of a row are in,
the rows above the next row of tiles can change no more: a `Reading` turns them into the planes that
are kept, block by block, and they are forgotten.
"""

from __future__ import annotations

from collections.abc import Iterator
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
        # Rings of rows: the first that is not finished lies at `_top`, and nothing is ever moved.
        self._sums = torch.zeros((reading.n_maps, grid.tile, width), device=device)
        self._weights = torch.zeros((grid.tile, width), device=device)
        self._top = 0

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
        columns = slice(x, x + width)
        for part, rows in self._stretches(height):
            weight = self._weight[part, :width]
            self._sums[:, rows, columns].addcmul_(weight, maps[:, part, :width])
            self._weights[rows, columns] += weight

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
        for part, rows in self._blocks(height):
            if float(self._weights[rows].max()):
                block = self._read(rows, torch.from_numpy(tissue[part]))
                for target, made in zip(planes.values(), block, strict=True):
                    target[..., part, :] = made.cpu().numpy()
                self._sums[:, rows] = 0
                self._weights[rows] = 0
        self._top = (self._top + height) % self._grid.tile
        return Rows(first, planes)

    @property
    def carried_bytes(self) -> int:
        """Return the size of what `carry` returns; before a slide's last rows it may be more."""
        overlap, width = self._grid.tile - self._grid.step, self._sums.shape[-1]
        return (len(self._sums) + 1) * overlap * width * self._sums.itemsize

    def carry(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the sums and weights that reach into the next row, after `finish_row`."""
        count = int((self._weights.amax(dim=1) > 0).sum())
        stretches = [rows for _, rows in self._stretches(count)] or [slice(0, 0)]
        sums = torch.cat([self._sums[:, rows] for rows in stretches], dim=1)
        weights = torch.cat([self._weights[rows] for rows in stretches])
        return sums.cpu().numpy(), weights.cpu().numpy()

    def restore(self, sums: NDArray[np.float32], weights: NDArray[np.float32]) -> None:
        """Continue from what `carry` returned."""
        self._sums[:, : sums.shape[1]] = torch.from_numpy(sums)
        self._weights[: len(weights)] = torch.from_numpy(weights)

    def _stretches(self, count: int) -> Iterator[tuple[slice, slice]]:
        """Go through the next `count` rows: which of them, and where the ring has them."""
        whole = min(count, self._grid.tile - self._top)
        if whole:
            yield slice(0, whole), slice(self._top, self._top + whole)
        if whole < count:
            yield slice(whole, count), slice(0, count - whole)

    def _blocks(self, count: int) -> Iterator[tuple[slice, slice]]:
        """Go through the next `count` rows in blocks that are read at once."""
        values = _BLOCK_VALUES[self._sums.device.type]
        step = max(1, values // (self._sums.shape[-1] * len(self._sums)))
        for part, rows in self._stretches(count):
            for top in range(0, part.stop - part.start, step):
                stop = min(top + step, part.stop - part.start)
                yield (
                    slice(part.start + top, part.start + stop),
                    slice(rows.start + top, rows.start + stop),
                )

    def _read(self, rows: slice, tissue: Tensor) -> tuple[Tensor, ...]:
        sums, weights = self._sums[:, rows], self._weights[rows]
        analysed = (weights > 0) & tissue.to(weights.device)
        # Where there is no weight the sums are 0, and so is what comes out.
        return self._reading(sums, weights.clamp_min(torch.finfo(torch.float32).tiny), analysed)


def to_bytes(probabilities: Tensor) -> Tensor:
    """Return round(255 p) as uint8."""
    half = torch.tensor(0.5, device=probabilities.device)
    return torch.add(half, probabilities, alpha=255).to(torch.uint8)
