"""Automatic prompt generation: the network's own maps say where to ask it for a nucleus."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from wsi_sampath.inference.instances.settings import NucleusSettings
from wsi_sampath.inference.prompted.asking import (
    MaskSource,
    answers,
    box_prompts,
    point_prompts,
)
from wsi_sampath.inference.prompted.masks import Edges, Mask, claim, keep_by_masks
from wsi_sampath.inference.prompted.settings import OwnPromptSettings
from wsi_sampath.models.network import Prompts

WHOLE = Edges()
_EIGHT = np.ones((3, 3), bool)
_GROWTH = 0.01
"""By which a box is grown on each side, as a share of its own."""


def prompt_points(maps: NDArray[np.float32], thresholds: NucleusSettings) -> NDArray[np.float64]:
    """Return one point for each place where the maps see the middle of a nucleus.

    Parameters
    ----------
    maps
        float32 (3, rows, columns), 0 to 1: foreground, distance to the centre, distance to the
        boundary.
    thresholds
        Below which distances, and from which foreground on; nothing is smoothed here.

    Returns
    -------
    float64 (n, 2)
        x before y, px: the pixel of each place that is deepest inside of it.
    """
    foreground, centre, boundary = maps
    inside = (
        (centre < thresholds.center_distance_threshold)
        & (boundary < thresholds.boundary_distance_threshold)
        & (foreground >= thresholds.foreground_threshold)
    )
    places, n_places = ndimage.label(inside, _EIGHT)
    # Beyond the edge nothing is inside, so that no point lies on it without need.
    depth = ndimage.distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1]
    points = np.empty((n_places, 2))
    for index, box in enumerate(ndimage.find_objects(places)):
        own = np.where(places[box] == index + 1, depth[box], 0)
        y, x = np.unravel_index(int(np.argmax(own)), own.shape)
        points[index] = box[1].start + x, box[0].start + y
    return points


def prompted_masks(
    source: MaskSource,
    maps: NDArray[np.float32],
    settings: OwnPromptSettings,
    thresholds: NucleusSettings,
    edges: Edges = WHOLE,
) -> list[Mask]:
    """Return the masks at the points that the maps suggest, by falling score; they may overlap.

    Parameters
    ----------
    source
        The image.
    maps, thresholds
        As for `prompt_points`; the maps are of the size of the image.
    settings
        What becomes of the answers.
    edges
        Objects that reach one of these are left out.
    """
    points = prompt_points(maps, thresholds)
    if not len(points):
        return []
    found = _asked(source, point_prompts(torch.from_numpy(points)), settings)
    if settings.refine_by_box and found:
        found = _asked(source, box_prompts(_grown_boxes(found, source.size)), settings)
    whole = [
        mask
        for mask in found
        if mask.area >= settings.min_area_px and not edges.cut(mask, source.size)
    ]
    return keep_by_masks(whole, settings.max_mask_overlap, share_of=settings.overlap_share_of)


def prompted_objects(
    source: MaskSource,
    maps: NDArray[np.float32],
    settings: OwnPromptSettings,
    thresholds: NucleusSettings,
    edges: Edges = WHOLE,
) -> list[Mask]:
    """Return the objects at the points that the maps suggest; they don't overlap.

    Parameters
    ----------
    source, maps, settings, thresholds, edges
        As for `prompted_masks`.
    """
    taken = np.zeros(source.size, bool)
    return [
        piece
        for mask in prompted_masks(source, maps, settings, thresholds, edges)
        for piece in claim(
            mask, taken, max_covered=settings.max_covered, min_area_px=settings.min_area_px
        )
    ]


def _asked(source: MaskSource, prompts: Prompts, settings: OwnPromptSettings) -> list[Mask]:
    found = answers(
        source,
        prompts,
        batch=settings.points_per_batch,
        stability_offset=settings.stability_offset,
        multimask=settings.several_masks,
        best_only=True,
    )
    return list(found)


def _grown_boxes(masks: list[Mask], size: tuple[int, int]) -> Tensor:
    boxes = []
    for rows, columns in (mask.box for mask in masks):
        height, width = rows.stop - 1 - rows.start, columns.stop - 1 - columns.start
        boxes.append(
            (
                max(columns.start - width * _GROWTH, 0),
                max(rows.start - height * _GROWTH, 0),
                min(columns.stop - 1 + width * _GROWTH, size[1]),
                min(rows.stop - 1 + height * _GROWTH, size[0]),
            )
        )
    return torch.tensor(boxes, dtype=torch.float64)
