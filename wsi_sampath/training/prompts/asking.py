"""Images asked for their objects: prompts of both resolutions, and what the answers cost."""

from __future__ import annotations

from typing import NamedTuple

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


class Asked(NamedTuple):
    """Objects that are asked for.

    Attributes
    ----------
    masks
        bool (2, n, side, side): in the high and the low resolution; each has a pixel in the former.
    images
        int64 (n,): the image of the batch in which each is.
    """

    masks: Tensor
    images: Tensor

    def among(self, looks: tuple[Look, Look]) -> tuple[Look, Look]:
        """Return what is said of the image of each object."""
        high, low = (Look(*(part[self.images] for part in look)) for look in looks)
        return high, low


def some_objects(objects: Tensor, most: int, generator: torch.Generator) -> Asked | None:
    """Choose at most `most` objects of each image; None where none of them has any.

    Parameters
    ----------
    objects
        int32 (batch, 2, side, side), of `PromptSample`.
    """
    found, images = [], []
    for number, (high, low) in enumerate(objects):
        near = chosen_objects(high, most, generator)
        ids = high.expand_as(near).masked_fill(~near, 0).flatten(1).amax(dim=1)
        found.append(torch.stack([near, low[None] == ids[:, None, None]]))
        images += [number] * len(near)
    if not images:
        return None
    return Asked(torch.cat(found, dim=1), torch.tensor(images, device=objects.device))


def drawn_prompts(
    masks: Tensor,
    kind: Kind,
    settings: PromptTrainSettings,
    generator: torch.Generator,
    mask_side: int,
) -> Prompts:
    """Return prompts for masks, bool (n, side, side), in px of the same frame.

    Those that are masks themselves are `mask_side` px wide, see `ModelSpec`.
    """
    match kind:
        case "box":
            shift, resize = settings.box_shift, settings.box_resize
            return Prompts(boxes=shaken_boxes(masks, generator, shift=shift, resize=resize))
        case "points":
            points = scattered_points(masks, settings.points, generator)
            return Prompts(points, torch.ones(points.shape[:2], device=points.device))
        case "mask":
            return Prompts(masks=degraded_masks(masks, mask_side, generator))


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
    side = model.spec.mask_side
    high = drawn_prompts(masks[0], kind, settings, draw, side)
    if settings.paper_compatible and kind != "box":
        return high, drawn_prompts(masks[1], kind, settings, draw, side)
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
        Of the image of each object, from `WsiSam.look`.
    masks
        bool (2, n, side, side), what is true.
    prompts
        Of `in_both`.
    share
        Of the high resolution.
    """
    answers = model.paired_logits(looks, *prompts)
    high, low = (mask_loss(one, true) for one, true in zip(answers, masks, strict=True))
    return share * high + (1 - share) * low


def mask_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Return Dice, mean over the objects, and cross entropy, mean over the pixels.

    Parameters
    ----------
    logits
        (n, 1, height, width); enlarged to the truth.
    truth
        bool (n, side, side).
    """
    at_size = resized(logits.float(), truth.shape[-1])[:, 0]
    target = truth.float()
    dice = soft_dice_loss(at_size.sigmoid(), target).mean()
    return dice + functional.binary_cross_entropy_with_logits(at_size, target)
