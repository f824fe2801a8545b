"""How well prompts are answered: four kinds of them in turn, as published."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from wsi_sampath.evaluation.prompting import chosen_objects, noisy_boxes, random_points
from wsi_sampath.models.network import Prompts
from wsi_sampath.models.patho_sam.network import PathoSam
from wsi_sampath.training.nuclei.losses import soft_dice_loss

_MOST = 4
"""Of positive and of negative points."""
_NEAR_PX = 10
"""Negative points are this near to the object where there is room."""


class PromptKind(NamedTuple):
    """Whether there is a box, and whether there are several points or one."""

    box: bool
    points: bool


PROMPT_KINDS = (
    PromptKind(box=False, points=False),
    PromptKind(box=True, points=False),
    PromptKind(box=False, points=True),
    PromptKind(box=True, points=True),
)
"""One point; a box; 1 to 4 points inside and 0 to 4 outside; both."""


def validation_dice(
    model: PathoSam,
    features: Tensor,
    instances: Tensor,
    most: int,
    generator: torch.Generator,
    *,
    kind: PromptKind,
) -> float | None:
    """Return the mean Dice loss of the best candidates for the objects of one image.

    Parameters
    ----------
    model
        In evaluation mode.
    features
        Of the encoder, (1, channels, grid, grid).
    instances
        (height, width) integers, at the size of the tile; 0 outside of nuclei.
    most
        How many objects are asked for.
    generator
        Of all random choices, on the CPU.
    kind
        Of the prompts.

    Returns
    -------
    float or None
        None where there is no object.
    """
    frame = model.spec.frame
    enlarged = functional.interpolate(instances[None, None].float(), size=(frame, frame))
    truth = chosen_objects(enlarged[0, 0].long(), most, generator)
    if not len(truth):
        return None
    prompts = prompts_of(truth, generator, kind)
    logits, _ = model.sam.masks((features,), prompts, multimask=kind == PROMPT_KINDS[0])
    size = truth.shape[-2:]
    masks = functional.interpolate(logits, size=size, mode="bilinear", align_corners=False)
    return float(soft_dice_loss(masks.sigmoid(), truth[:, None].float()).amin(dim=1).mean())


def prompts_of(truth: Tensor, generator: torch.Generator, kind: PromptKind) -> Prompts:
    """Return prompts for objects, (n, side, side) bool; the same number of points for each."""
    boxes = noisy_boxes(truth, 0.0, generator) if kind.box else None
    if kind.box and not kind.points:
        return Prompts(boxes=boxes)
    inside, outside = 1, 0
    if kind.points:
        inside = int(torch.randint(1, _MOST + 1, (), generator=generator))
        outside = int(torch.randint(0, _MOST + 1, (), generator=generator))
    around = _around(truth)
    points = [random_points(truth, generator) for _ in range(inside)]
    points += [random_points(around, generator) for _ in range(outside)]
    labels = torch.tensor([1.0] * inside + [0.0] * outside, device=truth.device)
    return Prompts(torch.stack(points, dim=1), labels.expand(len(truth), -1), boxes)


def _around(truth: Tensor) -> Tensor:
    """Return what is near each object but not of it."""
    side = 2 * _NEAR_PX + 1
    grown = functional.max_pool2d(truth[:, None].float(), side, 1, _NEAR_PX)[:, 0] > 0
    near = grown & ~truth
    # An object that fills the frame has nothing around it; its own pixels then stand in.
    full = truth.flatten(1).all(dim=1)[:, None, None]
    return near | full
