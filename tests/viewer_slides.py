"""Pixels for the slides of the viewer's tests."""

from __future__ import annotations

import numpy as np


def waves(x: int, y: int, width: int, height: int) -> np.ndarray:
    """Coloured waves, of which no two places are alike."""
    down, right = np.mgrid[y : y + height, x : x + width]
    phases = (right / 9 + down / 300, down / 11 - right / 200, (right + down) / 23)
    return np.stack([180 + 60 * np.sin(one) for one in phases], -1).astype(np.uint8)
