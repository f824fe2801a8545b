"""Prompts of one image, answered in batches, and what of the answers is a mask."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from wsi_sampath.inference.prompted.masks import Mask, cut_out, stability_scores
from wsi_sampath.models.network import Prompts


class MaskSource(Protocol):
    """One image that answers prompts."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the image, px."""
        ...

    def ask(self, prompts: Prompts, *, multimask: bool) -> tuple[Tensor, Tensor]:
        """Return logits (p, c, ...) of any size and the predicted IoU (p, c).

        Parameters
        ----------
        prompts
            In px of the image.
        multimask
            Several candidates a prompt instead of one.
        """
        ...

    def enlarge(self, logits: Tensor) -> Tensor:
        """Return logits (n, ...) at the size of the image, (n, height, width)."""
        ...


def point_prompts(points: Tensor) -> Prompts:
    """Ask for one object at each of the points (p, 2), x before y."""
    return Prompts(points[:, None], torch.ones(len(points), 1, device=points.device))


def box_prompts(boxes: Tensor) -> Prompts:
    """Ask for one object in each of the boxes (p, 4): x0, y0, x1, y1."""
    return Prompts(boxes=boxes)


def answers(
    source: MaskSource,
    prompts: Prompts,
    *,
    batch: int,
    stability_offset: float,
    multimask: bool = True,
    best_only: bool = False,
    min_predicted_iou: float = 0.0,
    min_stability: float = 0.0,
) -> Iterator[Mask]:
    """Ask an image, and yield the masks that are good enough, in the order of the prompts.

    Parameters
    ----------
    source
        The image.
    prompts
        In its pixels.
    batch
        Prompts that are answered at once.
    stability_offset
        See `stability_scores`.
    multimask
        Ask for several candidates a prompt instead of one.
    best_only
        Take the candidate with the highest predicted IoU for each prompt instead of all.
    min_predicted_iou, min_stability
        A mask must have more of the first, and no less of the second; 0 for all that aren't empty.
    """
    for part in prompts.batches(batch):
        logits, quality = source.ask(part, multimask=multimask)
        index = _wanted(quality, best_only=best_only, least=min_predicted_iou)
        if not len(index):
            continue
        full = source.enlarge(logits[index[:, 0], index[:, 1]])
        stability = stability_scores(full, stability_offset)
        masks = full > 0
        good = (masks.any(dim=2).any(dim=1) & (stability >= min_stability)).nonzero()[:, 0]
        chosen = zip(
            masks[good].cpu().numpy(),
            index[good, 0].tolist(),
            quality[index[good, 0], index[good, 1]].tolist(),
            stability[good].tolist(),
            strict=True,
        )
        for pixels, prompt, iou, stable in chosen:
            found = cut_out(pixels)
            yield Mask(found.y, found.x, found.pixels, iou, stable, _point_of(part, prompt))


def _wanted(quality: Tensor, *, best_only: bool, least: float) -> Tensor:
    """Return (n, 2): prompt and candidate of what is worth the enlarging."""
    wanted = quality > least if least > 0 else torch.ones_like(quality, dtype=torch.bool)
    if best_only:
        best = torch.zeros_like(wanted)
        wanted &= best.scatter_(1, quality.argmax(dim=1, keepdim=True), value=True)
    return wanted.nonzero()


def _point_of(prompts: Prompts, index: int) -> tuple[float, float] | None:
    if prompts.points is None:
        return None
    x, y = prompts.points[index, 0].tolist()
    return x, y
