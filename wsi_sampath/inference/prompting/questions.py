"""From what was drawn on a slide to what a network is asked in its frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
import torch
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry
from skimage.draw import polygon2mask
from torch import Tensor

from wsi_sampath.inference.prompting.lattice import LARGEST_FACTOR, Lattice, Square
from wsi_sampath.models.network import Prompts

FITS = 5 / 8
"""What is no longer than this share of a square is answered in it, with room on every side."""
_SURE = 1e-3
"""A drawn mask is given to the network as the logits of 1 - this inside, as in micro-sam."""
_MASK_PART = 4

Floats = NDArray[np.float64]


class Unanswerable(ValueError):
    """A prompt that cannot be asked, with the reason."""


@dataclass(frozen=True)
class Pointing:
    """What points at one object, in level-0 px.

    Attributes
    ----------
    points, labels
        float64 (n, 2), x before y, and (n,): 1 on the object, 0 beside it.
    box
        (x0, y0, x1, y1).
    outline
        A rough outline of the object.
    """

    points: Floats
    labels: NDArray[np.int64]
    box: tuple[float, float, float, float] | None = None
    outline: BaseGeometry | None = None

    def __post_init__(self) -> None:
        points, labels = np.asarray(self.points, float), np.asarray(self.labels, np.int64)
        if points.shape != (len(labels), 2) or not np.isin(labels, (0, 1)).all():
            raise ValueError("points are (n, 2), and each has a label 0 or 1")
        object.__setattr__(self, "points", points)
        object.__setattr__(self, "labels", labels)

    @property
    def is_single_point(self) -> bool:
        """Whether it leaves open what of several nested things is meant."""
        return len(self.points) == 1 and self.box is None and self.outline is None

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Least box around all that is on the object.

        Raises
        ------
        Unanswerable
            If nothing is, or not at finite places.
        """
        corners = [self.points[self.labels == 1]]
        if self.box is not None:
            corners.append(np.reshape(self.box, (2, 2)))
        if self.outline is not None:
            corners.append(np.reshape(shapely.bounds(self.outline), (2, 2)))
        places = np.concatenate(corners)
        if not len(places):
            raise Unanswerable("nothing points at the object, only beside it")
        if not (np.isfinite(places).all() and np.isfinite(self.points).all()):
            raise Unanswerable("has places that are no finite numbers")
        (x0, y0), (x1, y1) = places.min(axis=0), places.max(axis=0)
        if not self._has_area():
            raise Unanswerable("its box or outline has no area")
        return float(x0), float(y0), float(x1), float(y1)

    def _has_area(self) -> bool:
        areas = []
        if self.box is not None:
            areas.append((self.box[2] - self.box[0]) * (self.box[3] - self.box[1]))
        if self.outline is not None:
            areas.append(self.outline.area)
        return all(area > 0 for area in areas)


def place(pointing: Pointing, size: tuple[int, int], lattices: Sequence[Lattice]) -> Square:
    """Return the square that answers: of the finest lattice in which what was drawn fits.

    Parameters
    ----------
    pointing
        What was drawn.
    size
        Width and height of the slide, px of level 0.
    lattices
        From fine to coarse.

    Raises
    ------
    Unanswerable
        For what is outside of the slide, or larger than any square.
    """
    x0, y0, x1, y1 = pointing.bounds
    width, height = size
    if x1 < 0 or y1 < 0 or x0 >= width or y0 >= height:
        raise Unanswerable(f"lies outside of the slide of {width} x {height} px")
    inside = np.clip([[x0, y0], [x1, y1]], 0, [width, height])
    for lattice in lattices:
        if (np.ptp(lattice.to_plane(inside), axis=0) <= lattice.side * FITS).all():
            return lattice.nearest(inside.mean(axis=0))
    raise Unanswerable(f"is larger than what can be seen at once at {LARGEST_FACTOR} times the mpp")


def in_frame(pointing: Pointing, square: Square, lattice: Lattice, frame: int) -> Prompts:
    """Return what a network is asked for, one object, in px of its frame.

    Points beside the object that are outside of the square are left out: they say nothing there.

    Parameters
    ----------
    pointing
        What was drawn.
    square, lattice
        Where the network looks.
    frame
        Side of its frame, px.
    """
    scale = frame / lattice.side

    def moved(places: Floats) -> Floats:
        return (lattice.to_plane(places) - [square.x, square.y]) * scale

    # SAM counts from the middle of the first pixel, and clips nothing.
    points = moved(pointing.points) - 0.5
    seen = (pointing.labels == 1) | ((points >= -0.5) & (points < frame - 0.5)).all(axis=1)
    box = None if pointing.box is None else moved(np.reshape(pointing.box, (2, 2)))
    mask = None
    if pointing.outline is not None:
        outline = shapely.transform(pointing.outline, moved)
        mask = mask_logits(outline, frame)
        if box is None:
            box = np.reshape(shapely.bounds(outline), (2, 2))
    return Prompts(
        points=_batch(points[seen].clip(0, frame - 1)) if seen.any() else None,
        labels=_batch(pointing.labels[seen]) if seen.any() else None,
        boxes=None if box is None else _batch(box.clip(0, frame).ravel()),
        masks=None if mask is None else mask[None, None],
    )


def mask_logits(outline: BaseGeometry, frame: int) -> Tensor:
    """Return an outline as the logits of an earlier answer, float32 (frame / 4, frame / 4).

    Parameters
    ----------
    outline
        Polygon or polygons in px of the frame.
    frame
        Its side, px.
    """
    inside = np.zeros((frame, frame), bool)
    for polygon in shapely.get_parts(shapely.get_parts(outline)):
        for ring in (polygon.exterior, *polygon.interiors):
            # Even-odd: a hole is filled twice. Pixels have their middles at whole numbers there.
            inside ^= polygon2mask((frame, frame), np.asarray(ring.coords)[:, ::-1] - 0.5)
    side = frame // _MASK_PART
    share = inside.reshape(side, _MASK_PART, side, _MASK_PART).mean(axis=(1, 3))
    return torch.logit(torch.from_numpy(share).float(), eps=_SURE)


def _batch(values: NDArray[np.generic]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).float()[None]
