"""Rough outlines as prompts: what a quick hand draws around a nucleus, for training."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from wsi_sampath.evaluation.prompting import chosen_objects
from wsi_sampath.inference.prompting.questions import SURE
from wsi_sampath.models.network import Prompts
from wsi_sampath.models.patho_sam.network import PathoSam
from wsi_sampath.training.nuclei.joint import answers_loss, in_frame

SHAKEN = 0.1
"""Shift along each axis, stretch and bending, each a standard deviation as a share of the size."""
_BENDS = 5


def outline_loss(
    model: PathoSam,
    embedding: Tensor,
    instances: Tensor,
    objects: int,
    generator: torch.Generator,
) -> Tensor | None:
    """Return the mean loss of the answers to rough outlines, each given as box and mask.

    Parameters
    ----------
    model
        In training mode.
    embedding
        Of the encoder, (batch, channels, grid, grid).
    instances
        (batch, tile, tile) integers, 0 outside of nuclei.
    objects
        How many of an image, at most.
    generator
        Of all random choices.

    Returns
    -------
    Tensor or None
        None where no image of the batch holds a nucleus.
    """
    frame = model.spec.frame
    px = frame // model.spec.mask_side
    losses = []
    for features, labels in zip(embedding, in_frame(instances, frame), strict=True):
        truth = chosen_objects(labels, objects, generator)
        if not len(truth):
            continue
        share = rough_shares(truth, px, generator)
        drawn = (share > 0.5).flatten(1).any(dim=1)
        if drawn.any():
            prompts = outline_prompts(share[drawn], px)
            answer = model.sam.masks((features[None],), prompts, multimask=False)
            losses.append(answers_loss([answer], truth[drawn]))
    return torch.stack(losses).mean() if losses else None


def rough_shares(truth: Tensor, px: int, generator: torch.Generator) -> Tensor:
    """Return masks as drawn in a hurry: how much of each pixel of the mask prompt is inside.

    Parameters
    ----------
    truth
        bool (n, side, side).
    px
        Pixels of the frame along one of the mask prompt.
    generator
        Of the choices.

    Returns
    -------
    Tensor
        float32 (n, side / px, side / px) in 0..1.
    """
    count, side = len(truth), truth.shape[-1]
    masks = truth.float()
    areas = masks.sum(dim=(1, 2))
    # In the units of grid_sample, in which an image is 2 wide.
    size = (2 * areas.sqrt() / side)[:, None, None, None]
    place = torch.linspace(-1, 1, side)
    weight = masks / areas[:, None, None]
    middle = torch.stack(
        [(weight.sum(dim=1) * place).sum(1), (weight.sum(dim=2) * place).sum(1)], 1
    )

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator) * SHAKEN

    grid = functional.affine_grid(
        torch.eye(2, 3).expand(count, 2, 3), [count, 1, side, side], align_corners=False
    )
    away = grid - middle[:, None, None]
    bent = functional.interpolate(
        random(count, 2, _BENDS * 4, _BENDS * 4), size=(side, side), mode="bicubic"
    ).permute(0, 2, 3, 1)
    stretched = away * (1 + random(count, 1, 1, 2)) + (random(count, 1, 1, 2) / 2 + bent) * size
    moved = stretched + middle[:, None, None]
    drawn = functional.grid_sample(masks[:, None], moved, align_corners=False)
    return functional.avg_pool2d((drawn > 0.5).float(), px)[:, 0]


def outline_prompts(share: Tensor, px: int) -> Prompts:
    """Return rough masks (n, side / px, side / px), none of them empty, as boxes and masks."""
    inside = share > 0.5
    spans = []
    for line in (inside.any(dim=1), inside.any(dim=2)):
        first = line.float().argmax(dim=1)
        last = line.shape[1] - line.flip(1).float().argmax(dim=1)
        spans.append((first * px, last * px))
    (x0, x1), (y0, y1) = spans
    boxes = torch.stack([x0, y0, x1, y1], dim=1).float()
    return Prompts(boxes=boxes, masks=torch.logit(share, eps=SURE)[:, None])
