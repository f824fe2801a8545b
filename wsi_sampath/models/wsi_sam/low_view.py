"""The same prompts, as the low resolution sees them: half as large, around the same centre."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor
from torch.nn import functional

from wsi_sampath.models.network import Prompts


def in_low_view(prompts: Prompts, frame: int, *, floored_boxes: bool = False) -> Prompts:
    """Return prompts of the high resolution in px of the low one.

    Parameters
    ----------
    prompts
        In px of a frame, which is the middle half of the other frame.
    frame
        Side of both frames, px.
    floored_boxes
        See `Compat`.

    Examples
    --------
    >>> import torch
    >>> in_low_view(Prompts(boxes=torch.tensor([[0.0, 101.0, 1024.0, 500.0]])), 1024).boxes
    tensor([[256.0000, 306.5000, 768.0000, 506.0000]])
    """
    points = None if prompts.points is None else prompts.points / 2 + frame / 4
    boxes = None if prompts.boxes is None else prompts.boxes / 2
    if boxes is not None:
        boxes = (boxes.floor() if floored_boxes else boxes) + frame / 4
    masks = None if prompts.masks is None else _framed(prompts.masks)
    return replace(prompts, points=points, boxes=boxes, masks=masks)


def _framed(masks: Tensor) -> Tensor:
    """Return logits (p, 1, s, s) at half their size, with as much around them.

    Outside of the high view nothing is known to belong to the object, so that it is as far from it
    as anything inside the view.
    """
    quarter = masks.shape[-1] // 4
    outside = masks.amin(dim=(2, 3), keepdim=True).clamp(max=0)
    small = functional.avg_pool2d(masks - outside, 2)
    return functional.pad(small, (quarter, quarter, quarter, quarter)) + outside
