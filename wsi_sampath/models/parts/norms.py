"""SAM's layer norm over channels, safe in half precision."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from wsi_sampath.models.parts.sam_parts import LayerNorm2d

_HALF = (torch.float16, torch.bfloat16)


class ChannelNorm(LayerNorm2d):  # type: ignore[misc]
    """The published layer norm, with its parameter names, never computed in half precision.

    It squares its input, which overflows in float16: the known reason why SAM fails there.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Normalise (batch, channels, h, w) over the channels; same dtype out."""
        exact = features.float() if features.dtype in _HALF else features
        with torch.autocast(features.device.type, enabled=False):
            return cast(Tensor, super().forward(exact)).to(features.dtype)


def with_safe_norms(module: nn.Module) -> None:
    """Replace every published channel norm inside `module` by a `ChannelNorm` of its weights."""
    for part in list(module.modules()):
        for name, child in part.named_children():
            if type(child) is LayerNorm2d:
                setattr(part, name, _safe(child))


def _safe(norm: nn.Module) -> ChannelNorm:
    safe = ChannelNorm(len(cast(Tensor, norm.weight)), cast(float, norm.eps))
    safe.weight, safe.bias = norm.weight, norm.bias
    return safe
