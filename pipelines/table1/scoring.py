"""Scores of a network on patches as the paper takes them: every patch stretched, one pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from wsi_sampath.data.patches import Patch
from wsi_sampath.evaluation.metrics import Counts, confusion
from wsi_sampath.models.parts.encoders import resized
from wsi_sampath.models.sam_path.network import SamPath
from wsi_sampath.training.loader import PLAIN, PatchReader, batches, usable


def count_stretched(
    model: SamPath,
    read: PatchReader,
    patches: Sequence[Patch],
    *,
    device: str | torch.device = "cpu",
    batch_size: int = 8,
    workers: int = 0,
) -> Iterator[Counts]:
    """Count pixels by true and predicted class, patch by patch.

    Patches are resized to the reader's side (labels to the nearest) and scored at this size, as
    SAM-Path's code does; no tiling, no blending.

    Parameters
    ----------
    model
        The network; moved to `device` and left in evaluation mode.
    read
        Reads patches in the model's labels.
    patches
        The patches to score.
    device
        Where it is computed, in full precision.
    batch_size, workers
        Patches per batch, and processes that read them.

    Yields
    ------
    ndarray
        A `confusion` matrix (k, k + 1) for every patch.

    Raises
    ------
    WsiError
        ``bad-input`` for a patch that cannot be read.
    """
    model.to(device).eval()
    wanted = [(patch, PLAIN) for patch in patches]
    for batch in batches(read, wanted, batch_size=batch_size, workers=workers):
        images, truth = usable(batch)
        with torch.inference_mode():
            ready = resized(model.preprocess(images.to(device)), model.spec.tile)
            found = model.labels(model(ready), truth.shape[-1]).cpu()
        for labels, other in zip(truth.numpy(), found.numpy(), strict=True):
            yield confusion(labels, other, len(model.spec.classes))
