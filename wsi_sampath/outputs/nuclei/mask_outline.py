"""The outline of a single mask on the slide, along the sides of its pixels."""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray

from wsi_sampath.outputs.nuclei.canvas import paste
from wsi_sampath.outputs.nuclei.parts import find_parts
from wsi_sampath.outputs.nuclei.patch import NucleusPatch


def outline_of_mask(
    mask: NDArray[np.bool_], *, origin: tuple[float, float], scale: tuple[float, float]
) -> shapely.Geometry | None:
    """Outline a mask, exactly: the outline's area is that of the mask's pixels.

    Parameters
    ----------
    mask
        bool (h, w).
    origin
        Level-0 px, x and y, at which the corner of its first pixel lies.
    scale
        Level-0 px in one of its pixels, along x and along y; both above 0.

    Returns
    -------
    Polygon or MultiPolygon
        Valid, in level-0 px: a part for each 4-connected piece, with its holes. None for a mask
        without a pixel.

    Examples
    --------
    >>> outline = outline_of_mask(np.ones((2, 3), bool), origin=(100, 50), scale=(4, 4))
    >>> outline.bounds, outline.area
    ((100.0, 50.0, 112.0, 58.0), 96.0)
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if len(rows) == 0:
        return None
    y, x = int(rows[0]), int(columns[0])
    labels = mask[y : rows[-1] + 1, x : columns[-1] + 1].astype(np.uint32)
    patch = NucleusPatch(y, x, labels, np.zeros((1, *labels.shape), np.uint8))
    canvas = paste([patch])
    outline = find_parts(canvas).outlines(canvas.shift).shapes()[0]
    return shapely.transform(outline, lambda xy: xy * np.array(scale) + np.array(origin))
