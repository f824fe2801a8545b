"""Instance labels to what the decoder learns: inside, distance to the centre, to the boundary."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import label as components
from skimage.segmentation import find_boundaries

Labels = NDArray[np.integer]
Real = NDArray[np.float32]

MIN_SIZE_PX = 10
"""Smaller pieces are no nuclei to learn from, as published."""
_TINY = 1e-7


@dataclass(frozen=True)
class Targets:
    """What is learned from one label image.

    Attributes
    ----------
    instances
        int32 (height, width): the pieces that are learned from, 1 to n; 0 elsewhere.
    maps
        float32 (3, height, width) in the order of `NUCLEUS_MAPS`: 1 inside of nuclei; the distance
        to the centre and the inverted distance to the boundary, each from 0 to 1 in every nucleus
        and 1 outside of them.
    """

    instances: NDArray[np.int32]
    maps: Real


def nucleus_targets(labels: Labels, min_size: int = MIN_SIZE_PX) -> Targets:
    """Compute the targets as the published training does.

    Parameters
    ----------
    labels
        (height, width), 0 outside of nuclei. Pieces of one value that do not touch, not even at a
        corner, are nuclei of their own.
    min_size
        Pieces of fewer px are left out.

    Returns
    -------
    Targets

    Notes
    -----
    Griebel et al. 2025, PathoSAM; as in torch-em, where a nucleus at the edge of the image has no
    boundary there.
    """
    pieces = components(labels, background=0, connectivity=2)
    sizes = np.bincount(pieces.ravel())
    kept = sizes >= max(1, min_size)
    kept[0] = False
    new_ids = np.where(kept, np.cumsum(kept), 0).astype(np.int32)
    instances = new_ids[pieces]
    maps = np.ones((3, *instances.shape), np.float32)
    maps[0] = instances > 0
    boundaries = find_boundaries(instances, mode="inner")
    for number, box in enumerate(ndimage.find_objects(instances), start=1):
        inside = instances[box] == number
        depth = _depth(inside, boundaries[box])
        corner = box[0].start, box[1].start
        for plane, distance in zip(maps[1:], _distances(inside, depth, corner), strict=True):
            plane[box][inside] = distance[inside]
    return Targets(instances, maps)


def _depth(inside: NDArray[np.bool_], boundaries: NDArray[np.bool_]) -> Real:
    """Return the distance, px, of every pixel of one nucleus to its inner boundary."""
    edge = boundaries & inside
    if not edge.any():
        return np.zeros(inside.shape, np.float32)
    depth: Real = ndimage.distance_transform_edt(~edge).astype(np.float32)
    return np.where(inside, depth, np.float32(0))


def _distances(
    inside: NDArray[np.bool_], depth: Real, corner: tuple[int, int]
) -> tuple[Real, Real]:
    """Return the distance to the centre and the inverted one to the boundary, both up to 1."""
    # Halves are rounded to even numbers, which depends on where in the image the nucleus is.
    row, column = (
        round(float(start + places.mean())) - start
        for start, places in zip(corner, np.nonzero(inside), strict=True)
    )
    if not inside[row, column]:
        row, column = divmod(int(depth.argmax()), depth.shape[1])
    y, x = np.ogrid[: inside.shape[0], : inside.shape[1]]
    far = np.hypot(y - row, x - column).astype(np.float32)
    inverted = depth.max() - depth
    return far / (far[inside].max() + _TINY), inverted / (inverted[inside].max() + _TINY)
