"""One claimed slide: through the network, then into its files, perhaps in another thread."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from wsi_sampath.inference.durable.ledger import Strip
from wsi_sampath.inference.opening import classes_of, open_sink, pyramid_spec
from wsi_sampath.inference.plan import RunFiles, RunPlan, plan_tiling
from wsi_sampath.inference.predicting import check_bad_tiles, predict_all
from wsi_sampath.inference.predictor import Predictor
from wsi_sampath.inference.reporting import report_slide
from wsi_sampath.inference.settings import SegmentSettings
from wsi_sampath.inference.strips import MapSink
from wsi_sampath.inference.summary import (
    Tally,
    areas_mm2,
    costs,
    coverage,
    describe,
    polygon_areas_mm2,
    tile_counts,
)
from wsi_sampath.models.network import LoadedModel
from wsi_sampath.outputs.belonging import content_of
from wsi_sampath.outputs.omezarr.pyramid import stored_rows
from wsi_sampath.progress import Progress
from wsi_sampath.shown import plural
from wsi_sampath.slides.slide import Slide
from wsi_sampath.slides.stream import TileStream


def make_predictor(model: LoadedModel, settings: SegmentSettings) -> Predictor:
    """Make what runs the network; one serves all slides of a batch.

    Raises
    ------
    UsageError
        Where tile and output do not fit each other, or the device is not there.
    """
    tile, _, stride = plan_tiling(model.spec, settings)
    return Predictor(
        model,
        tile_px=tile,
        output_px=tile // stride,
        device=settings.device,
        precision=settings.precision,
        batch_size=settings.batch_size,
        compile=settings.compile,
    )


@dataclass
class SlideRun:
    """A slide under way: `analyse`, then `finish`.

    Parameters
    ----------
    slide, model, settings, files, identity, plan
        The run; the output is claimed.
    started
        When it began, by `time.perf_counter`.
    progress
        Told about its course.
    """

    slide: Slide
    model: LoadedModel
    settings: SegmentSettings
    files: RunFiles
    identity: dict[str, Any]
    plan: RunPlan
    started: float
    progress: Progress
    seconds: dict[str, float] = field(default_factory=dict)

    def analyse(self, predictor: Predictor) -> None:
        """Put all tiles through the network; blending, writing and vectorising go on beside it.

        Raises
        ------
        WsiError
            As of `segment_slide`. What was finished stays in the ledger.
        """
        last = self._begin()
        self._predictor = predictor
        self._stream = TileStream(
            self.slide,
            self.plan.sampling,
            self.plan.grid,
            batch_size=predictor.batch_size,
            workers=self.settings.workers,
            first_row=0 if last is None else last.row + 1,
        )
        for warning in self._warnings():
            self.progress.warn(warning)
        if self._tally.analysed:
            done, whole = self._tally.analysed, plural(self.plan.grid.n_tiles, "tile")
            self.progress.note(
                f"{self.slide.path.name}: resumes, {done} of {whole} are there already"
            )
        self.seconds["plan"] = time.perf_counter() - self.started
        with ExitStack() as writing:
            self._sink = writing.enter_context(self._open_sink(last, predictor.device))
            self.seconds["network"] = predict_all(
                self._stream, predictor, self._sink, self._tally, self.progress
            )
            check_bad_tiles(self._tally, self.plan, self.settings.max_bad_tiles)
            self._writing = writing.pop_all()

    def finish(self) -> dict[str, Any]:
        """Complete the files, put them in their places, and return the zarr's attribute.

        Raises
        ------
        WsiError
            As of `segment_slide`.
        """
        files = self.files
        with self._writing:
            self._sink.finish()
        attributes = self._sink.pyramid.finish(self._attributes())
        # Once more: something may have come while the slide ran.
        files.check(tissue=self.settings.tissue, run_id=self.identity["run_id"])
        if files.report is not None:
            report_slide(self.slide, files.work.maps, files.report, zarr_name=files.zarr.name)
        files.work.publish(files.zarr)
        return attributes

    def _begin(self) -> Strip | None:
        begun = self.files.work.begin(self.identity, force=self.settings.force, holds=self._holds)
        for note in begun.notes:
            self.progress.warn(note)
        last = begun.last
        self._resumed_after = None if last is None else last.row
        self._tally = (
            Tally()
            if last is None
            else Tally.resumed(self.plan.grid, last.row, last.notes["failed"])
        )
        return last

    def _holds(self, maps: Path, strip: Strip) -> bool:
        """Tell whether the growing zarr still holds the chunks that it held at a strip."""
        spec = pyramid_spec(self.slide, self.plan, self.settings, classes_of(self.model))
        flushed, digest = strip.notes["flushed"], strip.notes["stored"]
        return bool(stored_rows(maps, spec, flushed).digest == digest)

    def _open_sink(
        self, last: Strip | None, device: torch.device
    ) -> AbstractContextManager[MapSink]:
        return open_sink(
            self.slide,
            self.model,
            self.settings,
            self.files,
            self.plan,
            self.identity,
            self._tally,
            last,
            device,
        )

    def _attributes(self) -> dict[str, Any]:
        slide, plan, sink, spec = self.slide, self.plan, self._sink, self.model.spec
        areas = areas_mm2(plan, sink.pixels, [one.name for one in spec.classes])
        seconds = {**self.seconds, "read": self._stream.counts.seconds, **sink.seconds}
        seconds["total"] = time.perf_counter() - self.started
        device = self._predictor.device
        return {
            **self.identity,
            **describe(slide, self.model, plan, self.settings),
            "device": str(device),
            "precision": self._predictor.precision,
            "tiles": tile_counts(plan, self._tally),
            "polygons": sink.geojson.count if sink.geojson is not None else None,
            "polygon_area_mm2": polygon_areas_mm2(sink.geojson),
            "geojson": self.files.geojson_beside,
            "geojson_content": content_of(self.files.work.polygons) if sink.geojson else None,
            "area_mm2": areas,
            "coverage": coverage(slide, plan, areas),
            "warnings": [*self._warnings(), *self._warn_of_size()],
            **costs(seconds, self._stream, sum(areas.values()), device),
            "resumed_after_strip": self._resumed_after,
            "complete": True,
        }

    def _warnings(self) -> tuple[str, ...]:
        return (*self.model.warnings, *self.slide.warnings, *self.plan.warnings)

    def _warn_of_size(self) -> list[str]:
        geojson = self._sink.geojson
        warning = geojson.warning() if geojson is not None else None
        if warning is None:
            return []
        self.progress.warn(warning)
        return [warning]
