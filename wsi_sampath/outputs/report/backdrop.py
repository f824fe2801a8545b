"""The slide itself, small, behind what is drawn on it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LONGEST_SIDE_PX = 1600


@dataclass(frozen=True)
class Backdrop:
    """The whole slide, small.

    Attributes
    ----------
    rgb
        uint8 (h, w, 3).
    um_x, um_y
        Um per pixel of it.
    """

    rgb: NDArray[np.uint8]
    um_x: float
    um_y: float
