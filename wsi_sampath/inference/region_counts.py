"""Nuclei counted by the classes of the areas that were drawn as tissue."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from wsi_sampath.inference.plan import Run
from wsi_sampath.outputs.nuclei.found import FoundNuclei
from wsi_sampath.outputs.qupath.geojson import PlaneToSlide
from wsi_sampath.slides.regions.drawn import is_drawn, read_tissue_areas


class RegionCounts:
    """Counts of nuclei by class of region and class of nucleus; a nucleus is where its centroid is.

    Parameters
    ----------
    names
        Classes of the regions.
    areas
        Polygon or MultiPolygon of each, in level-0 pixels as QuPath counts them.
    n_classes
        Classes of nuclei, k.
    transform
        From the plane to those pixels.
    counts
        int64 (regions, k): what was counted before; None for nothing.
    """

    def __init__(
        self,
        names: Sequence[str],
        areas: Sequence[shapely.Geometry],
        n_classes: int,
        transform: PlaneToSlide,
        counts: NDArray[np.int64] | None = None,
    ) -> None:
        self._names, self._areas, self._transform = list(names), list(areas), transform
        self._counts = np.zeros((len(areas), n_classes), np.int64) if counts is None else counts
        for area in self._areas:
            shapely.prepare(area)

    @classmethod
    def of(cls, run: Run, transform: PlaneToSlide, counts: Any = None) -> RegionCounts:
        """Return the counter of a run; it has no regions where none with a class were drawn."""
        mask, n_classes = Path(run.settings.tissue), len(run.model.spec.classes)
        regions = _regions(mask) if run.settings.tissue not in ("otsu", "none") else {}
        before = None if counts is None else np.array(counts, np.int64).reshape(-1, n_classes)
        return cls([*regions], [*regions.values()], n_classes, transform, before)

    def add(self, found: FoundNuclei) -> None:
        """Count nuclei."""
        to_slide = self._transform
        x = found.x * to_slide.scale_x + to_slide.offset_x
        y = found.y * to_slide.scale_y + to_slide.offset_y
        for region, area in zip(self._counts, self._areas, strict=True):
            labels = found.label[shapely.intersects_xy(area, x, y)]
            region += np.bincount(labels, minlength=len(region) + 1)[1:]

    def notes(self) -> list[list[int]]:
        """Return JSON values, from which `of` goes on."""
        counts: list[list[int]] = self._counts.tolist()
        return counts

    def results(self, class_names: Sequence[str]) -> dict[str, Any]:
        """Return area and counts by region."""
        um2 = self._transform.um2_per_pixel
        return {
            name: {
                "area_mm2": area.area * um2 * 1e-6,
                "nuclei": dict(zip(class_names, counts, strict=True)),
            }
            for name, area, counts in zip(
                self._names, self._areas, self._counts.tolist(), strict=True
            )
        }


def _regions(mask: Path) -> dict[str, shapely.Geometry]:
    """Return the areas of each class of a drawing, without what is to be cut out."""
    if not is_drawn(mask):
        return {}
    drawn, _ = read_tissue_areas(mask)
    holes = shapely.union_all([one.area for one in drawn if one.is_cut_out])
    named: dict[str, list[shapely.Geometry]] = {}
    for one in drawn:
        if one.name and not one.is_ignored:
            named.setdefault(one.name, []).append(one.area)
    return {
        name: shapely.difference(shapely.union_all(areas), holes) for name, areas in named.items()
    }
