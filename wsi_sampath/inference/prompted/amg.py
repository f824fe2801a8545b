"""Automatic mask generation: every point of a grid is asked for the objects it lies in."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from wsi_sampath.inference.prompted.asking import MaskSource, answers, point_prompts
from wsi_sampath.inference.prompted.masks import (
    Edges,
    Mask,
    best_first,
    claim,
    keep_by_boxes,
    smallest_first,
    without_background,
)
from wsi_sampath.inference.prompted.settings import GridSettings

WHOLE = Edges()


def point_grid(per_side: int, size: tuple[int, int]) -> NDArray[np.float64]:
    """Return points in the middles of equal cells, row by row.

    Parameters
    ----------
    per_side
        Cells along each side.
    size
        Height and width of the image, px.

    Returns
    -------
    float64 (per_side ** 2, 2)
        x before y, px.

    Examples
    --------
    >>> point_grid(2, (8, 4)).tolist()
    [[1.0, 2.0], [3.0, 2.0], [1.0, 6.0], [3.0, 6.0]]
    """
    middles = (np.arange(per_side) + 0.5) / per_side
    x, y = np.meshgrid(middles * size[1], middles * size[0])
    return np.stack([x, y], axis=-1).reshape(-1, 2)


def grid_masks(source: MaskSource, settings: GridSettings, edges: Edges = WHOLE) -> list[Mask]:
    """Return the masks that a grid of points finds, by falling predicted IoU; they may overlap.

    Parameters
    ----------
    source
        The image.
    settings
        The grid and the thresholds.
    edges
        Objects that reach one of these are left out.
    """
    points = point_grid(settings.points_per_side, source.size)
    found = answers(
        source,
        point_prompts(torch.from_numpy(points)),
        batch=settings.points_per_batch,
        stability_offset=settings.stability_offset,
        min_predicted_iou=settings.min_predicted_iou,
        min_stability=settings.min_stability,
    )
    whole = [mask for mask in found if not edges.cut(mask, source.size)]
    return keep_by_boxes(whole, settings.max_box_overlap)


def grid_objects(source: MaskSource, settings: GridSettings, edges: Edges = WHOLE) -> list[Mask]:
    """Return the objects that a grid of points finds; they don't overlap.

    Parameters
    ----------
    source, settings, edges
        As for `grid_masks`.
    """
    masks, taken = grid_masks(source, settings, edges), np.zeros(source.size, bool)
    by_score = settings.overlaps == "better"
    objects = [
        piece
        for mask in (best_first(masks) if by_score else smallest_first(masks))
        for piece in claim(
            mask,
            taken,
            max_covered=settings.max_covered if by_score else 1.0,
            min_area_px=settings.min_area_px,
            all_pieces=not by_score,
        )
    ]
    return without_background(objects, source.size) if settings.drop_background else objects
