"""Sizes of the parts that networks are put together from, in data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, field_validator, model_validator

from wsi_sampath.models.limits import (
    MAX_GRID,
    MAX_NAME,
    Channels,
    Depth,
    PatchSide,
    Positive,
    Ratio,
    Std,
    Triple,
    wrong_option,
)
from wsi_sampath.settings import Frozen, Help

SAM_SIZES: dict[str, dict[str, Any]] = {
    "vit_b": {
        "embed_dim": 768,
        "depth": 12,
        "num_heads": 12,
        "global_attn_indexes": (2, 5, 8, 11),
    },
    "vit_l": {
        "embed_dim": 1024,
        "depth": 24,
        "num_heads": 16,
        "global_attn_indexes": (5, 11, 17, 23),
    },
    "vit_h": {
        "embed_dim": 1280,
        "depth": 32,
        "num_heads": 16,
        "global_attn_indexes": (7, 15, 23, 31),
    },
}
TIMM_PREFIX = "timm:"
Window = Annotated[Positive, Field(le=MAX_GRID)]


def _check_heads(channels: int, heads: int) -> None:
    if channels % heads:
        raise ValueError("embed_dim must be a multiple of num_heads")


class SamSpec(Frozen):
    """Sizes of a SAM image encoder; the YAML may say ``vit_b``, ``vit_l`` or ``vit_h`` instead."""

    embed_dim: Annotated[Channels, Help("Channels.")]
    depth: Annotated[Depth, Help("Blocks.")]
    num_heads: Annotated[Channels, Help("Attention heads, a divisor of embed_dim.")]
    global_attn_indexes: Annotated[
        tuple[int, ...], Help("Blocks, from 0, that attend across the tile.")
    ]
    window_size: Annotated[
        int,
        Field(ge=0, le=MAX_GRID),
        Help("Side of the windows, in patches, in which the others attend; 0: across the tile."),
    ] = 14
    patch: Annotated[PatchSide, Help("Side of a patch, px.")] = 16
    mlp_ratio: Annotated[Ratio, Help("Hidden channels of a block by embed_dim.")] = 4.0
    absolute_positions: Annotated[
        bool, Help("Learned positions; a model without them can be trained on with another tile.")
    ] = True

    @model_validator(mode="before")
    @classmethod
    def _expand_size(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        if value not in SAM_SIZES:
            raise ValueError(f"SAM size '{value}' is not one of {', '.join(SAM_SIZES)}")
        return SAM_SIZES[value]

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_heads(self.embed_dim, self.num_heads)
        if any(not 0 <= index < self.depth for index in self.global_attn_indexes):
            raise ValueError(f"global_attn_indexes must lie in 0..{self.depth - 1}")
        return self

    @property
    def early_channels(self) -> int:
        """Channels of what the first block says that attends across the tile."""
        return self.embed_dim


TINY_VIT = "vit_tiny"
_TINY_SIZES: dict[str, Any] = {
    "widths": (64, 128, 160, 320),
    "depths": (2, 2, 6, 2),
    "num_heads": (4, 5, 10),
    "windows": (7, 14, 7),
}


class TinyVitSpec(Frozen):
    """Sizes of MobileSAM's TinyViT; the YAML may say ``vit_tiny`` instead."""

    patch: ClassVar[int] = 16

    widths: Annotated[
        tuple[Channels, Channels, Channels, Channels],
        Help("MobileSAM: channels of its stages, at 1/4, 1/8, 1/16 and 1/16 of the input."),
    ]
    depths: Annotated[
        tuple[Depth, Depth, Depth, Depth], Help("MobileSAM: blocks of its four stages.")
    ]
    num_heads: Annotated[
        tuple[Channels, Channels, Channels],
        Help("MobileSAM: heads of the last three stages, which attend."),
    ]
    windows: Annotated[
        tuple[Window, Window, Window], Help("MobileSAM: side of their windows, in tokens.")
    ] = (7, 14, 7)
    mlp_ratio: Annotated[Ratio, Help("MobileSAM: hidden channels by channels.")] = 4.0

    @model_validator(mode="before")
    @classmethod
    def _expand_size(cls, value: object) -> object:
        return _TINY_SIZES if value == TINY_VIT else value

    @model_validator(mode="after")
    def _check(self) -> Self:
        for width, heads in zip(self.widths[1:], self.num_heads, strict=True):
            if width % heads:
                raise ValueError("widths must be multiples of num_heads")
        return self

    @property
    def early_channels(self) -> int:
        """Channels of what the second stage says."""
        return self.widths[2]


def _known_size(value: object) -> object:
    if isinstance(value, str) and value not in (*SAM_SIZES, TINY_VIT):
        known = ", ".join([*SAM_SIZES, TINY_VIT])
        raise ValueError(f"SAM size '{value[:MAX_NAME]}' is not one of {known}")
    return value


def _encoder_kind(value: object) -> str:
    tiny = isinstance(value, TinyVitSpec) or (isinstance(value, Mapping) and "widths" in value)
    return TinyVitSpec.__name__ if tiny or value == TINY_VIT else SamSpec.__name__


EncoderSpec = Annotated[
    Annotated[SamSpec, Tag(SamSpec.__name__)] | Annotated[TinyVitSpec, Tag(TinyVitSpec.__name__)],
    Discriminator(_encoder_kind),
    BeforeValidator(_known_size),
]
"""Sizes of either image encoder that SAM comes with."""


class DecoderSpec(Frozen):
    """Sizes of the two-way mask decoder; the defaults are SAM's."""

    dim: Annotated[Channels, Field(multiple_of=8), Help("Channels, a multiple of 8.")] = 256
    depth: Annotated[Depth, Help("Blocks.")] = 2
    num_heads: Annotated[Channels, Help("Attention heads, a divisor of half of dim.")] = 8
    mlp_dim: Annotated[Channels, Help("Hidden channels of a block.")] = 2048

    @model_validator(mode="after")
    def _check(self) -> Self:
        # SAM's decoder attends across in half of its channels.
        if self.dim // 2 % self.num_heads:
            raise ValueError("half of dim must be a multiple of num_heads")
        return self


class VitSpec(Frozen):
    """Sizes of a plain vision transformer with one class token and learned positions."""

    embed_dim: Annotated[Channels, Help("Channels.")]
    depth: Annotated[Depth, Help("Blocks.")]
    num_heads: Annotated[Channels, Help("Attention heads, a divisor of embed_dim.")]
    patch: Annotated[PatchSide, Help("Side of a patch, px.")] = 16
    mlp_ratio: Annotated[Ratio, Help("Hidden channels of a block by embed_dim.")] = 4.0
    position_grid: Annotated[
        Positive, Field(le=MAX_GRID), Help("Side of the grid of learned positions, in patches.")
    ] = 14

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_heads(self.embed_dim, self.num_heads)
        return self


HIPT_VIT = VitSpec(embed_dim=384, depth=12, num_heads=6)


class UnetrSpec(Frozen):
    """Sizes of PathoSAM's decoder: channels on SAM's grid, and at 2, 4 and 8 times its size."""

    widths: Annotated[
        tuple[Channels, Channels, Channels, Channels],
        Help("Channels on SAM's grid, and at 2, 4 and 8 times its size."),
    ] = (512, 256, 128, 64)


Option = int | float | str | bool | tuple[int, ...]


class PathologySpec(Frozen):
    """The second encoder: ``hipt_vits16``, ``timm:NAME`` or explicit ViT sizes."""

    encoder: Annotated[
        str | VitSpec,
        Help("hipt_vits16, timm:NAME, or the sizes of a plain vision transformer."),
    ] = "hipt_vits16"
    mean: Annotated[Triple, Help("Mean of RGB in 0..1 that this encoder was trained with.")] = (
        0.5,
        0.5,
        0.5,
    )
    std: Annotated[Std, Help("Deviation of RGB in 0..1 that this encoder was trained with.")] = (
        0.5,
        0.5,
        0.5,
    )
    stride: Annotated[
        PatchSide,
        Help(
            "Input px a feature: picks the stage of a convolutional timm model; a vision "
            "transformer has that of its patches."
        ),
    ] = 16
    options: Annotated[
        dict[str, Option],
        Help("What timm.create_model is given besides, but nothing that fetches or names files."),
    ] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _expand_name(cls, value: object) -> object:
        return {"encoder": value} if isinstance(value, str) else value

    @field_validator("encoder")
    @classmethod
    def _known(cls, value: str | VitSpec) -> str | VitSpec:
        if isinstance(value, str) and len(value) > MAX_NAME:
            raise ValueError(f"is a name of more than {MAX_NAME} characters")
        if isinstance(value, str) and value != "hipt_vits16" and not value.startswith(TIMM_PREFIX):
            raise ValueError(f"'{value[:MAX_NAME]}' is neither hipt_vits16 nor {TIMM_PREFIX}NAME")
        return value

    @field_validator("options")
    @classmethod
    def _harmless(cls, value: dict[str, Option]) -> dict[str, Option]:
        for name, option in value.items():
            wrong = wrong_option(name, option)
            if wrong:
                raise ValueError(wrong)
        return value


def nearest_multiple(value: int, unit: int) -> int:
    """Return the positive multiple of `unit` nearest to `value` (the lower one on a tie)."""
    return max(1, math.ceil(value / unit - 0.5)) * unit
