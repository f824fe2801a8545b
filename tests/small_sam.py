"""SAM, MobileSAM and WSI-SAM of a size at which they cost nothing, and what they look at."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from wsi_sampath.models.checkpoints import build_model
from wsi_sampath.models.network import Prompts
from wsi_sampath.models.parse import parse_spec

VIT = {
    "embed_dim": 16,
    "depth": 3,
    "num_heads": 2,
    "global_attn_indexes": [1],
    "window_size": 3,
}
TINY_VIT = {
    "widths": [8, 8, 12, 16],
    "depths": [1, 1, 2, 1],
    "num_heads": [2, 3, 2],
    "windows": [3, 5, 3],
}
ENCODERS = {"vit": VIT, "tiny_vit": TINY_VIT}
PROMPTS = {"dim": 16, "depth": 2, "num_heads": 2, "mlp_dim": 24}


def small_values(architecture: str = "sam", encoder: str = "vit", **changes: Any) -> dict[str, Any]:
    fixed = {"name": "small", "architecture": architecture, "mpp": 1.0, "tile": 128}
    return fixed | {"sam": ENCODERS[encoder], "prompts": PROMPTS} | changes


def small_model(architecture: str = "sam", encoder: str = "vit", *, seed: int = 0, **changes: Any):
    """Build one whose every weight is random, those that begin at zero or one as well."""
    model = build_model(parse_spec(small_values(architecture, encoder, **changes)))
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                noise = torch.randn(tensor.shape, generator=rng)
                is_norm = "norm" in name or ".bn." in name
                scale = max(1, tensor[0].numel()) ** -0.5 if tensor.ndim > 1 else 0.1
                tensor.copy_(noise.abs() + 0.5 if is_norm else noise * scale)
    return model


def looks(count: int = 1, seed: int = 0, side: int = 128) -> list[Tensor]:
    """A high and a low view, normalised."""
    rng = torch.Generator().manual_seed(seed)
    return [torch.randn(count, 3, side, side, generator=rng) for _ in range(2)]


def some_prompts(count: int = 4, seed: int = 0, frame: int = 128) -> Prompts:
    """Two points, a box and a mask each."""
    rng = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, 2, generator=rng).sort(dim=1).values * frame
    return Prompts(
        torch.rand(count, 2, 2, generator=rng) * frame,
        torch.tensor([[1.0, 0.0]]).repeat(count, 1),
        corners.flatten(1),
        torch.randn(count, 1, frame // 4, frame // 4, generator=rng),
    )
