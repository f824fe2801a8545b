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
        k.

    Returns
    -------
    ndarray
        (k, k + 1) int64: row i is true class i + 1, column j is predicted label j.
    """
    labelled = truth > 0
    rows = truth[labelled].astype(np.int64) - 1
    columns = predicted[labelled].astype(np.int64)
    flat = np.bincount(rows * (classes + 1) + columns, minlength=classes * (classes + 1))
    return flat.reshape(classes, classes + 1).astype(np.int64)


def class_scores(counts: Counts) -> list[ClassScore]:
    """Return the scores of every class from a `confusion` matrix, in class order."""
    hit = np.diagonal(counts[:, 1:])
    true, predicted = counts.sum(axis=1), counts[:, 1:].sum(axis=0)
    return [_score(int(h), int(t), int(p)) for h, t, p in zip(hit, true, predicted, strict=True)]


def _score(hit: int, true: int, predicted: int) -> ClassScore:
    return {
        "dice": _ratio(2 * hit, true + predicted),
        "iou": _ratio(hit, true + predicted - hit),
        "precision": _ratio(hit, predicted),
        "recall": _ratio(hit, true),
    }


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
