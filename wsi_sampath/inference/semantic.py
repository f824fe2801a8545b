"""Blended probabilities become class maps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_sampath.inference.blend import Strip


@dataclass(frozen=True)
class ClassRows:
    """Rows of the maps that are stored.

    Attributes
    ----------
    y
        First row, in output pixels of the plane.
    labels
        uint8 (rows, columns): 0 not analysed, 1..k the class of highest probability.
    probabilities
        uint8 (classes, rows, columns): round(255 p), 0 where not analysed.
    score
        uint8 (rows, columns): the winning class's probability.
    """

    y: int
    labels: NDArray[np.uint8]
    probabilities: NDArray[np.uint8]
    score: NDArray[np.uint8]


def classify(strip: Strip, tissue: NDArray[np.bool_]) -> ClassRows:
    """Decide the class of every pixel, from the unrounded probabilities.

    Parameters
    ----------
    strip
        Blended rows.
    tissue
        bool (rows, columns): what is to be analysed; the rest becomes 0.
    """
    analysed = strip.covered & tissue
    labels = (strip.probabilities.argmax(0) + 1).astype(np.uint8)
    labels[~analysed] = 0
    probabilities = np.rint(strip.probabilities * 255).astype(np.uint8)
    probabilities[:, ~analysed] = 0
    return ClassRows(strip.y, labels, probabilities, probabilities.max(0))
