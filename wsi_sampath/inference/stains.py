"""Haematoxylin and eosin of tiles, as optical densities, on the device of the network."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

# Ruifrok and Johnston 2001, table of absorption in red, green and blue; the third is their residue.
_STAINS = ((0.650, 0.704, 0.286), (0.072, 0.990, 0.105), (0.268, 0.570, 0.776))


def stain_densities(tiles: Tensor, side: int) -> Tensor:
    """Return how much haematoxylin and how much eosin every pixel holds.

    Parameters
    ----------
    tiles
        uint8 (n, tile, tile, 3), RGB.
    side
        Of the answer; the tile is a multiple of it.

    Returns
    -------
    float32 (n, 2, side, side)
        Decadic optical densities against white, each along the unit vector of its stain, 0 or more.
    """
    density = -torch.log10((tiles.float() + 1) / 256)
    stains = functional.normalize(torch.tensor(_STAINS, device=tiles.device), dim=1)
    amounts = (density @ torch.linalg.inv(stains))[..., :2].clamp_min(0).permute(0, 3, 1, 2)
    return functional.avg_pool2d(amounts, tiles.shape[1] // side)
