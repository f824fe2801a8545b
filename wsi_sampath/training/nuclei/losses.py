"""The losses of the published training of PathoSAM: of the nucleus maps, and of answered prompts.

Griebel et al. 2025, PathoSAM; Archit et al. 2025, micro-sam (as in torch-em and micro-sam).
"""

from __future__ import annotations

import torch
from torch import Tensor

_TINY = 1e-7


def soft_dice_loss(probability: Tensor, truth: Tensor) -> Tensor:
    """Return 1 - 2 sum(pq) / (sum p^2 + sum q^2), taken over the last two axes, and over no other.

    Parameters
    ----------
    probability, truth
        (..., height, width) in 0..1.

    Returns
    -------
    Tensor
        (...).
    """
    common = (probability * truth).sum(dim=(-2, -1))
    both = (probability.square() + truth.square()).sum(dim=(-2, -1))
    return 1 - 2 * common / both.clamp(min=_TINY)


def nucleus_map_loss(probability: Tensor, target: Tensor) -> Tensor:
    """Return the loss of the three nucleus maps: each as one whole over the batch.

    Parameters
    ----------
    probability
        (batch, 3, height, width), after the sigmoid, in the order of `NUCLEUS_MAPS`.
    target
        The same of the labels, from `nucleus_targets`. Distances count inside of nuclei only.

    Returns
    -------
    Tensor
        The sum of the three, 0 to 3.
    """
    inside = target[:, :1]
    weight = torch.cat([torch.ones_like(inside), inside, inside], dim=1)
    planes = [(maps * weight).transpose(0, 1).flatten(1, 2) for maps in (probability, target)]
    return soft_dice_loss(*planes).sum()


def prompt_loss(logits: Tensor, iou: Tensor, truth: Tensor) -> Tensor:
    """Return the loss of what was answered to prompts for n objects of one image.

    Parameters
    ----------
    logits
        (n, candidates, height, width).
    iou
        (n, candidates), as predicted.
    truth
        (n, height, width), 0 or 1.

    Returns
    -------
    Tensor
        The Dice loss of the best candidate, mean over the objects, and the squared error of the
        predicted IoU, mean over all candidates.
    """
    truth = truth[:, None]
    dice = soft_dice_loss(logits.sigmoid(), truth).amin(dim=1).mean()
    with torch.no_grad():
        true_iou = mask_iou(logits > 0, truth > 0)
    return dice + (iou - true_iou).square().mean()


def mask_iou(masks: Tensor, truth: Tensor) -> Tensor:
    """Return intersection over union of bool masks over the last two axes; 0 where both are empty.

    Parameters
    ----------
    masks, truth
        (..., height, width) bool, broadcast against each other.
    """
    common = (masks & truth).sum(dim=(-2, -1))
    either = (masks | truth).sum(dim=(-2, -1))
    return common / either.clamp(min=1)
