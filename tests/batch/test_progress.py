from __future__ import annotations

import sys
from pathlib import Path

from wsi_sampath.batch.discover import Job
from wsi_sampath.batch.progress import BatchCounts, format_duration
from wsi_sampath.batch.record.outcome import Outcome
from wsi_sampath.cli.progress import LiveBatch, batch_progress
from wsi_sampath.inference.finished import Finished

JOB = Job(Path("a.svs"), Path("a.zarr"))


def done(*, reused: bool = False) -> Outcome:
    return Outcome(JOB, Finished(JOB.zarr, None, {}, reused))


def test_counts_and_the_time_left():
    now = [0.0]
    counts = BatchCounts(10, clock=lambda: now[0])
    counts.count(done(reused=True))
    assert counts.seconds_left is None
    now[0] = 20.0
    counts.tiles = 100
    counts.count(done())
    counts.count(Outcome(JOB, reason="unreadable"))
    assert counts.seconds_left == 20.0 / 2 * 7
    line = counts.line()
    assert line == "batch: 3/10 slides, 1 failed, 7 left, 5.0 tiles/s, about 1 min 10 s to go"


def test_tiles_of_slides_that_ran_elsewhere():
    counts = BatchCounts(2)
    attributes = {"tiles": {"analysed": 7}}
    counts.count(Outcome(JOB, Finished(JOB.zarr, None, attributes)), with_tiles=True)
    counts.count(Outcome(JOB, Finished(JOB.zarr, None, attributes, True)), with_tiles=True)
    assert counts.tiles == 7


def test_spoken_times():
    assert [format_duration(s) for s in (4.21, 200, 25_500)] == ["4.2 s", "3 min 20 s", "7 h 5 min"]


def test_plain_lines_where_there_is_no_terminal(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    for is_single in (True, False):
        ended = []
        shown = batch_progress(ended.append, is_single=is_single)
        shown.begin_batch(2)
        shown.begin("a.svs", 4)
        shown.advance(4)
        shown.end()
        shown.finish_slide(done())
        shown.end_batch()
        assert len(ended) == 1
        lines = capsys.readouterr().err.splitlines()
        assert [line for line in lines if line.startswith("a.svs: 4/4 tiles")]
        assert any(line.startswith("batch: 1/2 slides, 1 left") for line in lines) != is_single


def test_live_bars(monkeypatch, tmp_path):
    from rich.console import Console

    with (tmp_path / "shown.txt").open("w") as stream:
        ended = []
        shown = LiveBatch(Console(file=stream, force_terminal=True, width=120), ended.append)
        shown.begin_batch(1)
        shown.begin("a [odd] name.svs", 4)
        shown.advance(4)
        shown.warn("something [else]")
        shown.end()
        shown.finish_slide(done())
        shown.end_batch()
    assert len(ended) == 1
    text = (tmp_path / "shown.txt").read_text()
    assert "warning: something [else]" in text
    assert "1/1 slide," in text
