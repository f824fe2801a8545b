"""The last stage: blend, decide, write, vectorise. Runs in one thread, strip after strip."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from wsi_sampath.inference.blend import Strip, StripBlender
from wsi_sampath.inference.plan import RunPlan
from wsi_sampath.inference.semantic import ClassRows, classify
from wsi_sampath.outputs.geojson import GeoJSONWriter
from wsi_sampath.outputs.polygons import PolygonTracer
from wsi_sampath.outputs.pyramid import PyramidWriter
from wsi_sampath.slides.grid import mask_rows
from wsi_sampath.slides.stream import Tile


@dataclass(frozen=True)
class Answers:
    """Tiles and their class probabilities, float32 (n, classes, tile, tile)."""

    tiles: tuple[Tile, ...]
    probabilities: NDArray[np.float32]


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
    tracer, geojson
        Take the polygons; both None where none are wanted.
    """

    plan: RunPlan
    n_classes: int
    pyramid: PyramidWriter
    tracer: PolygonTracer | None = None
    geojson: GeoJSONWriter | None = None
    seconds: dict[str, float] = field(
        default_factory=lambda: {"blend": 0.0, "write": 0.0, "vectorise": 0.0}
    )

    def __post_init__(self) -> None:
        self._blender = StripBlender(self.plan.grid, self.n_classes)
        self._row = 0
        self.pixels = np.zeros(self.n_classes + 1, np.int64)

    def take(self, answers: Answers) -> None:
        """Add a batch of answers; batches come in grid order."""
        for tile, probabilities in zip(answers.tiles, answers.probabilities, strict=True):
            while self._row < tile.row:
                self._finish_row()
            start = time.perf_counter()
            self._blender.add(tile.row, tile.column, probabilities)
            self._spend("blend", start)

    def finish(self) -> None:
        """Complete all rows and polygons; the files stay open."""
        while self._row < len(self.plan.grid.ys):
            self._finish_row()
        if self.tracer is not None and self.geojson is not None:
            start = time.perf_counter()
            self.geojson.write(self.tracer.finish())
            self._spend("vectorise", start)

    def _finish_row(self) -> None:
        start = time.perf_counter()
        strip = self._blender.finish_row(self._row)
        rows = classify(strip, self._tissue(strip))
        self.pixels += np.bincount(rows.labels.ravel(), minlength=self.n_classes + 1)
        start = self._spend("blend", start)
        if rows.labels.any():
            self._write(rows)
        start = self._spend("write", start)
        if self.tracer is not None and self.geojson is not None:
            self.geojson.write(self.tracer.append(rows.labels, rows.score))
        self._spend("vectorise", start)
        self._row += 1

    def _tissue(self, strip: Strip) -> NDArray[np.bool_]:
        grid = self.plan.grid
        rows = (strip.y, strip.y + strip.covered.shape[0])
        columns = (grid.window.x, grid.window.x + grid.window.width)
        return mask_rows(self.plan.tissue, rows, columns, (grid.height, grid.width))

    def _write(self, rows: ClassRows) -> None:
        self.pyramid.append(rows.y, self._widen(rows.labels), self._widen(rows.probabilities))

    def _widen(self, rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
        grid = self.plan.grid
        if rows.shape[-1] == grid.width:
            return rows
        wide = np.zeros((*rows.shape[:-1], grid.width), np.uint8)
        wide[..., grid.window.x : grid.window.x + grid.window.width] = rows
        return wide

    def _spend(self, stage: str, start: float) -> float:
        now = time.perf_counter()
        self.seconds[stage] += now - start
        return now
