"""MobileSAM's image encoder, with the parameter names of its checkpoint and free sizes.

TinyViT (arXiv 2207.10666) as MobileSAM (arXiv 2306.14289) has it: the last stage keeps the grid of
the one before, and SAM's neck takes the place of the classifier.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from wsi_sampath.models.parts.encoders import neck
from wsi_sampath.models.parts.specs import TinyVitSpec

_EARLY_STAGE = 1


class TinyVit(nn.Module):
    """Convolutions, then attention in windows.

    Parameters
    ----------
    spec
        Sizes.
    neck_channels
        Channels of the features.
    """

    def __init__(self, spec: TinyVitSpec, neck_channels: int) -> None:
        super().__init__()
        first, *others = spec.widths
        self.patch_embed = nn.Sequential(
            OrderedDict(
                seq=nn.Sequential(
                    _conv_norm(3, first // 2, 3, stride=2),
                    nn.GELU(),
                    _conv_norm(first // 2, first, 3, stride=2),
                )
            )
        )
        self.layers = nn.ModuleList()
        for stage, (width, depth) in enumerate(zip(spec.widths, spec.depths, strict=True)):
            blocks = [_block(spec, stage) for _ in range(depth)]
            # The published grid stays at 1/16 from here on.
            after = others[stage : stage + 1]
            stride = 1 if stage == len(others) - 1 else 2
            merging = [Merging(width, wider, stride) for wider in after]
            self.layers.append(Stage(blocks, *merging))
        self.neck = neck(spec.widths[-1], neck_channels)
        self.out_channels = neck_channels

    def forward(self, images: Tensor) -> Tensor:
        """Return (batch, out_channels, tile / 16, tile / 16)."""
        return self.forward_with_early(images)[0]

    def forward_with_early(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features and those of the second stage, (batch, early_channels, ...)."""
        # A quarter faster on a CPU, since attention wants channels last, too.
        images = images.contiguous(memory_format=torch.channels_last)
        features, early = self.patch_embed(images), images
        for stage, layer in enumerate(self.layers):
            features = layer(features)
            if stage == _EARLY_STAGE:
                early = features
        return cast(Tensor, self.neck(features)), early


class Stage(nn.Module):
    """Blocks on one grid, and the step to the next."""

    def __init__(self, blocks: list[nn.Module], downsample: nn.Module | None = None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample

    def forward(self, features: Tensor) -> Tensor:
        """Return (batch, wider, h, w) of (batch, channels, h, w), perhaps at half the size."""
        for block in self.blocks:
            features = block(features)
        return features if self.downsample is None else cast(Tensor, self.downsample(features))


class Merging(nn.Module):
    """Other channels, perhaps on half the grid."""

    def __init__(self, channels: int, wider: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv_norm(channels, wider, 1)
        self.conv2 = _conv_norm(wider, wider, 3, stride=stride, groups=wider)
        self.conv3 = _conv_norm(wider, wider, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Return (batch, wider, h / stride, w / stride)."""
        features = functional.gelu(self.conv1(features))
        return cast(Tensor, self.conv3(functional.gelu(self.conv2(features))))


class ConvBlock(nn.Module):
    """An inverted bottleneck: wide, convolved channel by channel, narrow again."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.conv1 = _conv_norm(channels, hidden, 1)
        self.conv2 = _conv_norm(hidden, hidden, 3, groups=hidden)
        self.conv3 = _conv_norm(hidden, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the same shape, (batch, channels, h, w)."""
        hidden = functional.gelu(self.conv1(features))
        hidden = functional.gelu(self.conv2(hidden))
        return functional.gelu(self.conv3(hidden) + features)


class AttentionBlock(nn.Module):
    """Attention within windows, a convolution across their borders, and a hidden layer."""

    def __init__(self, channels: int, heads: int, window: int, hidden: int) -> None:
        super().__init__()
        self.window = window
        self.attn = WindowAttention(channels, heads, window)
        self.local_conv = _conv_norm(channels, channels, 3, groups=channels)
        self.mlp = nn.Sequential(
            OrderedDict(
                norm=nn.LayerNorm(channels),
                fc1=nn.Linear(channels, hidden),
                act=nn.GELU(),
                fc2=nn.Linear(hidden, channels),
            )
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the same shape, (batch, channels, h, w)."""
        tokens = features.permute(0, 2, 3, 1)
        tokens = tokens + self._attend(tokens)
        features = self.local_conv(tokens.permute(0, 3, 1, 2))
        tokens = features.permute(0, 2, 3, 1)
        answer: Tensor = tokens + self.mlp(tokens)
        return answer.permute(0, 3, 1, 2)

    def _attend(self, tokens: Tensor) -> Tensor:
        batch, height, width, channels = tokens.shape
        side = self.window
        # As published, what is missing of the last windows is zero, and is attended to.
        padded = functional.pad(tokens, (0, 0, 0, -width % side, 0, -height % side))
        rows, columns = padded.shape[1] // side, padded.shape[2] // side
        windows = padded.view(batch, rows, side, columns, side, channels).transpose(2, 3)
        answers = self.attn(windows.reshape(-1, side * side, channels))
        answers = answers.view(batch, rows, columns, side, side, channels).transpose(2, 3)
        return cast(Tensor, answers.reshape(padded.shape)[:, :height, :width])


class WindowAttention(nn.Module):
    """Multi-head attention with a learned bias for each distance in rows and columns.

    The published code keeps the biases of all pairs in a buffer, which is made when training ends
    and is stale once other weights are loaded. Here they are looked up whenever they are needed.
    """

    pairs: Tensor

    def __init__(self, channels: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.attention_biases = nn.Parameter(torch.zeros(heads, window * window))
        index = torch.arange(window * window)
        y, x = index // window, index % window
        apart = [(one[:, None] - one[None, :]).abs() for one in (y, x)]
        self.register_buffer("pairs", apart[0] * window + apart[1], persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Attend within each of (windows, tokens, channels); same shape out."""
        count, length, channels = tokens.shape
        # Head by head: its queries, its keys, its values.
        parts = self.qkv(self.norm(tokens)).view(count, length, self.heads, 3, -1)
        query, key, value = parts.permute(3, 0, 2, 1, 4).unbind(0)
        bias = self.attention_biases[:, self.pairs].to(query.dtype)
        out = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        return cast(Tensor, self.proj(out.transpose(1, 2).reshape(count, length, channels)))


def _block(spec: TinyVitSpec, stage: int) -> nn.Module:
    channels = spec.widths[stage]
    hidden = int(channels * spec.mlp_ratio)
    if stage == 0:
        return ConvBlock(channels, hidden)
    return AttentionBlock(channels, spec.num_heads[stage - 1], spec.windows[stage - 1], hidden)


def _conv_norm(
    channels: int, out: int, side: int, *, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    conv = nn.Conv2d(channels, out, side, stride, side // 2, groups=groups, bias=False)
    return nn.Sequential(OrderedDict(c=conv, bn=nn.BatchNorm2d(out)))
