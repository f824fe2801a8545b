"""One image asked for its objects: prompts of both resolutions, and what the answers cost."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from wsi_sampath.evaluation.drawn_prompts import degraded_masks, scattered_points, shaken_boxes
from wsi_sampath.evaluation.prompting import chosen_objects
from wsi_sampath.models.network import Prompts
from wsi_sampath.models.parts.encoders import resized
from wsi_sampath.models.wsi_sam.network import Look, WsiSam
from wsi_sampath.training.nuclei.losses import soft_dice_loss
from wsi_sampath.training.prompts.settings import Kind, PromptTrainSettings


def some_objects(objects: Tensor, most: int, generator: torch.Generator) -> Tensor | None:
    """Return masks of at most `most` objects in both views, or None where there is no object.

    Parameters
    ----------
    objects
        int32 (2, side, side), of one sample.

    Returns
    -------
    Tensor or None
        bool (2, n, side, side); each object has a pixel in the patch.
    """
    near = chosen_objects(objects[0], most, generator)
    if not len(near):
        return None
    ids = objects[0].expand_as(near).masked_fill(~near, 0).flatten(1).amax(dim=1)
    return torch.stack([near, objects[1][None] == ids[:, None, None]])


def drawn_prompts(
    masks: Tensor, kind: Kind, settings: PromptTrainSettings, generator: torch.Generator
) -> Prompts:
    """Return prompts for masks, bool (n, side, side), in px of the same frame."""
    match kind:
        case "box":
            shift, resize = settings.box_shift, settings.box_resize
            return Prompts(boxes=shaken_boxes(masks, generator, shift=shift, resize=resize))
        case "points":
            points = scattered_points(masks, settings.points, generator)
            return Prompts(points, torch.ones(points.shape[:2], device=points.device))
        case "mask":
            return Prompts(masks=degraded_masks(masks, masks.shape[-1] // 4, generator))


def in_both(
    model: WsiSam, masks: Tensor, kind: Kind, settings: PromptTrainSettings, draw: torch.Generator
) -> tuple[Prompts, Prompts]:
    """Return prompts of the high and of the low resolution.

    Parameters
    ----------
    model
        Says where a prompt lies in the low resolution.
    masks
        bool (2, n, side, side).
    kind, settings, draw
        Of the prompts; the generator of all random choices.
    """
    high = drawn_prompts(masks[0], kind, settings, draw)
    if settings.paper_compatible and kind != "box":
        return high, drawn_prompts(masks[1], kind, settings, draw)
    return high, model.in_low(high)


def answer_loss(
    model: WsiSam,
    looks: tuple[Look, Look],
    masks: Tensor,
    prompts: tuple[Prompts, Prompts],
    share: float,
) -> Tensor:
    """Return Dice and cross entropy of the answers of both resolutions, without SAM's masks.

    Parameters
    ----------
    model
        In training mode.
    looks
        Of one image, from `WsiSam.look`.
    masks
        bool (2, n, side, side), what is true.
    prompts
        Of `in_both`.
    share
        Of the high resolution.
    """
    answers = model.paired_logits(looks, *prompts)
    high, low = (_loss(one, true) for one, true in zip(answers, masks, strict=True))
    return share * high + (1 - share) * low


def _loss(logits: Tensor, truth: Tensor) -> Tensor:
    at_size = resized(logits.float(), truth.shape[-1])[:, 0]
    target = truth.float()
    dice = soft_dice_loss(at_size.sigmoid(), target).mean()
    return dice + functional.binary_cross_entropy_with_logits(at_size, target)
