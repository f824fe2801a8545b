"""One slide from its tiles to its files: read, predict, blend, write, vectorise, all at once.

`analyse` puts the tiles through the network while the rows that are finished are written beside it;
`finish` completes the files and puts them in their places. Both read downwards, stage by stage.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from wsi_sampath.errors import WsiError
from wsi_sampath.inference.blend import StripBlender
from wsi_sampath.inference.cuda import Handover, Stopwatch, blending_thread, wait_for_all
from wsi_sampath.inference.durable.claim import Claim
from wsi_sampath.inference.durable.ledger import Ledger, PackedStrip, Strip
from wsi_sampath.inference.plan import Run, RunPlan
from wsi_sampath.inference.predictor import Predictor
from wsi_sampath.inference.reporting import overlay_slide, report_slide
from wsi_sampath.inference.semantic import open_class_layer
from wsi_sampath.inference.stages import Background, ahead
from wsi_sampath.inference.stored_maps import holds
from wsi_sampath.inference.strips import Answers, Layer, StripSink
from wsi_sampath.inference.summary import (
    Tally,
    circumstances,
    costs,
    coverage,
    describe,
    opening,
    tile_counts,
)
from wsi_sampath.outputs.belonging import content_of
from wsi_sampath.progress import Progress
from wsi_sampath.settings import Belongs, asked
from wsi_sampath.shown import plural
from wsi_sampath.slides.stream import TileBatch, TileStream


@dataclass(frozen=True)
class Analysed:
    """A slide that is past the network, and whose files are to be finished.

    Attributes
    ----------
    run
        The run.
    sink
        Holds the last rows.
    stream, predictor
        Where the tiles came from, and what answered them.
    writing
        Keeps the files open.
    started
        When the run began, by `time.perf_counter`.
    seconds
        Spent on planning and in the network.
    resumed_after
        Number of the strip after which the run resumed; None where it started anew.
    """

    run: Run
    sink: StripSink
    stream: TileStream
    predictor: Predictor
    writing: ExitStack
    started: float
    seconds: dict[str, float]
    resumed_after: int | None


def analyse(
    run: Run, predictor: Predictor, progress: Progress, claim: Claim, *, started: float
) -> Analysed:
    """Put all tiles of a slide through the network; finished rows are written beside it.

    Parameters
    ----------
    run
        The run.
    predictor
        Runs the network.
    progress
        Told about its course.
    claim
        Of its output; nothing is saved once another run has taken over.
    started
        When the run began, by `time.perf_counter`.

    Raises
    ------
    WsiError
        See `segment_slide`. What was finished stays in the ledger.
    """
    work = run.files.work
    begun = work.begin(
        run.identity,
        force=run.settings.force,
        holds=lambda _, strip: holds(run, strip),
    )
    tally, last = _resumed(run.plan, begun.last), begun.last
    stream = _stream(run, predictor.batch_size, last)
    planned = time.perf_counter() - started
    with ExitStack() as writing, _told(progress, run, predictor, tally):
        for warning in (*begun.notes, *run.warnings):
            progress.warn(warning)
        # Waiting for the disk is not waiting for the processor: strips are saved beside the rest.
        save = partial(_save, work.ledger, claim)
        saving = writing.enter_context(Background(save, depth=1))
        layer = writing.enter_context(open_layer(run, last))
        blender = StripBlender(run.plan.grid, layer.reading, device=predictor.device)
        sink = StripSink(run.plan, blender, layer, work.ledger, tally, saving.put)
        if last is not None:
            sink.restore(last)
        network, waited = _predict_all(stream, predictor, sink, progress)
        _check_bad_tiles(tally, run.plan, run.settings.max_bad_tiles)
        return Analysed(
            run,
            sink,
            stream,
            predictor,
            writing.pop_all(),
            started,
            {"plan": planned, "network": network, "waiting for files": waited},
            None if last is None else last.row,
        )


def open_layer(run: Run, last: Strip | None) -> AbstractContextManager[Layer]:
    """Open what the finished rows of a run go into; the model's architecture decides which.

    Parameters
    ----------
    run
        The run.
    last
        The strip after which it resumes; None for a new run.
    """
    match run.model.spec.architecture:
        case "patho_sam":
            # Imported here, since tables and outlines of nuclei are slow to import.
            from wsi_sampath.inference.nuclei import open_nucleus_layer

            return open_nucleus_layer(run, last)
        case _:
            return open_class_layer(run, last)


def finish(analysed: Analysed, progress: Progress) -> dict[str, Any]:
    """Complete the files, put them in their places, and return the zarr's attribute.

    Raises
    ------
    WsiError
        See `segment_slide`.
    """
    run, layer = analysed.run, analysed.sink.layer
    files = run.files
    with analysed.writing:
        analysed.sink.finish()
    for warning in layer.warnings():
        progress.warn(warning)
    attributes = layer.publish(_attributes(analysed))
    # Once more: something may have come while the slide ran.
    files.check(run.settings, run_id=run.identity["run_id"])
    if files.report is not None:
        report_slide(run.slide, files.work.maps, files.report, zarr_name=files.zarr.name)
    if files.overlay is not None:
        overlay_slide(run.slide, files.work.maps, files.overlay)
    files.work.publish(files.zarr)
    return attributes


def _save(ledger: Ledger, claim: Claim, strip: PackedStrip) -> None:
    claim.check()
    ledger.write(strip)


def _resumed(plan: RunPlan, last: Strip | None) -> Tally:
    if last is None:
        return Tally()
    return Tally.resumed(plan.grid, last.row, last.notes["failed"])


@contextmanager
def _told(
    progress: Progress, run: Run, predictor: Predictor, tally: Tally
) -> Generator[None, None, None]:
    progress.begin(opening(run, tally, device=predictor.device, precision=predictor.precision))
    try:
        yield
    finally:
        progress.end()


def _stream(run: Run, batch_size: int, last: Strip | None) -> TileStream:
    return TileStream(
        run.slide,
        run.plan.sampling,
        run.plan.grid,
        batch_size=batch_size,
        workers=run.settings.workers,
        first_row=0 if last is None else last.row + 1,
    )


def _predict_all(
    stream: TileStream, predictor: Predictor, sink: StripSink, progress: Progress
) -> tuple[float, float]:
    """Put the whole stream through the network and into the sink.

    Returns
    -------
    tuple of float
        Seconds of the network, and those that it was held back by what follows.
    """
    network = Stopwatch(predictor.device)
    batches = ahead(_uploaded(stream, predictor))
    try:
        with (
            closing(batches),
            Background(sink.take, prepare=blending_thread(predictor.device)) as later,
        ):
            for batch, images in batches:
                sink.tally.failed.extend(batch.failed)
                if batch.tiles:
                    with network.running():
                        maps = predictor.predict(images)
                        maps = sink.layer.reading.blended(images.take(), maps)
                    answers = _answers(batch, maps)
                    later.put(answers)
                progress.advance(len(batch.tiles) + len(batch.failed))
    finally:
        wait_for_all(predictor.device)
    return network.seconds(), later.waited


def _uploaded(stream: TileStream, predictor: Predictor) -> Generator[tuple[TileBatch, Handover]]:
    for batch in stream:
        yield batch, predictor.upload(batch.images)


def _answers(batch: TileBatch, maps: torch.Tensor) -> Answers:
    finite = torch.isfinite(maps.sum(dim=(1, 2, 3)))
    return Answers(batch.tiles, Handover.of(maps), Handover.of(finite))


def _check_bad_tiles(tally: Tally, plan: RunPlan, limit: float) -> None:
    bad, total = len(tally.failed), plan.grid.n_tiles
    if bad <= limit * total:
        return
    raise WsiError(
        "unreadable",
        f"{bad} of {plural(total, 'tile')} failed, more than --max-bad-tiles {limit:g} allows; "
        f"the first: {tally.in_order()[0][1]}",
    )


def _attributes(analysed: Analysed) -> dict[str, Any]:
    run, sink, stream = analysed.run, analysed.sink, analysed.stream
    layer, files, device = sink.layer, run.files, analysed.predictor.device
    seconds = {**analysed.seconds, "read": stream.counts.seconds, **sink.stages()}
    seconds["total"] = time.perf_counter() - analysed.started
    return {
        **run.identity,
        **describe(run),
        "device": str(device),
        "precision": analysed.predictor.precision,
        "tiles": tile_counts(run.plan, sink.tally),
        "geojson": files.geojson_beside,
        "geojson_content": content_of(files.work.polygons) if files.geojson else None,
        **layer.results(),
        "coverage": coverage(run.slide, run.plan, layer.analysed_mm2()),
        "warnings": [*run.warnings, *layer.warnings()],
        **costs(seconds, stream, layer.analysed_mm2(), device),
        "resumed_after_strip": analysed.resumed_after,
        "asked": asked(run.settings, without=(Belongs.CALL, Belongs.MACHINE)),
        "made": circumstances(),
        "complete": True,
    }
