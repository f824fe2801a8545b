"""Prompts drawn from true masks: shaken boxes, points in them, and masks that are a little wrong.

Those of the published training and evaluation of WSI-SAM (Liu et al. 2024, PMLR 254:25-37), with
the noise of HQ-SAM (Ke et al. 2023).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from wsi_sampath.evaluation.prompting import noisy_boxes, random_points

SHIFT, RESIZE = 0.1, 0.2
"""Largest shift of a box's centre and largest change of its size, as shares of its size."""
SURE = 10.0
"""Logits of a mask that is given as a prompt: of it inside, and of minus it outside."""

_COARSER = 8
"""Detail that is lost at so many times fewer pixels is where a mask may be wrong."""
_LOST = 0.01
_INSIDE = 0.5


def shaken_boxes(
    masks: Tensor, generator: torch.Generator, *, shift: float = SHIFT, resize: float = RESIZE
) -> Tensor:
    """Return the boxes of masks, (n, 4) x0, y0, x1, y1, moved and resized at random.

    Parameters
    ----------
    masks
        bool (n, height, width), none of them empty.
    generator
        Of all random choices, on the CPU.
    shift, resize
        See `SHIFT`.

    Returns
    -------
    Tensor
        Within the image; at least a pixel wide and high.
    """
    height, width = masks.shape[-2:]
    limits = torch.tensor([width, height], device=masks.device)
    tight = noisy_boxes(masks, 0.0, generator)
    size = tight[:, 2:] - tight[:, :2]
    share = torch.rand(len(masks), 2, 2, generator=generator).to(masks.device) * 2 - 1
    centre = (tight[:, :2] + tight[:, 2:]) / 2 + share[:, 0] * shift * size
    half = size * (1 + share[:, 1] * resize) / 2
    low = torch.minimum((centre - half).clamp(min=0), limits - 1)
    high = torch.maximum(torch.minimum(centre + half, limits), low + 1)
    return torch.cat([low, high], dim=1)


def scattered_points(masks: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return `count` random pixels of each mask, (n, count, 2), x before y; some may be the same.

    Parameters
    ----------
    masks
        bool (n, height, width), none of them empty.
    """
    return torch.stack([random_points(masks, generator) for _ in range(count)], dim=1)


def degraded_masks(masks: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """Return masks as prompts, logits (n, 1, side, side): wrong here and there, at their edges.

    Parameters
    ----------
    masks
        bool (n, height, width).
    side
        Of a mask prompt, px.
    generator
        Of the noise, on the CPU.
    """
    small = functional.interpolate(masks[:, None].float(), (side, side), mode="bilinear")
    coarse = functional.interpolate(small, scale_factor=1 / _COARSER, mode="bilinear")
    again = functional.interpolate(coarse, (side, side), mode="bilinear")
    uncertain = (small - again).abs() >= _LOST
    noise = torch.randn(small.shape, generator=generator).to(masks.device)
    inside = torch.where(uncertain, small + noise, small) > _INSIDE
    return torch.where(inside, SURE, -SURE)
