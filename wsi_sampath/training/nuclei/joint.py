"""What one image batch costs a PathoSAM: in prompts that were answered, and in nucleus maps."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from wsi_sampath.evaluation.prompting import (
    Answer,
    Prompting,
    asked_repeatedly,
    chosen_objects,
)
from wsi_sampath.models.network import Prompts
from wsi_sampath.models.patho_sam.network import NUCLEUS_MAPS, PathoSam
from wsi_sampath.training.nuclei.losses import nucleus_map_loss, prompt_loss


def map_loss(model: PathoSam, embedding: Tensor, targets: Tensor) -> Tensor:
    """Return the loss of the nucleus decoder.

    Parameters
    ----------
    model
        In training mode.
    embedding
        Of the encoder, (batch, channels, grid, grid).
    targets
        (batch, 3, height, width) of `nucleus_targets`, at the size of the tile.
    """
    return nucleus_map_loss(decoded_maps(model, embedding, targets.shape[-1]), targets)


def decoded_maps(model: PathoSam, embedding: Tensor, side: int) -> Tensor:
    """Return what the nucleus decoder says, with gradients, float32 (batch, 3, side, side)."""
    logits = model.decoder(embedding)[:, : len(NUCLEUS_MAPS)]
    return functional.interpolate(
        logits.float().sigmoid(), size=(side, side), mode="bilinear", align_corners=False
    )


def interactive_loss(
    model: PathoSam,
    embedding: Tensor,
    instances: Tensor,
    settings: Prompting,
    generator: torch.Generator,
    *,
    box_first: bool,
) -> Tensor | None:
    """Return the mean loss of all answers to prompts, over rounds and images.

    Parameters
    ----------
    model
        In training mode.
    embedding
        Of the encoder, (batch, channels, grid, grid).
    instances
        (batch, height, width) integers, at the size of the tile; 0 outside of nuclei.
    settings, generator, box_first
        As of `asked_repeatedly`.

    Returns
    -------
    Tensor or None
        None where no image of the batch holds a nucleus.
    """
    losses = []
    for features, labels in zip(embedding, in_frame(instances, model.spec.frame), strict=True):
        truth = chosen_objects(labels, settings.objects, generator)
        if len(truth):
            ask = partial(_ask, model, features[None])
            answers = asked_repeatedly(ask, truth, settings, generator, box_first=box_first)
            losses.append(answers_loss(answers, truth))
    return torch.stack(losses).mean() if losses else None


def _ask(model: PathoSam, features: Tensor, prompts: Prompts, several: bool) -> Answer:
    return model.sam.masks((features,), prompts, multimask=several)


def in_frame(instances: Tensor, frame: int) -> Tensor:
    """Return labels enlarged to the frame of the prompts; ids stay ids."""
    size = (frame, frame)
    return functional.interpolate(instances[:, None].float(), size=size)[:, 0].long()


def answers_loss(answers: Sequence[Answer], truth: Tensor) -> Tensor:
    """Return the mean loss of several answers about objects, bool (n, frame, frame)."""
    size = truth.shape[-2:]
    losses = [
        prompt_loss(
            functional.interpolate(logits, size=size, mode="bilinear", align_corners=False),
            iou,
            truth.float(),
        )
        for logits, iou in answers
    ]
    return torch.stack(losses).mean()
