"""From what was drawn on a slide to what a network is asked in its frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import shapely
import torch
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry
from skimage.draw import polygon2mask
from torch import Tensor

from wsi_sampath.inference.prompting.lattice import FITS, Lattice, Square
from wsi_sampath.models.network import Prompts
from wsi_sampath.prompt_files.prompt import Corners, Prompt

SURE = 1e-3
"""A drawn mask is given to the network as the logits of 1 - this inside, as in micro-sam."""

Floats = NDArray[np.float64]


class Unanswerable(ValueError):
    """A prompt that cannot be asked, with the reason."""


def click(x: float, y: float) -> Prompt:
    """Ask for what lies at a place, in level-0 px."""
    return Prompt(id="", points=np.array([[x, y]], float), labels=np.array([1]))


def bounds_of(prompt: Prompt) -> Corners:
    """Return the least box around all that is on the object, level-0 px.

    Raises
    ------
    Unanswerable
        If nothing is, or not at finite places, or what was drawn has no area.
    """
    if prompt.box is None and prompt.outline is None and not (prompt.labels == 1).any():
        raise Unanswerable("nothing points at the object, only beside it")
    box = prompt.box if prompt.outline is None else shapely.bounds(prompt.outline)
    bounds = replace(prompt, box=None if box is None else tuple(box)).bounds
    if not (np.isfinite(bounds).all() and np.isfinite(prompt.points).all()):
        raise Unanswerable("has places that are no finite numbers")
    if box is not None and not (box[2] > box[0] and box[3] > box[1]):
        raise Unanswerable("its box or outline has no area")
    if prompt.outline is not None and not prompt.outline.area > 0:
        raise Unanswerable("its box or outline has no area")
    return bounds


def is_single_point(prompt: Prompt) -> bool:
    """Return whether it leaves open what of several nested things is meant."""
    return len(prompt.points) == 1 and prompt.box is None and prompt.outline is None


def place(prompt: Prompt, size: tuple[int, int], lattices: Sequence[Lattice]) -> Square:
    """Return the square that answers: of the finest lattice in which what was drawn fits.

    Parameters
    ----------
    prompt
        What was drawn, in level-0 px.
    size
        Width and height of the slide, px of level 0.
    lattices
        From fine to coarse.

    Raises
    ------
    Unanswerable
        For what is outside of the slide, or larger than any square.
    """
    x0, y0, x1, y1 = bounds_of(prompt)
    width, height = size
    on = prompt.points[prompt.labels == 1]
    is_area = prompt.box is not None or prompt.outline is not None
    misses = is_area and (x1 <= 0 or y1 <= 0 or x0 >= width or y0 >= height)
    if misses or not are_within(on, (0, 0, width, height)).all():
        raise Unanswerable(f"lies, or has points, outside of the slide of {width} x {height} px")
    inside = np.clip([[x0, y0], [x1, y1]], 0, [width, height])
    for lattice in lattices:
        if (np.ptp(lattice.to_plane(inside), axis=0) <= lattice.side * FITS).all():
            return lattice.nearest(inside.mean(axis=0))
    times = lattices[-1].factor
    raise Unanswerable(f"is larger than what can be seen at once at {times} times the mpp")


def are_within(points: Floats, area: Corners) -> NDArray[np.bool_]:
    """Return which points (n, 2) lie in an area; what is on its right or lower edge does not."""
    inside: NDArray[np.bool_] = np.all((points >= area[:2]) & (points < area[2:]), axis=1)
    return inside


def in_frame(
    prompt: Prompt, square: Square, lattice: Lattice, *, frame: int, mask_side: int
) -> Prompts:
    """Return what a network is asked for, one object, in px of its frame.

    Points beside the object that are outside of the square are left out: they say nothing there.

    Parameters
    ----------
    prompt
        What was drawn, in level-0 px.
    square, lattice
        Where the network looks.
    frame
        Side of its frame, px.
    mask_side
        Side of the masks that it takes, px: a divisor of the frame's.
    """
    scale = frame / lattice.side

    def moved(places: Floats) -> Floats:
        return (lattice.to_plane(places) - [square.x, square.y]) * scale

    # SAM counts from the middle of the first pixel, and clips nothing.
    points = moved(prompt.points) - 0.5
    seen = (prompt.labels == 1) | ((points >= -0.5) & (points < frame - 0.5)).all(axis=1)
    box = None if prompt.box is None else moved(np.reshape(prompt.box, (2, 2)))
    mask = None
    if prompt.outline is not None:
        outline = shapely.transform(prompt.outline, moved)
        mask = mask_logits(outline, frame, mask_side)
        if box is None:
            box = np.reshape(shapely.bounds(outline), (2, 2))
    return Prompts(
        points=_batch(points[seen].clip(0, frame - 1)) if seen.any() else None,
        labels=_batch(prompt.labels[seen]) if seen.any() else None,
        boxes=None if box is None else _batch(box.clip(0, frame).ravel()),
        masks=None if mask is None else mask[None, None],
    )


def mask_logits(outline: BaseGeometry, frame: int, mask_side: int) -> Tensor:
    """Return an outline as the logits of an earlier answer, float32 (mask_side, mask_side).

    Parameters
    ----------
    outline
        Polygon or polygons in px of the frame.
    frame, mask_side
        Its side, px, and that of the mask.
    """
    inside = np.zeros((frame, frame), bool)
    for polygon in shapely.get_parts(shapely.get_parts(outline)):
        for ring in (polygon.exterior, *polygon.interiors):
            # Even-odd: a hole is filled twice. Pixels have their middles at whole numbers there.
            inside ^= polygon2mask((frame, frame), np.asarray(ring.coords)[:, ::-1] - 0.5)
    px = frame // mask_side
    share = inside.reshape(mask_side, px, mask_side, px).mean(axis=(1, 3))
    return torch.logit(torch.from_numpy(share).float(), eps=SURE)


def _batch(values: NDArray[np.generic]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).float()[None]
