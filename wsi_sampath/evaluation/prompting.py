"""Prompts as a user would give them: a point or a box, then points where the answer was wrong.

The iterative prompting of the published training (Griebel et al. 2025, PathoSAM, as in micro-sam):
the image is encoded once, and answered to several times; every answer is part of the loss.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from wsi_sampath.models.network import Prompts

Answer = tuple[Tensor, Tensor]
Ask = Callable[[Prompts, bool], Answer]
"""Answers prompts with logits (p, candidates, side / 4, side / 4) and IoU (p, candidates)."""

_NEAR_PX = 3
"""A point outside is looked for in the object's box, so much larger, before anywhere else."""


@dataclass(frozen=True)
class Prompting:
    """How objects are asked for.

    Attributes
    ----------
    objects
        How many of an image, at most.
    rounds
        Answers to each of them.
    mask_share
        Probability that a round is also given the last answer as a mask.
    box_noise
        Sides of a box move outwards by up to this share of its size.
    """

    objects: int = 40
    rounds: int = 8
    mask_share: float = 0.5
    box_noise: float = 0.025


def chosen_objects(instances: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Return masks of at most `most` random objects, bool (n, height, width).

    Parameters
    ----------
    instances
        (height, width) integers, 0 for none.
    """
    ids = torch.unique(instances)
    ids = ids[ids > 0]
    order = torch.randperm(len(ids), generator=generator)[:most]
    masks: Tensor = instances[None] == ids[order][:, None, None]
    return masks


def asked_repeatedly(
    ask: Ask, truth: Tensor, settings: Prompting, generator: torch.Generator, *, box_first: bool
) -> list[Answer]:
    """Ask for objects of one image, round after round.

    Parameters
    ----------
    ask
        The network on the encoded image. It is asked for several candidates only where a single
        point leaves open what is meant.
    truth
        bool (n, side, side), in the frame of the prompts; no object is empty.
    settings
        How often, and with what.
    generator
        Of all random choices, on the CPU.
    box_first
        Begin with a box each, not with a point.

    Returns
    -------
    list of tuple
        The answers of each round, with gradients; no gradient runs from a round to the next.
    """
    boxes = noisy_boxes(truth, settings.box_noise, generator) if box_first else None
    points: Tensor | None = None if box_first else random_points(truth, generator)[:, None]
    labels = None if points is None else torch.ones(points.shape[:2])
    low: Tensor | None = None
    answers = []
    for index in range(settings.rounds):
        shown = low if _chance(settings.mask_share, generator) else None
        logits, iou = ask(Prompts(points, labels, boxes, shown), index == 0 and not box_first)
        answers.append((logits, iou))
        if index + 1 == settings.rounds:
            break
        with torch.no_grad():
            low = _best(logits, iou)
            frame = functional.interpolate(low, size=truth.shape[-2:], mode="bilinear")
            new, signs = correcting_points(frame[:, 0] > 0, truth, generator)
        points = new if points is None else torch.cat([points, new], dim=1)
        labels = signs if labels is None else torch.cat([labels, signs], dim=1)
    return answers


def random_points(masks: Tensor, generator: torch.Generator) -> Tensor:
    """Return one random pixel of each mask, (n, 2), x before y, px; SAM adds the half itself.

    Parameters
    ----------
    masks
        bool (n, height, width), none of them empty.
    """
    flat = masks.flatten(1)
    order = flat.cumsum(dim=1, dtype=torch.int32)
    share = torch.rand(len(masks), generator=generator).to(masks.device)
    # The pixel that is reached first after so many of the mask's.
    wanted = (share * order[:, -1]).int().clamp(max=order[:, -1] - 1) + 1
    places = torch.searchsorted(order, wanted[:, None])[:, 0]
    width = masks.shape[-1]
    return torch.stack([places % width, places // width], dim=1).float()


def noisy_boxes(masks: Tensor, noise: float, generator: torch.Generator) -> Tensor:
    """Return the bounding boxes, (n, 4) x0, y0, x1, y1, their sides moved outwards at random.

    Parameters
    ----------
    masks
        bool (n, height, width), none of them empty.
    noise
        Largest shift, as a share of the box's width or height; clipped to the image.
    """
    height, width = masks.shape[-2:]
    (left, right), (top, bottom) = _extent(masks.any(dim=1)), _extent(masks.any(dim=2))
    shift = torch.rand(len(masks), 4, generator=generator).to(masks.device) * noise
    wide, high = right - left, bottom - top
    sides = (
        left - shift[:, 0] * wide,
        top - shift[:, 1] * high,
        right + shift[:, 2] * wide,
        bottom + shift[:, 3] * high,
    )
    limits = (width, height, width, height)
    clipped = [side.clamp(0, most) for side, most in zip(sides, limits, strict=True)]
    return torch.stack(clipped, dim=1)


def correcting_points(
    answer: Tensor, truth: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return one point that was missed and one that was too much, for each object.

    Parameters
    ----------
    answer, truth
        bool (n, height, width).
    generator
        Of the choice among wrong pixels.

    Returns
    -------
    tuple of Tensor
        Points (n, 2, 2), x before y, and labels (n, 2): 1 for the first one, 0 for the second.
        Where nothing was missed, the first is anywhere in the object; where nothing was too much,
        the second is around the object, or anywhere outside of it.
    """
    near = _boxes_around(truth) & ~truth
    missed = _first_filled(truth & ~answer, truth & answer)
    surplus = _first_filled(answer & ~truth, near, ~truth, torch.ones_like(truth))
    points = torch.stack(
        [random_points(missed, generator), random_points(surplus, generator)], dim=1
    )
    # An object that fills the frame has no outside: its second point is one of its own.
    inside = truth.flatten(1).all(dim=1).float()
    return points, torch.stack([torch.ones_like(inside), inside], dim=1)


def _first_filled(*choices: Tensor) -> Tensor:
    """Return for every object the first of the masks that is not empty, (n, height, width)."""
    chosen = choices[-1]
    for mask in reversed(choices[:-1]):
        chosen = torch.where(mask.flatten(1).any(dim=1)[:, None, None], mask, chosen)
    return chosen


def _boxes_around(truth: Tensor) -> Tensor:
    """Return the bounding boxes as masks, `_NEAR_PX` larger on every side."""
    masks = []
    for along in (1, 2):
        first, end = _extent(truth.any(dim=along))
        place = torch.arange(truth.shape[3 - along], device=truth.device)
        masks.append(
            (place >= first[:, None] - _NEAR_PX) & (place < end[:, None] + _NEAR_PX),
        )
    across, down = masks
    return down[:, :, None] & across[:, None, :]


def _extent(line: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first true place of every row of (n, length), and the one after the last."""
    length = line.shape[1]
    place = torch.arange(length, device=line.device)
    first = torch.where(line, place, length).amin(dim=1)
    end = torch.where(line, place + 1, 0).amax(dim=1)
    return first, end


def _best(logits: Tensor, iou: Tensor) -> Tensor:
    """Return the candidate of the highest predicted IoU, (n, 1, height, width)."""
    rows = torch.arange(len(logits), device=logits.device)
    return logits[rows, iou.argmax(dim=1)][:, None].detach()


def _chance(share: float, generator: torch.Generator) -> bool:
    return bool(torch.rand((), generator=generator) < share)
