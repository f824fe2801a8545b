"""Scores of a model on labelled patches, with confidence intervals by case."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_sampath.evaluation.confusions import named_confusion
from wsi_sampath.evaluation.intervals import LEVEL, Draws, bounds, mean_of_known, plain, plain_pair
from wsi_sampath.evaluation.metrics import Counts, class_scores, paper_scores_of

_BACKGROUND = "background"
_WHAT_PAPER_SCORES_ARE = {
    "Dice": "share of right pixels (pixel accuracy), all classes alike",
    "Dice_Bal": "macro Dice over the classes that occur",
    "F1": "share of right pixels (pixel accuracy) again",
    "IOU_Jaccard": "pixel accuracy a again, as a / (2 - a)",
    "IOU_Jaccard_Bal": "sum of the classes' IoU divided by one more than there are classes",
}
_WITH_NOT_ANALYSED = _WHAT_PAPER_SCORES_ARE | {
    "Dice": "micro Dice: pixels not analysed are misses, but no false positives",
    "F1": "share of right pixels (pixel accuracy), pixels not analysed among the wrong ones",
    "IOU_Jaccard": "micro IoU: pixels not analysed are misses, but no false positives",
}
_WITHOUT_BACKGROUND = {
    "Dice": "Dice of what is not background, pooled over all pixels",
    "Dice_Bal": "macro Dice over the classes that occur, without background",
    "F1": "recall of what is not background: false positives on background are not seen",
    "IOU_Jaccard": "micro IoU blind to false positives on background: of one class its recall, "
    "published as IOU (true IoU: per_class)",
    "IOU_Jaccard_Bal": "sum of the classes' recall-like IoU divided by one more than all classes",
}
_WHAT_MICRO_IS = {
    False: "micro Dice, micro F1 and pixel accuracy are one number: the share of right pixels",
    True: "pixel accuracy is the share of right pixels; Dice (and F1, the same) and IoU pool all "
    "classes; pixels not analysed are misses in all three, but no false positives",
}
"""By whether there are pixels that were not analysed."""


def summarise(
    counts: Sequence[Counts],
    cases: Sequence[str],
    names: Sequence[str],
    *,
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Return all scores as plain values, ready for JSON.

    Parameters
    ----------
    counts
        `confusion` matrix of every patch, (k, k + 1) each.
    cases
        Case of every patch.
    names
        Names of the k classes.
    draws, seed
        Number of draws and seed of the bootstrap, which draws whole cases with replacement.

    Returns
    -------
    dict
        ``per_class`` (by name), ``macro``, ``micro``, ``per_image``, ``paper``, ``confusion`` (see
        `named_confusion`) and ``bootstrap``. Scores pool all labelled pixels of all patches, but
        for ``per_image``. A score is None where a class is neither in the truth nor predicted; a
        ``_ci`` is [low, high], or None with fewer than two cases.
    """
    stacked = np.stack([*counts])
    total = stacked.sum(axis=0)
    drawn = Draws.of(cases, draws, seed)
    intervals = None if drawn is None else _intervals(stacked, drawn)
    return {
        "per_class": _per_class(total, names, intervals),
        "macro": _macro(total, intervals),
        "micro": _micro(total, intervals),
        "per_image": _per_image(stacked, names, intervals),
        "paper": _paper(total, names),
        "confusion": named_confusion(total, names, "pixels"),
        "bootstrap": {"unit": "case", "draws": draws, "seed": seed, "level": LEVEL},
    }


def overlaps(counts: Counts) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return Dice and IoU of every class, NaN where a class is in neither truth nor prediction.

    Parameters
    ----------
    counts
        (..., k, k + 1), any number of `confusion` matrices.
    """
    hit = np.diagonal(counts[..., 1:], axis1=-2, axis2=-1).astype(np.float64)
    mass = counts.sum(axis=-1) + counts[..., 1:].sum(axis=-2)
    mass = np.where(mass > 0, mass, np.nan)
    return 2 * hit / mass, hit / (mass - hit)


def accuracy(counts: Counts) -> NDArray[np.float64]:
    """Return the share of right pixels of (..., k, k + 1) matrices, NaN without pixels."""
    hit = np.trace(counts[..., 1:], axis1=-2, axis2=-1).astype(np.float64)
    pixels = counts.sum(axis=(-2, -1))
    share: NDArray[np.float64] = hit / np.where(pixels > 0, pixels, np.nan)
    return share


def _pooled(counts: Counts) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return Dice and IoU over all classes at once; what is not analysed is a miss of its class."""
    hit = np.float64(np.trace(counts[:, 1:]))
    mass = counts.sum() + counts[:, 1:].sum()
    mass = np.where(mass > 0, mass, np.nan)
    return 2 * hit / mass, hit / (mass - hit)


Intervals = dict[str, NDArray[np.float64]]


def _intervals(stacked: Counts, drawn: Draws) -> Intervals:
    """Return (2, ...) bounds of every score."""
    counts = drawn.sums(stacked)
    scores = {"accuracy": accuracy(counts)}
    pooled, single = overlaps(counts), overlaps(stacked)
    for name, score, image_score in zip(("dice", "iou"), pooled, single, strict=True):
        scores[name], scores[f"macro_{name}"] = score, mean_of_known(score)
        scores[f"image_{name}"] = drawn.means(image_score)
        scores[f"image_mean_{name}"] = drawn.means(mean_of_known(image_score))
    return {name: bounds(score) for name, score in scores.items()}


def _per_class(total: Counts, names: Sequence[str], ci: Intervals | None) -> dict[str, Any]:
    return {
        name: {
            **score,
            "dice_ci": _interval(ci, "dice", index),
            "iou_ci": _interval(ci, "iou", index),
            "pixels": int(total[index].sum()),
        }
        for index, (name, score) in enumerate(zip(names, class_scores(total), strict=True))
    }


def _macro(total: Counts, ci: Intervals | None) -> dict[str, Any]:
    dice, iou = overlaps(total)
    return {
        "over": "classes in the truth or predicted",
        "dice": plain(mean_of_known(dice)),
        "iou": plain(mean_of_known(iou)),
        "dice_ci": _interval(ci, "macro_dice"),
        "iou_ci": _interval(ci, "macro_iou"),
    }


def _micro(total: Counts, ci: Intervals | None) -> dict[str, Any]:
    dice, iou = _pooled(total)
    return {
        "is": _WHAT_MICRO_IS[bool(total[:, 0].any())],
        "pixel_accuracy": plain(accuracy(total)),
        "dice": plain(dice),
        "iou": plain(iou),
        "pixel_accuracy_ci": _interval(ci, "accuracy"),
    }


def _per_image(stacked: Counts, names: Sequence[str], ci: Intervals | None) -> dict[str, Any]:
    dice, iou = overlaps(stacked)
    columns = zip(
        mean_of_known(dice.T), mean_of_known(iou.T), (~np.isnan(dice)).sum(axis=0), strict=True
    )
    per_class = {
        name: {
            "dice": plain(mean_dice),
            "iou": plain(mean_iou),
            "dice_ci": _interval(ci, "image_dice", index),
            "iou_ci": _interval(ci, "image_iou", index),
            "images": int(images),
        }
        for index, (name, (mean_dice, mean_iou, images)) in enumerate(
            zip(names, columns, strict=True)
        )
    }
    return {
        "is": "means over the images where a class is in the truth or predicted",
        "per_class": per_class,
        "dice": plain(mean_of_known(mean_of_known(dice))),
        "iou": plain(mean_of_known(mean_of_known(iou))),
        "dice_ci": _interval(ci, "image_mean_dice"),
        "iou_ci": _interval(ci, "image_mean_iou"),
    }


def _paper(total: Counts, names: Sequence[str]) -> dict[str, Any]:
    lower = [name.casefold() for name in names]
    background = lower.index(_BACKGROUND) + 1 if _BACKGROUND in lower else None
    meanings = _WITHOUT_BACKGROUND
    if background is None:
        meanings = _WITH_NOT_ANALYSED if total[:, 0].any() else _WHAT_PAPER_SCORES_ARE
    scores = paper_scores_of(total, background)
    values: dict[str, Any] = dict(scores)
    return {
        "note": "what SAM-Path's code computes, under its names; only for comparison with it",
        **{name: {"value": values[name], "is": meanings[name]} for name in meanings},
    }


def _interval(ci: Intervals | None, name: str, index: int | None = None) -> list[float] | None:
    if ci is None:
        return None
    return plain_pair(ci[name] if index is None else ci[name][:, index])
