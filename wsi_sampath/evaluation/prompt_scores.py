"""Scores of answers to prompts, with intervals by case, beside those of the paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from wsi_sampath.evaluation.intervals import LEVEL, Draws, Floats, bounds, plain, plain_pair

PAPER = {
    "is": "Dice in % (Liu et al. 2024, WSI-SAM, PMLR 254:25-37: Table 1 and Fig. 4), on other data",
    "box": {
        "DCIS": {"SAM": 73.35, "SAM*": 61.22, "MedSAM": 64.71, "WSI-SAM": 77.50},
        "CAMELYON16": {"SAM": 80.09, "SAM*": 62.35, "MedSAM": 74.93, "WSI-SAM": 82.54},
    },
    "3 points": {
        "DCIS": {"SAM": 71.16, "WSI-SAM": 72.48},
        "CAMELYON16": {"SAM": 75.38, "WSI-SAM": 76.34},
    },
    "5 points": {
        "DCIS": {"SAM": 76.59, "WSI-SAM": 79.22},
        "CAMELYON16": {"SAM": 78.7, "WSI-SAM": 80.86},
    },
    "10 points": {
        "DCIS": {"SAM": 80.18, "WSI-SAM": 83.93},
        "CAMELYON16": {"SAM": 82.67, "WSI-SAM": 84.32},
    },
}
"""The zero-shot rows of the paper, by prompt and data; SAM* has a decoder tuned on CATCH."""

_THRESHOLDS = np.arange(10, 20) / 20
"""Of the IoU, 0.50 to 0.95."""


def summarise_prompts(
    ious: Mapping[str, Mapping[str, Floats]],
    cases: Sequence[str],
    *,
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Return all scores of answers as plain values, ready for JSON.

    Parameters
    ----------
    ious
        By model and kind of prompt: the IoU of every object's mask with the true one, (objects,).
    cases
        Case of every object.
    draws, seed
        Number of draws and seed of the bootstrap, which draws whole cases with replacement.

    Returns
    -------
    dict
        ``scores`` by model and kind: means over objects of ``dice`` and ``iou``, and ``msa`` (true
        over true and wrong masks, mean over IoU thresholds from 0.50 to 0.95); ``differences`` of
        all later models to the first one by kind, for the same objects; ``bootstrap``. The ``_ci``
        of each is [low, high], or None with fewer than two cases.
    """
    drawn = Draws.of(cases, draws, seed)
    names = list(ious)
    return {
        "scores": {
            name: {kind: _scores(values, drawn) for kind, values in ious[name].items()}
            for name in names
        },
        "differences": {
            f"{name} - {names[0]}": {
                kind: _means(_dice(ious[name][kind]) - _dice(values), drawn, "dice")
                for kind, values in ious[names[0]].items()
            }
            for name in names[1:]
        },
        "bootstrap": {"unit": "case", "draws": draws, "seed": seed, "level": LEVEL},
    }


def _scores(iou: Floats, drawn: Draws | None) -> dict[str, Any]:
    hits = (iou[:, None] >= _THRESHOLDS).astype(np.float64)
    counted = np.concatenate([hits, np.ones((len(iou), 1))], axis=1)
    return {
        **_means(_dice(iou), drawn, "dice"),
        **_means(iou, drawn, "iou"),
        "msa": plain(_msa(counted.sum(axis=0))),
        "msa_ci": None if drawn is None else plain_pair(bounds(_msa(drawn.sums(counted)))),
    }


def _dice(iou: Floats) -> Floats:
    return 2 * iou / (1 + iou)


def _means(values: Floats, drawn: Draws | None, name: str) -> dict[str, Any]:
    ends = None if drawn is None else plain_pair(bounds(drawn.means(values)))
    return {name: plain(values.mean()), f"{name}_ci": ends}


def _msa(counted: Floats) -> Floats:
    """Return the mean segmentation accuracy of (..., thresholds + 1): hits, and all objects.

    A mask that misses its object is both a wrong one and a true one not found.
    """
    hits, total = counted[..., :-1], counted[..., -1:]
    mean: Floats = (hits / np.maximum(2 * total - hits, 1)).mean(axis=-1)
    return mean
