"""Nuclei measured and outlined, many at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from wsi_sampath.outputs.nuclei.outlines import Outlines
from wsi_sampath.outputs.polygons.runs import Ints

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class NucleusSpec:
    """What has to be known of a plane to measure its nuclei.

    Attributes
    ----------
    um_x, um_y
        Micrometers in one plane pixel.
    n_classes
        Number of the model's classes.
    simplify_px
        Largest distance in plane pixels by which outlines may move; 0 is exact.
    """

    um_x: float
    um_y: float
    n_classes: int = 1
    simplify_px: float = 0.0


@dataclass(frozen=True)
class FoundNuclei:
    """Nuclei as columns of one length, n.

    Attributes
    ----------
    id
        uint32.
    label
        uint8, its class 1..k: that of the largest summed probability, the first of equals.
    class_probability
        That class's share of the sum over all classes, 0..1 (0 where that sum is 0); the same as
        `mean_probability` where the model has one class.
    mean_probability
        Mean probability of the foreground, 0..1.
    pixels
        int64, number of pixels.
    x, y
        Centroid in plane pixels; the centre of the pixel in row 0, column 0 is (0.5, 0.5).
    area_um2
        Area of its pixels.
    perimeter_um
        By Crofton's formula in four directions: how often lines along rows, columns and both
        diagonals cross the border, weighted so that it is right for a disc. As
        ``skimage.measure.perimeter_crofton`` where pixels are square.
    circularity
        4 pi area / perimeter squared, at most 1.
    major_axis_um, minor_axis_um
        Axes of the ellipse of the same second moments, as skimage's ``regionprops``.
    haematoxylin_od, eosin_od
        Mean optical densities.
    outlines
        In plane pixels.
    """

    id: NDArray[np.uint32]
    label: NDArray[np.uint8]
    class_probability: Floats
    mean_probability: Floats
    pixels: Ints
    x: Floats
    y: Floats
    area_um2: Floats
    perimeter_um: Floats
    circularity: Floats
    major_axis_um: Floats
    minor_axis_um: Floats
    haematoxylin_od: Floats
    eosin_od: Floats
    outlines: Outlines

    def __len__(self) -> int:
        return len(self.id)

    def take(self, chosen: Ints) -> FoundNuclei:
        """Return some nuclei, by index, in the order chosen."""
        columns = {name: getattr(self, name)[chosen] for name in _COLUMNS}
        return FoundNuclei(**columns, outlines=self.outlines.take(chosen))

    @classmethod
    def joined(cls, several: Sequence[FoundNuclei]) -> FoundNuclei:
        """Return the nuclei of several batches, of one at least, as one."""
        columns = {
            name: np.concatenate([getattr(one, name) for one in several]) for name in _COLUMNS
        }
        return cls(**columns, outlines=Outlines.joined([one.outlines for one in several]))


_COLUMNS = tuple(one.name for one in fields(FoundNuclei) if one.name != "outlines")
