"""What the segmentation hands on: final nuclei of one closed piece of foreground."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FOREGROUND, HAEMATOXYLIN, EOSIN = 0, 1, 2
FIRST_CLASS = 3
"""Channel of class 1, where there are several classes."""
OD_STEPS = 100
"""Steps of `NucleusPatch.values` in one unit of optical density."""


def channels_of(n_classes: int) -> int:
    """Return how many channels `NucleusPatch.values` has for a model of some classes."""
    return FIRST_CLASS + (n_classes if n_classes > 1 else 0)


@dataclass(frozen=True)
class NucleusPatch:
    """Final nuclei of one closed piece of foreground.

    Attributes
    ----------
    y, x
        First row and column of its box on the plane.
    labels
        uint32 (rows, columns): ids of nuclei, unique over the plane; 0 where there is none or
        another piece's. A nucleus lies wholly within one patch.
    values
        uint8 (channels, rows, columns), 0 outside nuclei: the foreground's probability, round(255
        p); the optical density of haematoxylin and of eosin, round(100 OD), at most 255; and, where
        a model has several classes, the probability of each, round(255 p).
    """

    y: int
    x: int
    labels: NDArray[np.uint32]
    values: NDArray[np.uint8]

    def paint(self, plane: NDArray[np.uint32]) -> None:
        """Write the ids into a plane, and nothing where there is none."""
        rows, columns = self.labels.shape
        box = plane[self.y : self.y + rows, self.x : self.x + columns]
        np.copyto(box, self.labels, where=self.labels > 0)
