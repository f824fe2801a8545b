"""The files that hold nuclei one by one, and what is counted of them on the way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_sampath.inference.plan import Run
from wsi_sampath.inference.region_counts import RegionCounts
from wsi_sampath.inference.stored_maps import plane_to_slide
from wsi_sampath.outputs.belonging import content_of
from wsi_sampath.outputs.nuclei.columns import TableInfo
from wsi_sampath.outputs.nuclei.detections import DETECTION_MEASUREMENTS, detections
from wsi_sampath.outputs.nuclei.found import FoundNuclei, NucleusSpec, found_nuclei
from wsi_sampath.outputs.nuclei.parquet import NucleusTableWriter
from wsi_sampath.outputs.nuclei.patch import NucleusPatch
from wsi_sampath.outputs.nuclei.placed import place
from wsi_sampath.outputs.qupath.geojson import GeoJSONWriter, PlaneToSlide

AREA_EDGES_UM2 = tuple(range(0, 160, 10))
"""Bins of the areas in the report; the last one is open."""


@dataclass
class NucleusCounts:
    """What has been found so far, in whole numbers, so that its order cannot matter.

    Attributes
    ----------
    nuclei, pixels
        int64 (k,), by class.
    areas
        int64 (k, bins), by class and bin of `AREA_EDGES_UM2`.
    """

    nuclei: NDArray[np.int64]
    pixels: NDArray[np.int64]
    areas: NDArray[np.int64]

    @classmethod
    def of(cls, n_classes: int, notes: Mapping[str, Any] | None = None) -> NucleusCounts:
        """Return the counts of nothing, or those that `notes` returned once."""
        if notes is not None:
            return cls(*(np.array(notes[name], np.int64) for name in ("nuclei", "pixels", "areas")))
        none = np.zeros(n_classes, np.int64)
        return cls(none, none.copy(), np.zeros((n_classes, len(AREA_EDGES_UM2)), np.int64))

    def add(self, found: FoundNuclei) -> None:
        """Count nuclei."""
        index = found.label.astype(np.int64) - 1
        bins = np.searchsorted(AREA_EDGES_UM2, found.area_um2, side="right") - 1
        np.add.at(self.nuclei, index, 1)
        np.add.at(self.pixels, index, found.pixels)
        np.add.at(self.areas, (index, bins), 1)

    def notes(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "nuclei": self.nuclei.tolist(),
            "pixels": self.pixels.tolist(),
            "areas": self.areas.tolist(),
        }


@dataclass
class NucleusFiles:
    """Table and GeoJSON of nuclei, as they are found.

    Parameters
    ----------
    run
        The run.
    spec, transform
        How they are measured, and where they lie on the slide.
    table, geojson
        Where they are written; `geojson` is None where no GeoJSON is wanted.
    counts, regions
        What was found before, in all and by drawn region.
    """

    run: Run
    spec: NucleusSpec
    transform: PlaneToSlide
    table: NucleusTableWriter
    geojson: GeoJSONWriter | None
    counts: NucleusCounts
    regions: RegionCounts

    def write(self, patches: Sequence[NucleusPatch]) -> NDArray[np.uint8]:
        """Write nuclei, and return their classes 1..k, uint8 (n,), in the order of their ids."""
        found = found_nuclei(patches, self.spec)
        self.counts.add(found)
        self.regions.add(found)
        placed = place(found, self.transform)
        self.table.write(placed)
        if self.geojson is not None:
            self.geojson.write_on_slide(detections(placed))
        return found.label[np.argsort(found.id)]

    def state(self) -> dict[str, Any]:
        """Return JSON notes, enough to go on from."""
        return {
            "geojson": None if self.geojson is None else self.geojson.state(),
            "table": self.table.state(),
            "counts": self.counts.notes(),
            "regions": self.regions.notes(),
        }

    def results(self, class_names: Sequence[str], analysed_mm2: float) -> dict[str, Any]:
        """Return what was found, for the attribute of the result; the files are closed."""
        counts, geojson, files = self.counts, self.geojson, self.run.files
        um2 = self.spec.um_x * self.spec.um_y
        nuclei = dict(zip(class_names, counts.nuclei.tolist(), strict=True))
        areas = zip(class_names, counts.areas.tolist(), strict=True)
        found = None
        if geojson is not None:
            found = {name: area * 1e-6 for name, area in geojson.areas_um2.items()}
        return {
            "polygons": None if geojson is None else geojson.count,
            "polygon_area_mm2": found,
            "area_mm2": {
                name: pixels * um2 * 1e-6
                for name, pixels in zip(class_names, counts.pixels.tolist(), strict=True)
            },
            "nuclei": nuclei,
            "nuclei_per_mm2": {
                name: n / analysed_mm2 if analysed_mm2 else 0.0 for name, n in nuclei.items()
            },
            "nuclei_by_region": self.regions.results(class_names),
            "nucleus_areas": {"edges_um2": list(AREA_EDGES_UM2), "nuclei": dict(areas)},
            "nuclei_table": None if files.nuclei is None else files.nuclei.name,
            "nuclei_content": content_of(files.work.nuclei),
        }

    def warnings(self) -> tuple[str, ...]:
        """Return sentences for the user about the files."""
        warning = None if self.geojson is None else self.geojson.warning()
        return () if warning is None else (warning,)


@contextmanager
def open_nucleus_files(run: Run, notes: Mapping[str, Any] | None) -> Iterator[NucleusFiles]:
    """Open table and GeoJSON of a run; they are complete when the block ends.

    Parameters
    ----------
    run
        The run; its output is claimed.
    notes
        What `NucleusFiles.state` said when an earlier run stopped; None for a new one.
    """
    classes, transform, plan = run.model.spec.classes, plane_to_slide(run), run.plan
    um_x, um_y = plan.um_per_px
    spec = NucleusSpec(um_x, um_y, len(classes), run.settings.simplify_um / max(um_x, um_y))
    before = notes or {}
    with ExitStack() as files:
        table = files.enter_context(_table(run, before.get("table")))
        geojson = None
        if run.files.geojson is not None:
            geojson = files.enter_context(_detections(run, transform, before.get("geojson")))
        yield NucleusFiles(
            run,
            spec,
            transform,
            table,
            geojson,
            NucleusCounts.of(len(classes), before.get("counts")),
            RegionCounts.of(run, transform, before.get("regions")),
        )


def _table(run: Run, resume: Mapping[str, Any] | None) -> NucleusTableWriter:
    slide, work = run.slide, run.files.work
    offset_x, offset_y = slide.bounds_offset
    info = TableInfo(
        run=run.identity["run_id"],
        slide=slide.path.name,
        mpp=(slide.mpp.x, slide.mpp.y),
        classes=run.model.spec.classes,
        bounds_offset=(float(offset_x), float(offset_y)),
    )
    return NucleusTableWriter(work.nuclei, info=info, growing=work.growing_nuclei, resume=resume)


def _detections(
    run: Run, transform: PlaneToSlide, resume: Mapping[str, Any] | None
) -> GeoJSONWriter:
    work, files = run.files.work, run.files
    return GeoJSONWriter(
        work.polygons,
        classes=run.model.spec.classes,
        transform=transform,
        namespace=run.identity["run_id"],
        measurements=DETECTION_MEASUREMENTS,
        object_type="detection",
        run=run.identity["run_id"],
        growing=work.growing_polygons,
        name=None if files.geojson is None else files.geojson.name,
        min_area_um2=run.settings.min_area_um2,
        resume=resume,
    )
