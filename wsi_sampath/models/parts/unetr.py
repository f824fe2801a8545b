"""PathoSAM's decoder: features to maps sixteen times as large, with the published weights' names.

It has the form of a UNETR, but nothing comes from inside the encoder: the skips are a second
pyramid, computed from the same features as the first one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from wsi_sampath.models.parts.specs import UnetrSpec


class Upsampler(nn.Module):
    """Twice as large, with other channels."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out_channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Return (batch, out_channels, 2 h, 2 w)."""
        # The published order is the other one, which is the same and costs four times as much:
        # weights of a bilinear mean add up to 1.
        return functional.interpolate(
            self.conv(features), scale_factor=2, mode="bilinear", align_corners=False
        )


class _Padded(nn.Module):
    """A 3x3 convolution under its published name."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        return cast(Tensor, self.block(features))


class TileNorm(nn.BatchNorm2d):
    """A batch norm that knows nothing but the tile before it.

    The published programs never leave training mode, so that tiles of one batch depend on each
    other; this is what they compute for a batch of one.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Normalise every channel of every tile by its own mean and variance."""
        return functional.instance_norm(
            features, weight=self.weight, bias=self.bias, use_input_stats=True, eps=self.eps
        )


class _Skip(nn.Module):
    """One step of the second pyramid."""

    def __init__(self, channels: int, out_channels: int, norm: type[nn.BatchNorm2d]) -> None:
        super().__init__()
        self.block = nn.Sequential(
            Upsampler(channels, out_channels),
            _Padded(out_channels),
            norm(out_channels),
            nn.ReLU(inplace=True),
        )

    def forward(self, features: Tensor) -> Tensor:
        return cast(Tensor, self.block(features))


class _Convolutions(nn.Module):
    """Two convolutions, each after an instance norm."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.InstanceNorm2d(channels),
            nn.Conv2d(channels, out_channels, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.InstanceNorm2d(out_channels),
            nn.Conv2d(out_channels, out_channels, 3, padding=1),
            nn.ReLU(inplace=True),
        )

    def forward(self, features: Tensor) -> Tensor:
        return cast(Tensor, self.block(features))


class _Pyramid(nn.Module):
    """The first pyramid, which takes the other one in at every level."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        steps = list(zip(widths, widths[1:], strict=False))
        self.samplers = nn.ModuleList([Upsampler(wide, narrow) for wide, narrow in steps])
        self.blocks = nn.ModuleList([_Convolutions(2 * narrow, narrow) for _, narrow in steps])

    def forward(self, features: Tensor, skips: Sequence[Tensor]) -> Tensor:
        for sampler, block, skip in zip(self.samplers, self.blocks, skips, strict=True):
            features = sampler(features)
            features = block(torch.cat([features, _middle(skip, features.shape[1])], dim=1))
        return features


class Unetr(nn.Module):
    """The decoder.

    Parameters
    ----------
    spec
        Sizes.
    in_channels
        Channels after SAM's neck.
    out_channels
        How many maps.
    cropped_skips
        Skips of twice the channels, of which the middle half is read, as in the published weights.
    batch_statistics
        Norms by what is in each tile, see `TileNorm`.
    """

    def __init__(
        self,
        spec: UnetrSpec,
        in_channels: int,
        out_channels: int,
        *,
        cropped_skips: bool = False,
        batch_statistics: bool = False,
    ) -> None:
        super().__init__()
        widths, last = spec.widths, spec.widths[-1]
        norm = TileNorm if batch_statistics else nn.BatchNorm2d
        first, second, third, fourth = widths if cropped_skips else (*widths[1:], last)
        self.deconv1 = _Skip(in_channels, first, norm)
        self.deconv2 = _Skip(first, second, norm)
        self.deconv3 = _Skip(second, third, norm)
        self.deconv4 = _Skip(third, fourth, norm)
        self.base = _Convolutions(in_channels, widths[0])
        self.decoder = _Pyramid(widths)
        self.deconv_out = Upsampler(last, last)
        self.decoder_head = _Convolutions(2 * last, last)
        self.out_conv = nn.Conv2d(last, out_channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits of all maps.

        Parameters
        ----------
        features
            (batch, in_channels, h, w), after SAM's neck.

        Returns
        -------
        Tensor
            (batch, out_channels, 16 h, 16 w).
        """
        skips = []
        skip = features
        for step in (self.deconv1, self.deconv2, self.deconv3, self.deconv4):
            skip = step(skip)
            skips.append(skip)
        decoded = self.deconv_out(self.decoder(self.base(features), skips[:-1]))
        return cast(Tensor, self.out_conv(self.decoder_head(torch.cat([decoded, skip], dim=1))))


def _middle(features: Tensor, channels: int) -> Tensor:
    start = (features.shape[1] - channels) // 2
    return features[:, start : start + channels]
