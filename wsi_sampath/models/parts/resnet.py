"""ResNet-18 up to one of its stages, the same to the bit as timm's and under timm's names.

Importing timm takes longer than a small slide does: it brings torchvision along, and that torch's
compiler. The bundled model needs this one network of it.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

RESNET18 = "resnet18"
STRIDES = (4, 8, 16, 32)
"""Input px a feature after each of the four stages; timm has one at 2 besides."""
_STEM_CHANNELS = 64
_BLOCKS = 2


class _Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample = None
        if stride != 1:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, out_channels, 1, stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, features: Tensor) -> Tensor:
        inner = torch.relu_(self.bn1(self.conv1(features)))
        shortcut = features if self.downsample is None else self.downsample(features)
        return torch.relu_(self.bn2(self.conv2(inner)).add_(shortcut))


class _Stages(nn.Sequential):
    """The stem and the stages after it, by timm's names."""

    def __init__(self, n_stages: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, _STEM_CHANNELS, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(_STEM_CHANNELS)
        self.act1 = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        channels = _STEM_CHANNELS
        for number in range(1, n_stages + 1):
            out_channels = _STEM_CHANNELS << (number - 1)
            first = _Block(channels, out_channels, 1 if number == 1 else 2)
            others = [_Block(out_channels, out_channels, 1) for _ in range(1, _BLOCKS)]
            self.add_module(f"layer{number}", nn.Sequential(first, *others))
            channels = out_channels


class ResNet18Encoder(nn.Module):
    """The features of ResNet-18 at a stride, with the weights' names of timm's encoder.

    Parameters
    ----------
    stride
        Input px a feature, one of `STRIDES`.
    """

    def __init__(self, stride: int) -> None:
        super().__init__()
        n_stages = 1 + STRIDES.index(stride)
        self.net = _Stages(n_stages)
        self.patch = stride
        self.out_channels = _STEM_CHANNELS << (n_stages - 1)
        self.apply(_start)

    def forward(self, images: Tensor) -> Tensor:
        """Return (batch, out_channels, height / stride, width / stride)."""
        return cast(Tensor, self.net(images))


def _start(module: nn.Module) -> None:
    """Draw the weights that training starts from as timm does."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, _Block):
        nn.init.zeros_(module.bn2.weight)
