"""Plane polygons in slide coordinates: scaled, rounded, freed of small holes, and still valid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from wsi_sampath.outputs.polygons.ragged import offsets_of
from wsi_sampath.outputs.polygons.runs import Ints

DECIMALS = 2
# two cells of the grid: QuPath may lose anything smaller
LEAST_AREA_PX = 2 * 10.0 ** (-2 * DECIMALS)
Shapes = NDArray[np.object_]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PlaneToSlide:
    """Where plane pixels lie on the slide.

    Attributes
    ----------
    scale_x, scale_y
        Level-0 pixels in one plane pixel.
    offset_x, offset_y
        Level-0 pixel at which the plane's corner lies, the slide's bounds already subtracted.
    mpp_x, mpp_y
        Micrometers in one level-0 pixel.
    limit_x, limit_y
        Right and lower edge of the slide, counted as the offsets are: the last pixels of the plane
        may reach beyond, the polygons do not.
    """

    scale_x: float
    scale_y: float
    offset_x: float
    offset_y: float
    mpp_x: float
    mpp_y: float
    limit_x: float = np.inf
    limit_y: float = np.inf

    @property
    def um2_per_pixel(self) -> float:
        """Area of a level-0 pixel in square micrometers."""
        return self.mpp_x * self.mpp_y

    def to_slide(self, polygons: Shapes) -> tuple[Shapes, Ints]:
        """Bring polygons to level-0 pixels, rounded to 2 decimals and valid.

        Parameters
        ----------
        polygons
            (n,) polygons in plane pixels.

        Returns
        -------
        polygons, source
            (m,) valid polygons and (m,) the index of the one each comes from. A polygon that
            rounding breaks is mended, which may split it; one that all but vanishes is left out.
        """
        shapes, source = _mend(shapely.transform(polygons, self.points_to_slide))
        large = shapely.area(shapes) >= LEAST_AREA_PX
        return shapes[large], source[large]

    def points_to_slide(self, points: NDArray[Any], *, clip: bool = True) -> Floats:
        """Bring (n, 2) points, x and y, to level-0 pixels, rounded to 2 decimals.

        Parameters
        ----------
        points
            In plane pixels.
        clip
            Whether those beyond the slide's right and lower edge are brought back to it.
        """
        moved = points * np.array([self.scale_x, self.scale_y])
        moved += np.array([self.offset_x, self.offset_y])
        if clip:
            moved = np.minimum(moved, np.array([self.limit_x, self.limit_y]))
        # adding zero turns -0.0 into 0.0
        rounded: Floats = np.round(moved, DECIMALS) + 0.0
        return rounded


def fill_small_holes(polygons: Shapes, min_area: float) -> Shapes:
    """Fill the holes whose area is below `min_area`.

    Parameters
    ----------
    polygons
        (n,) polygons.
    min_area
        In the square unit of their coordinates.
    """
    rings, owner = shapely.get_rings(polygons, return_index=True)
    is_shell = np.diff(owner, prepend=-1) > 0
    kept = is_shell | (shapely.area(shapely.polygons(rings)) >= min_area)
    if kept.all():
        return polygons
    rings, owner = rings[kept], owner[kept]
    filled: Shapes = shapely.from_ragged_array(
        shapely.GeometryType.POLYGON,
        shapely.get_coordinates(rings),
        (
            offsets_of(shapely.get_num_coordinates(rings)),
            offsets_of(np.bincount(owner, minlength=len(polygons))),
        ),
    )
    return filled


def _mend(polygons: Shapes) -> tuple[Shapes, Ints]:
    """Replace invalid polygons by equivalent valid, rounded ones."""
    source = np.arange(len(polygons))
    valid = shapely.is_valid(polygons)
    if valid.all():
        return polygons, source
    collected = [polygons[valid]]
    sources = [source[valid]]
    for broken in np.flatnonzero(~valid):
        parts = mended_parts(polygons[broken])
        collected.append(parts)
        sources.append(np.full(len(parts), broken))
    source = np.concatenate(sources)
    order = np.argsort(source, kind="stable")
    return np.concatenate(collected)[order], source[order]


def mended_parts(broken: shapely.Geometry) -> Shapes:
    """Return the valid, rounded polygons that an invalid shape covers; there may be none."""
    grid = 10.0**-DECIMALS
    snapped = shapely.set_precision(shapely.make_valid(broken), grid)
    parts = shapely.get_parts(shapely.get_parts(snapped))
    parts = parts[shapely.get_type_id(parts) == shapely.GeometryType.POLYGON]
    parts = shapely.transform(parts, lambda points: np.round(points, DECIMALS) + 0.0)
    sound: Shapes = parts[shapely.is_valid(parts)]
    return sound


def mended_shape(broken: shapely.Geometry) -> shapely.Geometry | None:
    """Return the valid, rounded Polygon or MultiPolygon that an invalid shape covers.

    None where next to nothing is left of it.
    """
    parts = mended_parts(broken)
    parts = parts[shapely.area(parts) >= LEAST_AREA_PX]
    if len(parts) == 0:
        return None
    together = shapely.union_all(parts, grid_size=10.0**-DECIMALS)
    return shapely.transform(together, lambda points: np.round(points, DECIMALS) + 0.0)
