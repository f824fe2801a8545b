"""Colours of tiles as networks take them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def by_channel(values: Sequence[float]) -> Tensor:
    """Return a mean or a deviation of RGB as (3, 1, 1), to be kept as a buffer."""
    return torch.tensor(values).view(3, 1, 1)


def normalised(tiles: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Return uint8 RGB tiles (n, height, width, 3) normalised, (n, 3, height, width).

    Parameters
    ----------
    tiles
        On any device, which must be that of the others.
    mean, std
        From `by_channel`, of RGB in 0..1.
    """
    images = tiles.permute(0, 3, 1, 2).to(mean.dtype) / 255
    return (images - mean) / std
