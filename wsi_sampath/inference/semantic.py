"""Semantic segmentation: what is kept of class probabilities, and the files that it goes into."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from wsi_sampath.inference.blend import Plane, Rows, to_bytes
from wsi_sampath.inference.durable.ledger import Arrays, Strip, under
from wsi_sampath.inference.measurements import MEASUREMENTS
from wsi_sampath.inference.plan import Run, RunPlan
from wsi_sampath.inference.stored_maps import (
    CLASS_MAP,
    count_labels,
    open_pyramid,
    plane_to_slide,
    widened,
)
from wsi_sampath.outputs.omezarr.images import ROOT
from wsi_sampath.outputs.omezarr.pyramid import PyramidWriter
from wsi_sampath.outputs.polygons.tracer import PolygonTracer, TracedPolygon
from wsi_sampath.outputs.qupath.geojson import GeoJSONWriter, PlaneObject

_TRACER = "tracer."
_STORED = ("labels", "probabilities")


@dataclass(frozen=True)
class ClassReading:
    """Class probabilities read as what is stored of them.

    The planes are ``labels``, uint8 (rows, columns), 0 where not analysed and else the class of the
    highest probability, 1..k, decided from the unrounded probabilities; ``probabilities``, uint8
    (k, rows, columns), round(255 p); and ``score``, uint8 (rows, columns), that of the winning
    class, where it is wanted.

    Parameters
    ----------
    n_classes
        Number of classes, k.
    probabilities
        Whether probabilities are kept; without them their plane has no channels.
    score
        Whether the score is wanted.
    """

    n_classes: int
    probabilities: bool = True
    score: bool = True

    @property
    def n_maps(self) -> int:
        """See `Reading`."""
        return self.n_classes

    @property
    def planes(self) -> tuple[Plane, ...]:
        """See `Reading`."""
        kept = Plane("labels"), Plane("probabilities", lead=(self._n_kept,))
        return (*kept, Plane("score")) if self.score else kept

    def blended(self, tiles: Tensor, maps: Tensor) -> Tensor:
        """See `Reading`."""
        return maps

    @property
    def _n_kept(self) -> int:
        return self.n_classes if self.probabilities else 0

    def __call__(self, sums: Tensor, weights: Tensor, analysed: Tensor) -> tuple[Tensor, ...]:
        """See `Reading`."""
        labels, best = winners(sums)
        shares = (sums[: self._n_kept], best) if self.score else (sums[: self._n_kept],)
        answers = (labels, *(to_bytes(one / weights) for one in shares))
        if not bool(analysed.all()):
            for answer in answers:
                answer.mul_(analysed)
        return answers


@dataclass
class ClassLayer:
    """Class map, probabilities and outlines of a slide, row after row.

    Parameters
    ----------
    plan
        The run's plan.
    class_names
        Names of the classes 1..k.
    pyramid
        Takes the maps.
    tracer, geojson
        Take the outlines; both None where none are wanted.
    """

    plan: RunPlan
    class_names: tuple[str, ...]
    pyramid: PyramidWriter
    tracer: PolygonTracer | None = None
    geojson: GeoJSONWriter | None = None
    seconds: dict[str, float] = field(default_factory=lambda: {"write": 0.0, "vectorise": 0.0})

    def __post_init__(self) -> None:
        self._pixels = np.zeros(len(self.class_names) + 1, np.float64)
        self.kept: Arrays = {}

    @property
    def reading(self) -> ClassReading:
        """See `Layer`."""
        return ClassReading(
            len(self.class_names),
            probabilities=bool(self.pyramid.spec.root.channels),
            score=self.tracer is not None,
        )

    @property
    def flushed(self) -> int:
        """See `Layer`."""
        return self.pyramid.flushed

    def append(self, rows: Rows) -> None:
        """See `Layer`."""
        start = time.perf_counter()
        labels = rows.planes["labels"]
        self._pixels += count_labels(labels, rows.y, self.plan, len(self.class_names))
        self.kept = {name: rows.planes[name] for name in _STORED} if labels.any() else {}
        if self.kept:
            self._store(rows.y, self.kept, 0)
        start = self._spend("write", start)
        if self.tracer is not None and self.geojson is not None:
            self.geojson.write(map(_as_object, self.tracer.append(labels, rows.planes["score"])))
        self._spend("vectorise", start)

    def finish(self) -> None:
        """See `Layer`."""
        start = time.perf_counter()
        if self.tracer is not None and self.geojson is not None:
            self.geojson.write(map(_as_object, self.tracer.finish()))
        self._spend("vectorise", start)

    def state(self) -> tuple[dict[str, Any], Arrays]:
        """See `Layer`."""
        notes = {
            "flushed": self.pyramid.flushed,
            "stored": self.pyramid.stored_digest(),
            "pixels": self._pixels.tolist(),
            "geojson": self.geojson.state() if self.geojson is not None else None,
        }
        arrays: Arrays = {}
        if self.tracer is not None:
            arrays |= {_TRACER + name: array for name, array in self.tracer.state().items()}
        return notes, arrays

    def restore(self, last: Strip, kept: Iterator[Strip]) -> None:
        """See `Layer`."""
        flushed = self.pyramid.flushed
        for strip in kept:
            if "labels" in strip.arrays:
                self._store(strip.notes["y"], strip.arrays, flushed)
        self._pixels[:] = last.notes["pixels"]
        if self.tracer is not None:
            self.tracer = PolygonTracer.from_state(under(_TRACER, last.arrays))

    def areas_mm2(self) -> dict[str, float]:
        """Return the area of every class so far."""
        um_x, um_y = self.plan.um_per_px
        return {
            name: float(count) * um_x * um_y * 1e-6
            for name, count in zip(self.class_names, self._pixels[1:], strict=True)
        }

    def results(self) -> dict[str, Any]:
        """See `Layer`."""
        geojson, found = self.geojson, None
        if geojson is not None:
            # Less than the map's, by what was left out of the polygons.
            found = {name: area * 1e-6 for name, area in geojson.areas_um2.items()}
        return {
            "polygons": None if geojson is None else geojson.count,
            "polygon_area_mm2": found,
            "area_mm2": self.areas_mm2(),
        }

    def analysed_mm2(self) -> float:
        """See `Layer`."""
        return sum(self.areas_mm2().values())

    def warnings(self) -> tuple[str, ...]:
        """See `Layer`."""
        warning = self.geojson.warning() if self.geojson is not None else None
        return () if warning is None else (warning,)

    def publish(self, attributes: dict[str, Any]) -> dict[str, Any]:
        """See `Layer`."""
        return self.pyramid.finish(attributes)

    def _store(self, y: int, arrays: Arrays, flushed: int) -> None:
        skip = max(0, flushed - y)
        labels = arrays["labels"][skip:]
        if len(labels):
            image = arrays["probabilities"][:, skip:] if self.pyramid.spec.root.channels else labels
            self.pyramid.append(CLASS_MAP, y + skip, widened(labels, self.plan))
            self.pyramid.append(ROOT, y + skip, widened(image, self.plan))

    def _spend(self, stage: str, start: float) -> float:
        now = time.perf_counter()
        self.seconds[stage] += now - start
        return now


@contextmanager
def open_class_layer(run: Run, last: Strip | None) -> Iterator[ClassLayer]:
    """Open zarr, GeoJSON and tracer of a run; the GeoJSON is complete when the block ends.

    Parameters
    ----------
    run
        The run; its output is claimed.
    last
        The strip after which it resumes; None for a new run.
    """
    pyramid = open_pyramid(run, last)
    names = tuple(one.name for one in run.model.spec.classes)
    with _polygons(run, last) as geojson:
        tracer = _tracer(run, len(names)) if geojson is not None else None
        yield ClassLayer(run.plan, names, pyramid, tracer, geojson)


def _tracer(run: Run, n_classes: int) -> PolygonTracer:
    tolerance = run.settings.simplify_um / max(run.plan.um_per_px)
    return PolygonTracer(run.plan.grid.window.width, largest_label=n_classes, simplify=tolerance)


def _polygons(run: Run, last: Strip | None) -> GeoJSONWriter | nullcontext[None]:
    if run.files.geojson is None:
        return nullcontext()
    work = run.files.work
    return GeoJSONWriter(
        work.polygons,
        classes=run.model.spec.classes,
        transform=plane_to_slide(run),
        namespace=run.identity["run_id"],
        measurements=tuple(MEASUREMENTS),
        run=run.identity["run_id"],
        growing=work.growing_polygons,
        name=run.files.geojson.name,
        min_area_um2=run.settings.min_area_um2,
        resume=None if last is None else last.notes["geojson"],
    )


def _as_object(region: TracedPolygon) -> PlaneObject:
    values = tuple(measure(region) for measure in MEASUREMENTS.values())
    return PlaneObject(region.label, region.polygon, values)


def winners(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Return the best class of every pixel, uint8 from 1, the first of equals, and its score.

    Parameters
    ----------
    scores
        float32 (classes, rows, columns), not negative.
    """
    if scores.device.type == "cpu":
        # The same arithmetic: numpy compares several times faster than torch on a processor.
        labels, best = _winners(scores.numpy(), np)
        return torch.from_numpy(labels), torch.from_numpy(best)
    return cast(tuple[Tensor, Tensor], _winners(scores, torch))


def _winners(scores: Any, library: Any) -> tuple[Any, Any]:
    best = scores[0] * 1
    winner = library.zeros_like(best, dtype=library.uint8)
    for index, one in enumerate(scores[1:], start=1):
        # A later winner has a larger index, so that the largest one that ever led is the last.
        library.maximum(winner, (one > best).view(library.uint8) * index, out=winner)
        library.maximum(best, one, out=best)
    winner += 1
    return winner, best
