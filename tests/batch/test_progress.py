from __future__ import annotations

import time
from pathlib import Path

import pytest
from rich.console import Console
from terminal import on_terminal

from wsi_sampath.batch.discover import Job
from wsi_sampath.batch.progress import BatchCounts
from wsi_sampath.batch.record.outcome import Outcome
from wsi_sampath.cli.batch_screen import batch_screen
from wsi_sampath.cli.progress import LiveSlide
from wsi_sampath.inference.finished import Finished
from wsi_sampath.progress import Start
from wsi_sampath.shown import format_duration

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
    assert line == "3/10 slides, 1 min 10 s left, 1 failed, 1 done before, 5.0 tiles/s"


def test_the_slide_under_way_counts_in_part():
    now = [0.0]
    counts = BatchCounts(4, clock=lambda: now[0])
    counts.under_way["a.svs"] = 0.5
    now[0] = 10.0
    assert counts.ended == 0.5
    assert counts.seconds_left == 10.0 / 0.5 * 3.5
    counts.count(done())
    assert (counts.ended, counts.seconds_left) == (1, 10.0 * 3)


def test_tiles_of_slides_that_ran_elsewhere():
    counts = BatchCounts(2)
    attributes = {"tiles": {"analysed": 7}}
    counts.count(Outcome(JOB, Finished(JOB.zarr, None, attributes)), with_tiles=True)
    counts.count(Outcome(JOB, Finished(JOB.zarr, None, attributes, True)), with_tiles=True)
    assert counts.tiles == 7


def test_spoken_times():
    assert [format_duration(s) for s in (4.21, 200, 25_500)] == ["4.2 s", "3 min 20 s", "7 h 5 min"]


@pytest.mark.parametrize("is_single", [True, False])
def test_plain_lines_where_there_is_no_terminal(capsys, monkeypatch, is_single):
    now, ended = [0.0], []
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    screen = batch_screen(ended.append, is_single=is_single)
    screen.begin_batch(2)
    screen.begin(Start("a.svs", 4, 1, ("a.svs: 700 px",)))
    now[0] = 100.0
    screen.advance(1)
    screen.end()
    screen.finish_slide(done())
    screen.end_batch()
    assert len(ended) == 1
    lines = capsys.readouterr().err.splitlines()
    if is_single:
        assert lines == ["a.svs: 700 px", "a.svs: 2/4 tiles, 0.0 tiles/s, 3 min 20 s left"]
    else:
        (line,) = lines
        assert line.startswith("batch: 0/2 slides, ")


def test_a_verbose_batch_tells_how_each_slide_begins(capsys):
    for loudness in ("normal", "verbose", "quiet"):
        screen = batch_screen(lambda _: None, loudness=loudness)
        screen.begin_batch(2)
        screen.begin(Start("a.svs", 4, 1, ("a.svs: 700 px",)))
        screen.warn("doubtful")
        said = capsys.readouterr().err
        assert ("a.svs: 700 px" in said) == (loudness == "verbose")
        assert ("warning: doubtful" in said) == (loudness != "quiet")


def test_names_that_look_like_markup_are_shown_as_they_are(monkeypatch):
    with on_terminal(monkeypatch, 80) as terminal:
        screen = LiveSlide(Console(stderr=True))
        screen.begin(Start("a [odd] name.svs", 4))
        screen.warn("something [else] :cat:")
        text = terminal.text()
        screen.close()
    assert "a [odd] name.svs" in text
    assert "warning: something [else] :cat:" in text
