"""The middle stage: batches of tiles through the network, answers to the sink's own thread."""

from __future__ import annotations

import time

import torch

from wsi_sampath.errors import WsiError
from wsi_sampath.inference.background import Background
from wsi_sampath.inference.plan import RunPlan
from wsi_sampath.inference.predictor import Predictor
from wsi_sampath.inference.progress import Progress
from wsi_sampath.inference.sink import Answers, MapSink
from wsi_sampath.inference.summary import Tally
from wsi_sampath.slides.stream import TileBatch, TileStream


def predict_all(
    stream: TileStream, predictor: Predictor, sink: MapSink, tally: Tally, progress: Progress
) -> float:
    """Put the whole stream through the network and into the sink; return the network's seconds."""
    seconds = 0.0
    progress.begin(stream.slide.path.name, stream.n_tiles)
    try:
        with Background(sink.take, prepare=_single_threaded) as later:
            for batch in stream:
                start = time.perf_counter()
                answers = _answer(batch, predictor, tally)
                seconds += time.perf_counter() - start
                if answers.tiles:
                    later.put(answers)
                progress.advance(len(batch.tiles) + len(batch.failed))
    finally:
        progress.end()
    return seconds


def _single_threaded() -> None:
    # A second team of OpenMP threads would spin against the network's on the same cores. The
    # setting holds for the calling thread alone.
    torch.set_num_threads(1)


def _answer(batch: TileBatch, predictor: Predictor, tally: Tally) -> Answers:
    tally.failed.extend(batch.failed)
    if not batch.tiles:
        return Answers((), torch.empty(0))
    probabilities = predictor(batch.images)
    good = torch.isfinite(probabilities.sum(dim=(1, 2, 3))).tolist()
    tally.failed.extend(
        (tile, "the network's answer is not finite")
        for tile, fine in zip(batch.tiles, good, strict=True)
        if not fine
    )
    tiles = tuple(tile for tile, fine in zip(batch.tiles, good, strict=True) if fine)
    tally.analysed += len(tiles)
    return Answers(tiles, probabilities if all(good) else probabilities[good])


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
        f"the first: {tally.failed[0][1]}",
    )
