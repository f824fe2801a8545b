"""The network of the engine benchmark: one linear map of colours to five classes, and a softmax.

The answer to a pixel depends on that pixel (or its `pool` x `pool` block) alone, so that a correct
pipeline gives the same map whichever way it tiles and blends. Only numpy and torch are needed: the
peers import this file in environments of their own.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

PROTOTYPES = np.array(
    [[243, 243, 243], [220, 170, 205], [160, 100, 165], [95, 55, 120], [200, 90, 130]], np.float32
)
CLASSES = ("glass", "eosin", "stroma", "nuclei", "red")
SHARP = 20.0


def linear_map() -> tuple[Tensor, Tensor]:
    """Return weights (5, 3) and offsets (5,) for colours in 0..1."""
    colours = torch.from_numpy(PROTOTYPES / 255)
    return 2 * SHARP * colours, -SHARP * (colours**2).sum(1)


class Stub(nn.Module):
    """Float images (n, 3, h, w) in 0..1 to logits (n, 5, h / pool, w / pool)."""

    def __init__(self, pool: int = 1) -> None:
        super().__init__()
        self.pool = pool
        weight, bias = linear_map()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)

    def preprocess(self, tiles: Tensor) -> Tensor:
        """Turn uint8 (n, h, w, 3) into images."""
        # Planes of bytes first: to move them apart as floats would cost more than the network.
        return tiles.permute(0, 3, 1, 2).contiguous().float().div_(255)

    def maps(self, images: Tensor, side: int) -> Tensor:
        """Return the probabilities of the classes, (n, 5, side, side)."""
        logits = self(images)
        if side > logits.shape[-1]:
            logits = F.interpolate(logits, size=(side, side), mode="bilinear")
        probabilities = logits.softmax(1)
        if side < probabilities.shape[-1]:
            probabilities = F.adaptive_avg_pool2d(probabilities, side)
        return probabilities

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        if self.pool > 1:
            images = F.avg_pool2d(images, self.pool)
        n, _, height, width = images.shape
        pixels = images.contiguous().view(n, 3, height * width)
        logits = torch.baddbmm(self.bias[:, None], self.weight.expand(n, 5, 3), pixels)
        return logits.view(n, 5, height, width)
