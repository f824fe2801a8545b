"""The middle stage: batches of tiles through the network, answers to the sink's own thread."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing

import torch
from torch import Tensor

from wsi_sampath.errors import WsiError
from wsi_sampath.inference.ahead import ahead
from wsi_sampath.inference.background import Background
from wsi_sampath.inference.cuda import Handover, blending_thread, wait_for_all
from wsi_sampath.inference.plan import RunPlan
from wsi_sampath.inference.predictor import Predictor
from wsi_sampath.inference.stopwatch import Stopwatch
from wsi_sampath.inference.strips import Answers, MapSink
from wsi_sampath.inference.summary import Tally
from wsi_sampath.progress import Progress
from wsi_sampath.slides.stream import TileBatch, TileStream


def predict_all(
    stream: TileStream, predictor: Predictor, sink: MapSink, tally: Tally, progress: Progress
) -> float:
    """Put the whole stream through the network and into the sink; return the network's seconds."""
    network = Stopwatch(predictor.device)
    progress.begin(stream.slide.path.name, stream.n_tiles)
    batches = ahead(_uploaded(stream, predictor))
    try:
        with (
            closing(batches),
            Background(sink.take, prepare=blending_thread(predictor.device)) as later,
        ):
            for batch, images in batches:
                tally.failed.extend(batch.failed)
                if batch.tiles:
                    with network.running():
                        answers = _answers(batch, predictor.predict(images))
                    later.put(answers)
                progress.advance(len(batch.tiles) + len(batch.failed))
    finally:
        wait_for_all(predictor.device)
        progress.end()
    return network.seconds()


def _uploaded(stream: TileStream, predictor: Predictor) -> Generator[tuple[TileBatch, Handover]]:
    for batch in stream:
        yield batch, predictor.upload(batch.images)


def _answers(batch: TileBatch, probabilities: Tensor) -> Answers:
    finite = torch.isfinite(probabilities.sum(dim=(1, 2, 3)))
    return Answers(batch.tiles, Handover.of(probabilities), Handover.of(finite))


def check_bad_tiles(tally: Tally, plan: RunPlan, limit: float) -> None:
    """Fail the slide where more than the share `limit` of its tiles failed.

    Raises
    ------
    WsiError
        ``unreadable``, with the counts and the first reason.
    """
    bad, total = len(tally.failed), plan.grid.n_tiles
    if bad <= limit * total:
        return
    raise WsiError(
        "unreadable",
        f"{bad} of {total} tiles failed, more than --max-bad-tiles {limit:g} allows; "
        f"the first: {tally.in_order()[0][1]}",
    )
