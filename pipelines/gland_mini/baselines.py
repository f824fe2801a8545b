"""Networks to compare SAM-Path with: a plain U-Net, and SAM-Path without its class prompts."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from wsi_sampath.models.sam_path.network import SamPath, SegmentationOutput
from wsi_sampath.models.sam_path.spec import SamPathSpec

_LEVELS = 5


class PlainUNet(nn.Module):
    """U-Net of Ronneberger et al. (2015): five levels, two 3 x 3 convolutions each.

    With batch norm and padded convolutions, as is usual since; takes images of any size that is a
    multiple of 16, whatever tile the specification says.

    Parameters
    ----------
    spec
        Gives the classes and the normalisation; its encoders and decoder are not used.
    width
        Channels of the first level; each level below has twice as many. Parameters grow with its
        square: 7.8 million for 32.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, spec: SamPathSpec, width: int) -> None:
        super().__init__()
        self.spec = spec
        sizes = [width << level for level in range(_LEVELS)]
        self.down = nn.ModuleList(_pair(a, b) for a, b in zip([3, *sizes], sizes, strict=False))
        self.widen = nn.ModuleList(
            nn.ConvTranspose2d(2 * size, size, 2, stride=2) for size in sizes[:-1]
        )
        self.up = nn.ModuleList(_pair(2 * size, size) for size in sizes[:-1])
        self.head = nn.Conv2d(width, spec.num_channels, 1)
        for name, values in (("mean", spec.mean), ("std", spec.std)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> SegmentationOutput:
        """Segment a batch: logits at the images' size, and no estimate of the IoU (zeros)."""
        levels = []
        features = images
        for number, block in enumerate(self.down):
            features = block(functional.max_pool2d(features, 2) if number else features)
            levels.append(features)
        for skip, widen, block in reversed(
            list(zip(levels[:-1], self.widen, self.up, strict=True))
        ):
            features = block(torch.cat([skip, widen(features)], dim=1))
        logits = self.head(features)
        return SegmentationOutput(logits, logits.new_zeros(logits.shape[:2]))

    def preprocess(self, tiles: Tensor) -> Tensor:
        """Return uint8 RGB tiles (batch, height, width, 3) normalised, (batch, 3, h, w)."""
        return (tiles.permute(0, 3, 1, 2) / 255 - self.mean) / self.std


class PlainHead(nn.Module):
    """SAM's upscaling and one convolution, in the place of the decoder with its class prompts."""

    def __init__(self, upscaling: nn.Module, channels: int, num_channels: int) -> None:
        super().__init__()
        self.upscaling = upscaling
        self.classify = nn.Conv2d(channels, num_channels, 1)

    def forward(self, embedding: Tensor, positions: Tensor) -> SegmentationOutput:
        """Return logits at four times the grid of `embedding`; `positions` change nothing."""
        logits = cast(Tensor, self.classify(self.upscaling(embedding)))
        return SegmentationOutput(logits, logits.new_zeros(logits.shape[:2]))


def without_class_prompts(spec: SamPathSpec) -> SamPath:
    """Return SAM-Path with a `PlainHead`, weights random."""
    model = SamPath(spec)
    upscaling = model.decoder.output_upscaling
    head = PlainHead(upscaling, spec.decoder.dim // 8, spec.num_channels)
    model.decoder = head  # type: ignore[assignment]
    return model


def parameters(model: nn.Module) -> int:
    """Return the number of trained weights."""
    return sum(weight.numel() for weight in model.parameters() if weight.requires_grad)


def _pair(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers += [
            nn.Conv2d(channels, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)
