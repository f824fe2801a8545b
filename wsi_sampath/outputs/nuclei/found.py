"""Nuclei measured and outlined, many at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_sampath.errors import WsiError
from wsi_sampath.outputs.nuclei.canvas import Canvas, canvas_batches, paste
from wsi_sampath.outputs.nuclei.measure import moments_of, perimeters, sums_in_runs
from wsi_sampath.outputs.nuclei.outlines import Outlines, simplified
from wsi_sampath.outputs.nuclei.parts import find_parts
from wsi_sampath.outputs.nuclei.patch import (
    EOSIN,
    FIRST_CLASS,
    FOREGROUND,
    HAEMATOXYLIN,
    OD_STEPS,
    NucleusPatch,
    channels_of,
)
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


def found_nuclei(patches: Sequence[NucleusPatch], spec: NucleusSpec) -> FoundNuclei:
    """Measure and outline all nuclei of some patches.

    Parameters
    ----------
    patches
        Of one plane; each has the channels of `spec.n_classes` classes.
    spec
        What has to be known of the plane.

    Returns
    -------
    FoundNuclei
        In the order of the patches, and within one by id. How patches are gathered into calls
        changes nothing.

    Raises
    ------
    WsiError
        ``bad-input`` for patches of other channels, shapes or types.
    """
    for one in patches:
        _check(one, spec)
    several = [_found(paste(batch), spec) for batch in canvas_batches(patches)]
    return FoundNuclei.joined([none_found(), *several])


def none_found() -> FoundNuclei:
    """Return columns of length 0."""
    ids, labels = np.zeros(0, np.uint32), np.zeros(0, np.uint8)
    columns: dict[str, Any] = {name: np.zeros(0) for name in _COLUMNS}
    columns |= {"id": ids, "label": labels, "pixels": np.zeros(0, np.int64)}
    return FoundNuclei(**columns, outlines=Outlines.joined([]))


def _check(patch: NucleusPatch, spec: NucleusSpec) -> None:
    wanted = (channels_of(spec.n_classes), *patch.labels.shape)
    if patch.values.shape != wanted or patch.labels.ndim != 2:
        message = f"a patch has values of shape {patch.values.shape}, not {wanted}"
        raise WsiError("bad-input", message)
    if patch.labels.dtype != np.uint32 or patch.values.dtype != np.uint8:
        types = f"{patch.labels.dtype}, {patch.values.dtype}"
        raise WsiError("bad-input", f"a patch has the types {types}, not uint32, uint8")


def _found(canvas: Canvas, spec: NucleusSpec) -> FoundNuclei:
    parts = find_parts(canvas)
    if len(parts.ids) == 0:
        return none_found()
    runs = parts.runs
    moments = moments_of(runs)
    rows, columns = runs.first()
    shift = canvas.shift[parts.patch]
    perimeter = perimeters(runs, canvas.labels, spec.um_x, spec.um_y)
    area = moments.pixels * (spec.um_x * spec.um_y)
    major, minor = moments.axes(spec.um_x, spec.um_y)
    sums = [runs.total(sums_in_runs(runs, channel)) for channel in canvas.values]
    means = [one / moments.pixels for one in sums[:FIRST_CLASS]]
    label, share = _classes(sums, means[FOREGROUND] / 255)
    return FoundNuclei(
        id=parts.ids,
        label=label,
        class_probability=share,
        mean_probability=means[FOREGROUND] / 255,
        pixels=moments.pixels.astype(np.int64),
        x=moments.x + (columns + shift[:, 0]),
        y=moments.y + (rows + shift[:, 1]),
        area_um2=area,
        perimeter_um=perimeter,
        circularity=np.minimum(4 * np.pi * area / perimeter**2, 1),
        major_axis_um=major,
        minor_axis_um=minor,
        haematoxylin_od=means[HAEMATOXYLIN] / OD_STEPS,
        eosin_od=means[EOSIN] / OD_STEPS,
        outlines=simplified(parts.outlines(shift), spec.simplify_px),
    )


def _classes(sums: list[Floats], foreground: Floats) -> tuple[NDArray[np.uint8], Floats]:
    """Return class 1..k of each nucleus, and its probability."""
    if len(sums) == FIRST_CLASS:
        return np.ones(len(foreground), np.uint8), foreground
    by_class = np.stack(sums[FIRST_CLASS:])
    total = by_class.sum(axis=0)
    share = np.divide(by_class.max(axis=0), total, out=np.zeros_like(total), where=total > 0)
    return (by_class.argmax(axis=0) + 1).astype(np.uint8), share
