"""Nuclei on the slide: what the table and QuPath's file have in common."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from wsi_sampath.errors import WsiError
from wsi_sampath.outputs.nuclei.found import FoundNuclei
from wsi_sampath.outputs.nuclei.outlines import Outlines, as_shapes
from wsi_sampath.outputs.qupath.slide_shapes import LEAST_AREA_PX, PlaneToSlide, mended_shape

Shapes = NDArray[np.object_]
_LEAST_SCALE = 0.05


@dataclass(frozen=True)
class PlacedNuclei:
    """Nuclei with their places on the slide.

    Attributes
    ----------
    found
        What was measured.
    centers_px
        float64 (n, 2) centroids, x and y in level-0 pixels.
    shapes
        (n,) shapely Polygon or MultiPolygon, valid, in level-0 pixels with 2 decimals. Nothing of
        them lies beyond the slide, but for nuclei of which nothing else would be left.
    """

    found: FoundNuclei
    centers_px: NDArray[np.float64]
    shapes: Shapes

    def __len__(self) -> int:
        return len(self.found)


def place(found: FoundNuclei, transform: PlaneToSlide) -> PlacedNuclei:
    """Bring nuclei to where they lie on the slide; every one keeps an outline.

    Raises
    ------
    WsiError
        ``bad-input`` where a plane pixel is so small that rounding would merge several.
    """
    scale = np.array([transform.scale_x, transform.scale_y])
    if not scale.min() >= _LEAST_SCALE:
        message = f"a plane pixel of {scale.min()} level-0 px is too small for outlines"
        raise WsiError("bad-input", message)
    offset = np.array([transform.offset_x, transform.offset_y])
    centers = np.stack([found.x, found.y], axis=1) * scale + offset
    outlines = found.outlines
    shapes = as_shapes(transform.points_to_slide(outlines.points), outlines)
    limit = np.array([transform.limit_x, transform.limit_y])
    is_inside = bool((outlines.points * scale + offset <= limit).all())
    # Sides of pixels keep their order on the slide unless some fall together at its edge.
    if not (is_inside and outlines.follow_pixels()):
        sound = shapely.is_valid(shapes) & (shapely.area(shapes) >= LEAST_AREA_PX)
        for index in np.flatnonzero(~sound).tolist():
            one = outlines.take(np.array([index]))
            shapes[index : index + 1] = _mended(shapes[index], one, transform)
    return PlacedNuclei(found, centers, shapes)


def _mended(broken: shapely.Geometry, outlines: Outlines, transform: PlaneToSlide) -> Shapes:
    """Return a sound shape for a nucleus that rounding broke, or that all but lies beside."""
    shape = mended_shape(broken)
    if shape is None:
        return as_shapes(transform.points_to_slide(outlines.points, clip=False), outlines)
    return np.array([shape])
