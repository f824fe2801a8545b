"""The last stage: blend, decide, write, vectorise, and make it durable, strip after strip."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsi_sampath.inference.blend import ClassRows, StripBlender
from wsi_sampath.inference.cuda import Handover
from wsi_sampath.inference.durable.ledger import Arrays, Ledger, Strip
from wsi_sampath.inference.plan import RunPlan
from wsi_sampath.inference.summary import Tally
from wsi_sampath.outputs.omezarr.images import ROOT
from wsi_sampath.outputs.omezarr.pyramid import PyramidWriter
from wsi_sampath.outputs.polygons.tracer import PolygonTracer, TracedPolygon
from wsi_sampath.outputs.qupath.geojson import GeoJSONWriter, PlaneObject
from wsi_sampath.slides.grid import mask_rows
from wsi_sampath.slides.stream import Tile

CLASS_MAP = "labels/classes"
MEASUREMENTS = ("Mean probability",)
_TRACER = "tracer."


@dataclass(frozen=True)
class Answers:
    """Tiles and what the network says of them, on the device.

    Attributes
    ----------
    tiles
        n tiles.
    probabilities
        float32 (n, classes, tile, tile).
    finite
        bool (n,): where not, the tile counts as failed.
    """

    tiles: tuple[Tile, ...]
    probabilities: Handover
    finite: Handover


@dataclass
class MapSink:
    """Gather tile answers into the zarr and the GeoJSON.

    Parameters
    ----------
    plan
        The run.
    n_classes
        Number of classes.
    pyramid
        Takes the maps.
    ledger, tally
        Where finished strips are made durable, with the failures up to them.
    tracer, geojson
        Take the polygons; both None where none are wanted.
    device
        Where the answers are, and are blended.
    """

    plan: RunPlan
    n_classes: int
    pyramid: PyramidWriter
    ledger: Ledger
    tally: Tally
    tracer: PolygonTracer | None = None
    geojson: GeoJSONWriter | None = None
    device: str | torch.device = "cpu"
    seconds: dict[str, float] = field(
        default_factory=lambda: {"blend": 0.0, "write": 0.0, "vectorise": 0.0, "save": 0.0}
    )

    def __post_init__(self) -> None:
        self._blender = StripBlender(
            self.plan.grid,
            self.n_classes,
            device=self.device,
            probabilities=bool(self.pyramid.spec.root.channels),
        )
        self._row = 0
        self.pixels = np.zeros(self.n_classes + 1, np.float64)

    def restore(self, last: Strip, kept: Iterator[Strip]) -> None:
        """Go on after the strip `last`; `kept` are the strips whose rows the zarr may lack."""
        flushed = self.pyramid.flushed
        for strip in kept:
            if "labels" in strip.arrays:
                self._append(strip.notes["y"], strip.arrays, flushed)
        self._blender.restore(last.arrays["sums"], last.arrays["weights"])
        self.pixels[:] = last.notes["pixels"]
        self._row = last.row + 1
        if self.tracer is not None:
            state = {
                name.removeprefix(_TRACER): array
                for name, array in last.arrays.items()
                if name.startswith(_TRACER)
            }
            self.tracer = PolygonTracer.from_state(state)

    def take(self, answers: Answers) -> None:
        """Add a batch of answers; batches come in grid order."""
        all_probabilities = answers.probabilities.take()
        all_finite = answers.finite.take().tolist()
        for tile, probabilities, finite in zip(
            answers.tiles, all_probabilities, all_finite, strict=True
        ):
            while self._row < tile.row:
                self._finish_row()
            self._add(tile, probabilities, finite=finite)

    def _add(self, tile: Tile, probabilities: Tensor, *, finite: bool) -> None:
        if not finite:
            self.tally.failed.append((tile, "the network's answer is not finite"))
            return
        start = time.perf_counter()
        self._blender.add(tile.row, tile.column, probabilities)
        self.tally.analysed += 1
        self._spend("blend", start)

    def finish(self) -> None:
        """Complete all rows and polygons; the files stay open."""
        while self._row < len(self.plan.grid.ys):
            self._finish_row()
        if self.tracer is not None and self.geojson is not None:
            start = time.perf_counter()
            self.geojson.write(map(_as_object, self.tracer.finish()))
            self._spend("vectorise", start)

    def _finish_row(self) -> None:
        start = time.perf_counter()
        rows = self._blender.finish_row(self._row, self._tissue())
        self.pixels += self._count(rows)
        start = self._spend("blend", start)
        arrays = _maps(rows)
        if arrays:
            self._append(rows.y, arrays, 0)
        start = self._spend("write", start)
        if self.tracer is not None and self.geojson is not None:
            self.geojson.write(map(_as_object, self.tracer.append(rows.labels, rows.score)))
        start = self._spend("vectorise", start)
        self._save(rows.y, arrays)
        self._spend("save", start)
        self._row += 1

    def _count(self, rows: ClassRows) -> NDArray[np.float64]:
        """Count the pixels of every class; at the slide's edges, the parts that lie on it."""
        grid, (share_x, share_y) = self.plan.grid, self.plan.shares_at_edge
        window = grid.window
        counts = _count_labels(rows.labels, self.n_classes)
        ends_x = window.x + window.width == grid.width
        ends_y = rows.y + len(rows.labels) == grid.height
        if ends_x:
            counts -= (1 - share_x) * _count_labels(rows.labels[:, -1:], self.n_classes)
        if ends_y:
            counts -= (1 - share_y) * _count_labels(rows.labels[-1:], self.n_classes)
        if ends_x and ends_y:
            corner = _count_labels(rows.labels[-1:, -1:], self.n_classes)
            counts += (1 - share_x) * (1 - share_y) * corner
        return counts

    def _tissue(self) -> NDArray[np.bool_]:
        grid = self.plan.grid
        columns = (grid.window.x, grid.window.x + grid.window.width)
        plane = (grid.height, grid.width)
        return mask_rows(self.plan.tissue, grid.strip_rows(self._row), columns, plane)

    def _append(self, y: int, arrays: Arrays, flushed: int) -> None:
        skip = max(0, flushed - y)
        labels = arrays["labels"][skip:]
        if len(labels):
            image = arrays["probabilities"][:, skip:] if self.pyramid.spec.root.channels else labels
            self.pyramid.append(CLASS_MAP, y + skip, self._widen(labels))
            self.pyramid.append(ROOT, y + skip, self._widen(image))

    def _widen(self, rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
        grid = self.plan.grid
        if rows.shape[-1] == grid.width:
            return rows
        wide = np.zeros((*rows.shape[:-1], grid.width), np.uint8)
        wide[..., grid.window.x : grid.window.x + grid.window.width] = rows
        return wide

    def _save(self, y: int, arrays: Arrays) -> None:
        sums, weights = self._blender.carry()
        state: Arrays = {**arrays, "sums": sums, "weights": weights}
        if self.tracer is not None:
            state |= {_TRACER + name: array for name, array in self.tracer.state().items()}
        notes: dict[str, Any] = {
            "y": y,
            "flushed": self.pyramid.flushed,
            "stored": self.pyramid.stored_digest(),
            "pixels": self.pixels.tolist(),
            "failed": self.tally.notes(self._row),
            "geojson": self.geojson.state() if self.geojson is not None else None,
        }
        self.ledger.save(Strip(self._row, notes, state), keep_from=self._first_row_not_on_disk())

    def _first_row_not_on_disk(self) -> int:
        grid, flushed = self.plan.grid, self.pyramid.flushed
        rows = (row for row in range(self._row) if grid.strip_rows(row)[1] > flushed)
        return next(rows, self._row)

    def _spend(self, stage: str, start: float) -> float:
        now = time.perf_counter()
        self.seconds[stage] += now - start
        return now


def _count_labels(labels: NDArray[np.uint8], n_classes: int) -> NDArray[np.float64]:
    # Several comparisons of bytes are ten times faster than one bincount.
    return np.array([np.count_nonzero(labels == one) for one in range(n_classes + 1)], np.float64)


def _as_object(region: TracedPolygon) -> PlaneObject:
    return PlaneObject(region.label, region.polygon, (region.mean_score / 255,))


def _maps(rows: ClassRows) -> Arrays:
    if not rows.labels.any():
        return {}
    return {"labels": rows.labels, "probabilities": rows.probabilities}
