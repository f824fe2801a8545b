"""Seeds and watershed, as published with PathoSAM, on a plane or a piece of one."""

from __future__ import annotations

import numpy as np
from bioimage_cpp.segmentation import watershed
from numpy.typing import NDArray
from scipy import ndimage

from wsi_sampath.inference.instances.settings import NucleusSettings
from wsi_sampath.inference.instances.terrain import SEED, TOP_LEVEL, Codes, Maps, terrain

Labels = NDArray[np.int32]
EIGHT = np.ones((3, 3), bool)
"""Seeds touch by corners as well; floods spread by sides only."""


def nuclei_of_plane(maps: Maps, settings: NucleusSettings) -> Labels:
    """Find the nuclei of a whole plane; `largest_px` does not matter here.

    Parameters
    ----------
    maps
        float32 (3, rows, columns), finite, 0 to 1: foreground, distance to the centre, distance
        to the boundary.
    settings
        The thresholds.

    Returns
    -------
    int32 (rows, columns): 0, or 1..n in the order of the nuclei's first pixels, row by row.
    """
    labels, _ = numbered(flood(terrain(maps, settings)), settings.min_size_px)
    return labels


def flood(codes: Codes) -> Labels:
    """Grow every seed over the foreground around it, int32 (rows, columns), 0 where none comes.

    Pieces of foreground that do not touch, not by corners either, never influence each other: the
    answer for one of them is the same wherever, and with whatever others, it stands. The
    interpreter is free for other threads meanwhile.
    """
    seeds, _ = ndimage.label(codes & SEED, EIGHT, output=np.int32)
    parts, n_parts = ndimage.label(codes, output=np.int32)
    at = np.flatnonzero(seeds)
    part, seed = parts.flat[at], seeds.flat[at]
    # A part has the seed that is in it, or is fought for by several.
    owner = np.zeros(n_parts + 1, np.int32)
    owner[part] = seed
    is_contested = np.zeros(n_parts + 1, bool)
    is_contested[part[owner[part] != seed]] = True
    labels: Labels = owner[parts]
    if is_contested.any():
        mask = is_contested[parts]
        # The watershed has 65,536 levels of its own, between the lowest and the highest that it is
        # given: ours stay apart. Pixels of one level are flooded first come, first served.
        heights = (codes & TOP_LEVEL).astype(np.float32)
        np.copyto(labels, watershed(heights, seeds, mask=mask), where=mask)
    return labels


def numbered(labels: Labels, min_size_px: int) -> tuple[Labels, int]:
    """Leave out what is too small, and number the rest 1..n by first pixels, row by row.

    Returns
    -------
    The new labels, and n.
    """
    ids, first, places, sizes = np.unique(
        labels, return_index=True, return_inverse=True, return_counts=True
    )
    kept = np.flatnonzero((ids > 0) & (sizes >= min_size_px))
    kept = kept[np.argsort(first[kept])]
    numbers = np.zeros(len(ids), np.int32)
    numbers[kept] = np.arange(1, len(kept) + 1)
    return numbers[places].reshape(labels.shape), len(kept)
