"""How good gland-mini is: scores on patients it never saw, with 95 % intervals by patient."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pipelines.gland_mini.canvas_run import enlarged
from pipelines.gland_mini.data import GLAND, Glands
from pipelines.gland_mini.mosaic import LabelledPicture
from wsi_sampath.evaluation.intervals import draw_cases
from wsi_sampath.evaluation.metrics import Counts, confusion
from wsi_sampath.evaluation.patch_predictor import PatchPredictor
from wsi_sampath.evaluation.scores import overlaps, summarise
from wsi_sampath.models.parts.retile import with_tile
from wsi_sampath.models.zoo import load_model
from wsi_sampath.training.augment import Mask, Rgb, rescaled

Labels = Callable[[Sequence[LabelledPicture]], list[Mask]]

CLASSES = ("other", "gland")
BATCH = 8
DRAWS = 1000
PER_GLAND = ("dice", "dice_ci", "iou", "iou_ci", "precision", "recall")


def judge(labels: Labels, patches: Sequence[LabelledPicture]) -> dict[str, Any]:
    """Return the scores of gland, pooled over the pixels of some patches."""
    patients = [patch.patient for patch in patches]
    gland = summarise(counted(labels, patches), patients, CLASSES)["per_class"][CLASSES[GLAND - 1]]
    scores = {name: _rounded(gland[name]) for name in PER_GLAND}
    return {"patches": len(patches), "patients": len(set(patients)), **scores}


def counted(labels: Labels, patches: Sequence[LabelledPicture]) -> list[Counts]:
    """Return the confusion matrix of every patch."""
    counts: list[Counts] = []
    for start in range(0, len(patches), BATCH):
        batch = patches[start : start + BATCH]
        found = labels(batch)
        counts += [confusion(patch.mask, got, 2) for patch, got in zip(batch, found, strict=True)]
    return counts


def lead(first: Labels, second: Labels, patches: Sequence[LabelledPicture]) -> dict[str, Any]:
    """Return how far the Dice of the first is above that of the second, whole patients drawn."""
    patients, index = np.unique([patch.patient for patch in patches], return_inverse=True)
    often = draw_cases(len(patients), DRAWS, 0)
    once = np.ones((1, len(patients)), np.int64)
    weights = (once if often is None else np.concatenate([once, often]))[:, index]
    dice = [
        overlaps(np.tensordot(weights, np.stack(counted(labels, patches)), axes=1))[0]
        for labels in (first, second)
    ]
    whole, *drawn = (dice[0] - dice[1])[:, GLAND - 1].tolist()
    interval = np.quantile(drawn, [0.025, 0.975]).tolist() if drawn else None
    return {"dice": _rounded(whole), "dice_ci": _rounded(interval)}


def judge_all(labels: Labels, glands: Glands, rings: Sequence[LabelledPicture]) -> dict[str, Any]:
    """Return the scores on every set that is held out."""
    tumour = [patch for patch in rings if not patch.mask.all()]
    benign = [patch for patch in rings if patch.mask.all()]
    return {
        "ebhi_test": judge(labels, glands.test),
        "ebhi_test_with_full_masks": judge(labels, [*glands.test, *glands.full]),
        "rings_benign": judge(labels, benign),
        # Only tumour is annotated there, so recall is all that can be computed.
        "rings_tumour": {"patches": len(tumour), "recall": judge(labels, tumour)["recall"]},
    }


def packaged(path: Path) -> Labels:
    """Return the labels of patches by a packaged model, as ``wsi-evaluate`` computes them."""
    model = load_model(str(path))
    predictors: dict[float, PatchPredictor] = {}

    def labels(patches: Sequence[LabelledPicture]) -> list[Mask]:
        found = []
        for patch in patches:
            if patch.um not in predictors:
                predictors[patch.um] = PatchPredictor(model, mpp=patch.um)
            found += predictors[patch.um]([patch.image])
        return found

    return labels


def in_small_squares(model: nn.Module, build: Callable[[int], nn.Module]) -> Labels:
    """Return the labels of patches by a network, each mirrored to a slightly larger square."""
    sized: dict[int, nn.Module] = {}

    @torch.inference_mode()
    def labels(patches: Sequence[LabelledPicture]) -> list[Mask]:
        pairs = [rescaled(patch.image, patch.mask, patch.um) for patch in patches]
        side = max(_side(mask) for _, mask in pairs)
        if side not in sized:
            sized[side] = with_tile(model, build(side)).eval()
        images = np.stack([mirrored(image, side) for image, _ in pairs])
        network = sized[side]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = network(network.preprocess(torch.from_numpy(images)))  # type: ignore[operator]
        found = enlarged(output.logits.float(), side)[:, 1:].argmax(dim=1) + 1
        return [
            _at_own_size(got, scaled.shape, patch.mask.shape)
            for got, (_, scaled), patch in zip(
                found.to(torch.uint8).numpy(), pairs, patches, strict=True
            )
        ]

    return labels


def _side(mask: Mask) -> int:
    longest: int = max(mask.shape)
    return math.ceil(longest / 64) * 64


def mirrored(image: Rgb, side: int) -> Rgb:
    """Return an image in the middle of a square, mirrored at its borders."""
    lacking = [max(0, side - size) for size in image.shape[:2]]
    pads = [(size // 2, size - size // 2) for size in lacking]
    return np.pad(image, [*pads, (0, 0)], mode="symmetric")


def _at_own_size(labels: Mask, inner: tuple[int, ...], size: tuple[int, ...]) -> Mask:
    top, left = ((len(labels) - length) // 2 for length in inner)
    cut = np.ascontiguousarray(labels[top : top + inner[0], left : left + inner[1]])
    return rescaled(np.zeros((*inner, 3), np.uint8), cut, size[0] / inner[0])[1]


def _rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return value if value is None else round(value, 4)
