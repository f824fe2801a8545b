"""A plain U-Net, which the bundled models are compared with."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from wsi_sampath.models.spec import ModelSpec

_LEVELS = 5


class PlainUNet(nn.Module):
    """U-Net of Ronneberger et al. (2015): five levels, two 3 x 3 convolutions each.

    With batch norm and padded convolutions, as is usual since; takes images of any size that is a
    multiple of 16, whatever tile the specification says.

    Parameters
    ----------
    spec
        Gives the normalisation; of what it builds nothing is used.
    width
        Channels of the first level; each level below has twice as many. Parameters grow with its
        square: 7.8 million for 32.
    n_maps
        Channels of the answer.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, spec: ModelSpec, width: int, n_maps: int) -> None:
        super().__init__()
        sizes = [width << level for level in range(_LEVELS)]
        self.down = nn.ModuleList(_pair(a, b) for a, b in zip([3, *sizes], sizes, strict=False))
        self.widen = nn.ModuleList(
            nn.ConvTranspose2d(2 * size, size, 2, stride=2) for size in sizes[:-1]
        )
        self.up = nn.ModuleList(_pair(2 * size, size) for size in sizes[:-1])
        self.head = nn.Conv2d(width, n_maps, 1)
        for name, values in (("mean", spec.mean), ("std", spec.std)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (batch, n_maps, height, width) of images (batch, 3, height, width)."""
        levels = []
        features = images
        for number, block in enumerate(self.down):
            features = block(functional.max_pool2d(features, 2) if number else features)
            levels.append(features)
        for skip, widen, block in reversed(
            list(zip(levels[:-1], self.widen, self.up, strict=True))
        ):
            features = block(torch.cat([skip, widen(features)], dim=1))
        return cast(Tensor, self.head(features))

    def preprocess(self, tiles: Tensor) -> Tensor:
        """Return uint8 RGB tiles (batch, height, width, 3) normalised, (batch, 3, h, w)."""
        return (tiles.permute(0, 3, 1, 2) / 255 - self.mean) / self.std


def _pair(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers += [
            nn.Conv2d(channels, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)
