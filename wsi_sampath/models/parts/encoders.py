"""Image encoders, each as "image -> dense feature map".

Every encoder takes (batch, 3, tile, tile) float images in the model's normalisation and returns
(batch, out_channels, h, w); whatever normalisation or size it needs itself, it sees to.
"""

from __future__ import annotations

from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from wsi_sampath.models.limits import Triple
from wsi_sampath.models.parts.attention import RelPosAttention
from wsi_sampath.models.parts.colours import by_channel
from wsi_sampath.models.parts.norms import ChannelNorm
from wsi_sampath.models.parts.resnet import RESNET18, STRIDES, ResNet18Encoder
from wsi_sampath.models.parts.sam_parts import ImageEncoderViT
from wsi_sampath.models.parts.specs import (
    HIPT_VIT,
    TIMM_PREFIX,
    PathologySpec,
    SamSpec,
    VitSpec,
    nearest_multiple,
)
from wsi_sampath.models.parts.timm_encoders import TimmEncoder, on_grid, timm_encoder
from wsi_sampath.models.parts.torchvision_shim import ensure_torchvision_imports
from wsi_sampath.models.spec import ModelSpec

_layer_norm = partial(nn.LayerNorm, eps=1e-6)
"""Both published encoders have this epsilon, which is not torch's default."""


def neck(in_channels: int, out_channels: int) -> nn.Sequential:
    """Return SAM's neck: 1x1 and 3x3 convolution, each followed by a layer norm over channels."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1, bias=False),
        ChannelNorm(out_channels),
        nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
        ChannelNorm(out_channels),
    )


class SamEncoder(nn.Module):
    """SAM's image encoder, with parameter names of its checkpoint, fused attention and free sizes.

    Parameters
    ----------
    spec
        Sizes.
    tile
        Side of the input, px.
    neck_channels
        Channels after SAM's own neck; None leaves the neck away.
    """

    def __init__(self, spec: SamSpec, tile: int, neck_channels: int | None = None) -> None:
        super().__init__()
        encoder = ImageEncoderViT(
            img_size=tile,
            patch_size=spec.patch,
            embed_dim=spec.embed_dim,
            depth=spec.depth,
            num_heads=spec.num_heads,
            mlp_ratio=spec.mlp_ratio,
            out_chans=1,
            norm_layer=_layer_norm,
            use_abs_pos=spec.absolute_positions,
            window_size=spec.window_size,
            global_attn_indexes=spec.global_attn_indexes,
        )
        grid = tile // spec.patch
        for block in encoder.blocks:
            size = block.window_size or grid
            block.attn = RelPosAttention(spec.embed_dim, spec.num_heads, size)
        self.patch_embed = encoder.patch_embed
        self.pos_embed = encoder.pos_embed
        self.blocks = encoder.blocks
        self.neck = neck(spec.embed_dim, neck_channels) if neck_channels else None
        self.out_channels = neck_channels or spec.embed_dim

    def forward(self, images: Tensor) -> Tensor:
        """Return (batch, out_channels, tile / patch, tile / patch)."""
        return self.forward_with_early(images)[0]

    def forward_with_early(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features and those after the first block that attends across the tile.

        The latter are (batch, early_channels, tile / patch, tile / patch), of the last block where
        all of them attend in windows.
        """
        tokens = self.patch_embed(images)
        if self.pos_embed is not None:
            tokens = tokens + self.pos_embed
        early = None
        for block in self.blocks:
            tokens = block(tokens)
            if early is None and block.window_size == 0:
                early = tokens
        features = tokens.permute(0, 3, 1, 2)
        early = features if early is None else early.permute(0, 3, 1, 2)
        return features if self.neck is None else cast(Tensor, self.neck(features)), early


class Renormalise(nn.Module):
    """Turn images in one normalisation into another one."""

    factor: Tensor
    offset: Tensor

    def __init__(self, of: tuple[Triple, Triple], to: tuple[Triple, Triple]) -> None:
        super().__init__()
        (mean, std), (new_mean, new_std) = of, to
        # Not by tensors: on the meta device, torch imports its compiler to divide them.
        factor = [old / new for old, new in zip(std, new_std, strict=True)]
        offset = [
            (old - new) / scale for old, new, scale in zip(mean, new_mean, new_std, strict=True)
        ]
        self.register_buffer("factor", by_channel(factor), persistent=False)
        self.register_buffer("offset", by_channel(offset), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return the images in the other normalisation, same shape."""
        return images * self.factor + self.offset


class VitEncoder(nn.Module):
    """A plain ViT's patch tokens after the final norm, parameter names as in DINO's checkpoints.

    The position table is resized to the input's grid the way DINO does it (bicubic, with the scale
    factor of a grid one tenth larger), since published features depend on it.
    """

    _DINO_EXTRA = 0.1

    def __init__(self, spec: VitSpec) -> None:
        ensure_torchvision_imports()
        from timm.models.vision_transformer import VisionTransformer

        super().__init__()
        self.vit = VisionTransformer(
            img_size=spec.position_grid * spec.patch,
            patch_size=spec.patch,
            embed_dim=spec.embed_dim,
            depth=spec.depth,
            num_heads=spec.num_heads,
            mlp_ratio=spec.mlp_ratio,
            num_classes=0,
            norm_layer=_layer_norm,
        )
        self.vit.patch_embed.strict_img_size = False
        self.patch = spec.patch
        self.position_grid = spec.position_grid
        self.out_channels = spec.embed_dim

    def forward(self, images: Tensor) -> Tensor:
        """Return (batch, embed_dim, height / patch, width / patch)."""
        height, width = (side // self.patch for side in images.shape[-2:])
        tokens = self.vit.norm(self.vit.blocks(self.embed(images)))
        return on_grid(tokens[:, 1:], height, width)

    def embed(self, images: Tensor) -> Tensor:
        """Return the class token and the patch tokens with positions, (batch, 1 + h w, dim)."""
        height, width = (side // self.patch for side in images.shape[-2:])
        patches = self.vit.patch_embed(images)
        start = self.vit.cls_token.expand(images.shape[0], -1, -1)
        return torch.cat([start, patches], dim=1) + self.positions(height, width)

    def positions(self, height: int, width: int) -> Tensor:
        """Return the position table for a grid of patches, (1, 1 + height width, dim)."""
        table = cast(Tensor, self.vit.pos_embed)
        base = self.position_grid
        if (height, width) == (base, base):
            return table
        grid = on_grid(table[:, 1:], base, base)
        factor = tuple((side + self._DINO_EXTRA) / base for side in (height, width))
        grid = functional.interpolate(grid, scale_factor=factor, mode="bicubic")
        return torch.cat([table[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)


class PathologyEncoder(nn.Module):
    """A pathology encoder on the decoder's grid.

    The image is re-normalised, resized where its side is not a multiple of the encoder's stride,
    and the features are resampled where their grid is not the decoder's.
    """

    def __init__(self, spec: PathologySpec, model: ModelSpec) -> None:
        super().__init__()
        self.renormalise = Renormalise((model.mean, model.std), (spec.mean, spec.std))
        self.encoder = _pathology_network(spec, model.tile)
        self.side = nearest_multiple(model.tile, self.encoder.patch)
        self.grid = model.grid
        self.out_channels = self.encoder.out_channels

    def forward(self, images: Tensor) -> Tensor:
        """Return (batch, out_channels, grid, grid)."""
        images = resized(self.renormalise(images), self.side)
        return resized(self.encoder(images), self.grid)


def _pathology_network(
    spec: PathologySpec, tile: int
) -> VitEncoder | ResNet18Encoder | TimmEncoder:
    if isinstance(spec.encoder, VitSpec):
        return VitEncoder(spec.encoder)
    if spec.encoder == "hipt_vits16":
        return VitEncoder(HIPT_VIT)
    name = spec.encoder.removeprefix(TIMM_PREFIX)
    if name == RESNET18 and spec.stride in STRIDES and not spec.options:
        return ResNet18Encoder(spec.stride)
    return timm_encoder(name, stride=spec.stride, tile=tile, options=spec.options)


def resized(images: Tensor, side: int) -> Tensor:
    """Return the images resized bilinearly to side x side; untouched if they have that size."""
    if images.shape[-2:] == (side, side):
        return images
    return functional.interpolate(images, size=(side, side), mode="bilinear", align_corners=False)
