"""The loss of SAM-Path: Dice, focal and the error of the predicted IoU.

Targets hold 0 where a pixel is not labelled and 1..k for the classes; logits have k + 1 channels,
of which channel 0 belongs to the unlabelled pixels and is never scored.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from wsi_sampath.settings import Frozen, Help

_DICE_SMOOTH = 1e-5
_IOU_EPSILON = 1e-7
_FOCUS = 2
_HARD = 0.5
_Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class LossWeights(Frozen):
    """Coefficients of the parts; the defaults are the paper's for BCSS."""

    focal: Annotated[_Weight, Help("Weight of the focal loss.")] = 0.25
    dice: Annotated[_Weight, Help("Weight of the Dice loss.")] = 0.75
    cross_entropy: Annotated[_Weight, Help("Weight of the cross entropy.")] = 0.0
    iou: Annotated[_Weight, Help("Weight of the error of the predicted IoU.")] = 0.0625


class LossParts(NamedTuple):
    """The weighted sum and its parts, each a scalar."""

    total: Tensor
    focal: Tensor
    dice: Tensor
    cross_entropy: Tensor
    iou: Tensor


def segmentation_loss(
    logits: Tensor,
    target: Tensor,
    iou: Tensor,
    weights: LossWeights | None = None,
    *,
    paper_compatible: bool = False,
) -> LossParts:
    """Score a batch.

    Parameters
    ----------
    logits
        (batch, k + 1, height, width), float.
    target
        (batch, height, width), integer, 0 = not labelled.
    iou
        (batch, k + 1), the predicted IoU of every channel.
    weights
        Coefficients of the parts.
    paper_compatible
        Reproduce the published code, where unlabelled pixels still count: their logits are set to
        zero before the softmax. Otherwise they count nowhere.

    Returns
    -------
    LossParts
        Finite also for a batch without any labelled pixel.
    """
    weights = weights or LossWeights()
    target = target.long()
    labelled = (target > 0).unsqueeze(1)
    truth = functional.one_hot(target, logits.shape[1]).movedim(-1, 1)[:, 1:].to(logits.dtype)
    if paper_compatible:
        logits = logits * labelled
        scored = torch.ones_like(labelled)
    else:
        scored = labelled
    probability = logits.softmax(dim=1)[:, 1:] * scored
    parts = {
        "focal": focal_loss(logits[:, 1:], truth, scored),
        "dice": dice_loss(probability, truth),
        "cross_entropy": cross_entropy(logits, target),
        "iou": iou_error(probability, truth, iou[:, 1:]),
    }
    total = torch.stack([getattr(weights, name) * part for name, part in parts.items()]).sum()
    return LossParts(total, **parts)


def dice_loss(probability: Tensor, truth: Tensor) -> Tensor:
    """Return 1 - Dice, mean over images and classes; both (batch, k, height, width)."""
    overlap = (probability * truth).sum(dim=(2, 3))
    mass = probability.sum(dim=(2, 3)) + truth.sum(dim=(2, 3))
    return (1 - (2 * overlap + _DICE_SMOOTH) / (mass + _DICE_SMOOTH)).mean()


def focal_loss(logits: Tensor, truth: Tensor, scored: Tensor) -> Tensor:
    """Return the sigmoid focal loss (gamma 2), mean over classes and scored pixels."""
    entropy = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    miss = (logits.sigmoid() - truth).abs()
    weighted = miss**_FOCUS * entropy * scored
    return weighted.sum() / (scored.sum().clamp(min=1) * logits.shape[1])


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Return the cross entropy, mean over labelled pixels; 0 if there is none."""
    total = functional.cross_entropy(logits, target, ignore_index=0, reduction="sum")
    return total / (target > 0).sum().clamp(min=1)


def iou_error(probability: Tensor, truth: Tensor, predicted: Tensor) -> Tensor:
    """Return the mean squared error of the predicted IoU; no gradient reaches the masks."""
    with torch.no_grad():
        hard = (probability >= _HARD).to(truth.dtype)
        overlap = (hard * truth).sum(dim=(2, 3))
        union = hard.sum(dim=(2, 3)) + truth.sum(dim=(2, 3)) - overlap
        actual = overlap / (union + _IOU_EPSILON)
    return functional.mse_loss(predicted, actual)
