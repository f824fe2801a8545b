"""Pixels for the slides of the viewer's tests."""

from __future__ import annotations

import numpy as np


def waves(x: int, y: int, width: int, height: int, *, scale: float = 1.0) -> np.ndarray:
    """Coloured waves some 60 px long, or `scale` times that, of which no two places are alike."""
    down, right = np.mgrid[y : y + height, x : x + width] / scale
    phases = (right / 9 + down / 300, down / 11 - right / 200, (right + down) / 23)
    return np.stack([180 + 60 * np.sin(one) for one in phases], -1).astype(np.uint8)
