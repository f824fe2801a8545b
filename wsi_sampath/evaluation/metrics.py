"""Scores from one confusion matrix over the labelled pixels."""

from __future__ import annotations

from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]


class ClassScore(TypedDict):
    """Scores of one class; None where the class occurs neither in truth nor in prediction."""

    dice: float | None
    iou: float | None
    precision: float | None
    recall: float | None


def confusion(truth: NDArray[np.integer], predicted: NDArray[np.integer], classes: int) -> Counts:
    """Count pixels by true and predicted class.

    Parameters
    ----------
    truth
        Labels, 0 = not labelled (left out), 1..k.
    predicted
        Labels of the same shape; 0 = not analysed, which counts as a miss.
    classes
        Number of classes, k.

    Returns
    -------
    ndarray
        (k, k + 1) int64: row i is true class i + 1, column j is predicted label j.
    """
    # Small codes: whole slides pass through here, and memory traffic is the whole cost.
    kind = np.dtype(np.uint16 if classes < 255 else np.int64)
    codes = np.multiply(truth, classes + 1, dtype=kind, casting="unsafe")
    codes += predicted.astype(kind)
    counts = np.bincount(codes.ravel(), minlength=(classes + 1) ** 2)
    return counts.reshape(classes + 1, classes + 1)[1:].astype(np.int64)


def class_scores(counts: Counts) -> list[ClassScore]:
    """Return the scores of every class from a `confusion` matrix, in class order."""
    hit = np.diagonal(counts[:, 1:])
    true, predicted = counts.sum(axis=1), counts[:, 1:].sum(axis=0)
    return [_score(int(h), int(t), int(p)) for h, t, p in zip(hit, true, predicted, strict=True)]


class PaperScores(TypedDict):
    """The numbers that SAM-Path's code prints, under the names it gives them."""

    Dice: float
    Dice_Bal: float
    F1: float
    IOU_Jaccard: float
    IOU_Jaccard_Bal: float


def paper_scores(
    truth: NDArray[np.integer],
    predicted: NDArray[np.integer],
    channels: int,
    background: int | None = None,
) -> PaperScores:
    """Compute what SAM-Path's code computes, only for comparison with the paper.

    Its F1 is the share of right pixels; where every pixel has a prediction its Dice is the same and
    its IOU follows from that. Labelled pixels that were not analysed are misses in all of them and
    false positives in none. With a background class only its Dice sees false positives there: F1,
    and with one other class IOU, are then the recall of what is not background.

    Parameters
    ----------
    truth, predicted
        Labels of equal shape; 0 = not labelled, which is left out.
    channels
        k + 1, the channels of the network; the mean IOU is a sum divided by this.
    background
        Label that counts as "not labelled" once predictions there have been kept, or None.
    """
    return paper_scores_of(confusion(truth, predicted, channels - 1), background)


def paper_scores_of(counts: Counts, background: int | None = None) -> PaperScores:
    """Compute `paper_scores` from a `confusion` matrix."""
    channels = counts.shape[1]
    everywhere = np.concatenate([np.zeros_like(counts[:1]), counts])
    if background is not None:
        for axis in (everywhere, everywhere.T):
            axis[0] += axis[background]
            axis[background] = 0
    labelled = everywhere.copy()
    labelled[0] = 0
    hit, mass = np.diagonal(everywhere)[1:], _mass(everywhere)
    labelled_mass = _mass(labelled)
    present = mass > 0
    iou = hit / np.maximum(labelled_mass - hit, 1)
    return {
        "Dice": float(2 * hit.sum() / max(mass.sum(), 1)),
        "Dice_Bal": float((2 * hit[present] / mass[present]).mean()) if present.any() else 0.0,
        "F1": float(hit.sum() / max(labelled.sum(), 1)),
        "IOU_Jaccard": float(hit.sum() / max((labelled_mass - hit).sum(), 1)),
        "IOU_Jaccard_Bal": float(iou.sum() / channels),
    }


def _mass(counts: Counts) -> Counts:
    """Return true plus predicted pixels of every class but 0."""
    total: Counts = counts.sum(axis=0) + counts.sum(axis=1)
    return total[1:]


def _score(hit: int, true: int, predicted: int) -> ClassScore:
    return {
        "dice": _ratio(2 * hit, true + predicted),
        "iou": _ratio(hit, true + predicted - hit),
        "precision": _ratio(hit, predicted),
        "recall": _ratio(hit, true),
    }


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
