"""Marker strokes on a slide, and how much of its tissue lies beside them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wsi_sampath.slides.quality.quality import BESIDE_UM
from wsi_sampath.slides.regions.find import Seen

_BLACK = 60


def pen_shares(seen: Seen) -> tuple[float, float | None]:
    """Measure the marker strokes.

    Returns
    -------
    float
        Share of the slide's area that they cover, with other opaque marks.
    float or None
        Share of the tissue within `BESIDE_UM` of one; None without tissue.
    """
    pen = _without_borders(seen)
    tissue = np.count_nonzero(seen.tissue)
    if not tissue:
        return float(pen.mean()), None
    if not pen.any():
        return 0.0, 0.0
    from scipy import ndimage

    size = tuple(2 * round(BESIDE_UM / um) + 1 for um in (seen.mpp_y, seen.mpp_x))
    beside = ndimage.maximum_filter(pen, size) & seen.tissue
    return float(pen.mean()), np.count_nonzero(beside) / tissue


def _without_borders(seen: Seen) -> NDArray[np.bool_]:
    """Return the marks without what is black and reaches the frame, as scanners' margins do."""
    if not seen.marked.any():
        return seen.marked
    from scipy import ndimage

    labels, count = ndimage.label(seen.marked, np.ones((3, 3)))
    edges = (labels[0], labels[-1], labels[:, 0], labels[:, -1])
    at_frame = np.zeros(count + 1, bool)
    at_frame[np.unique(np.concatenate(edges))] = True
    marks = labels[seen.marked]
    black = (seen.image[seen.marked] < _BLACK).all(1)
    mostly = np.bincount(marks[black], minlength=count + 1) > 0.5 * np.bincount(marks)
    keep = ~(at_frame & mostly)
    keep[0] = False
    pen: NDArray[np.bool_] = keep[labels]
    return pen
