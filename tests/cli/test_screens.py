"""What a person sees of the main situations, as golden text; see `terminal`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from command_line import ended
from rich.console import Console
from stub_network import FailingNetwork, StubNetwork, make_stub
from terminal import WIDTHS, check_screen, on_terminal

from wsi_sampath.batch.job import Job
from wsi_sampath.batch.record.outcome import Outcome
from wsi_sampath.cli import ended as ended_module
from wsi_sampath.cli import segment
from wsi_sampath.cli.batch_screen import Bar, BatchScreen
from wsi_sampath.cli.progress import LiveSlide
from wsi_sampath.inference.finished import Finished
from wsi_sampath.progress import Start
from wsi_sampath.synthetic.painted import paint_slide

pytestmark = pytest.mark.parametrize("width", WIDTHS)
SLIDES = ("S1-0001.svs", "S1-0002.svs", "S1-0003.svs")


@pytest.fixture(scope="module")
def painted(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("painted")
    for number, name in enumerate(SLIDES):
        paint_slide(folder / name, width=700, height=600, mpp=0.5, seed=number)
    (folder / "S1-0004.svs").write_bytes(b"not a slide" * 100)
    return folder


@pytest.fixture
def seen(painted, tmp_path, monkeypatch, width):
    """Run ``wsi-segment`` beside a folder ``slides``; returns the exit code and the terminal."""
    (tmp_path / "slides").symlink_to(painted)
    monkeypatch.chdir(tmp_path)

    def run(*words: str, network: StubNetwork | None = None, stdout: bool = True):
        model = replace(make_stub(network=network), source="gland-mini")
        monkeypatch.setattr(segment, "_loaded", lambda *_: model)
        monkeypatch.setattr(ended_module, "format_duration", lambda _: "6.2 s")
        words = ("wsi-segment", *words, "--device", "cpu", "--batch-size", "1")
        with on_terminal(monkeypatch, width, stdout=stdout) as terminal:
            code = ended(monkeypatch, segment.main, *words)
        return code, terminal.text()

    return run


ONE = ("slides/S1-0001.svs", "--out", "S1-0001.zarr")
FOUR = ("slides", "--out", "results")


def test_one_slide(seen, width):
    code, text = seen(*ONE)
    assert code == 0
    check_screen("one-slide", width, text)


def test_every_detail(seen, width):
    code, text = seen(*ONE, "--verbose")
    assert code == 0
    check_screen("every-detail", width, text)


def test_silence(seen, width):
    assert seen(*ONE, "-q") == (0, "\n")
    code, text = seen("slides/S1-0004.svs", "--out", "d.zarr", "-q")
    assert code == 1
    assert text.startswith("error: slides/S1-0004.svs: unreadable: ")


def test_a_stopped_slide_and_its_resumption(seen, width):
    code, text = seen(*ONE, network=FailingNetwork(KeyboardInterrupt(), after=7))
    assert code == 1
    check_screen("interrupted", width, text)
    code, text = seen(*ONE)
    assert code == 0
    check_screen("resumed", width, text)


def test_a_batch_with_a_broken_slide(seen, width):
    code, text = seen(*FOUR)
    assert code == 1
    check_screen("batch", width, text)


def test_a_stopped_batch_and_nothing_left_to_do(seen, width):
    code, text = seen(*FOUR, network=FailingNetwork(KeyboardInterrupt(), after=18))
    assert code == 1
    check_screen("batch-interrupted", width, text)
    assert "interrupted" not in Path("results/slides.csv").read_text().replace(",interrupted,", "")
    seen(*FOUR)
    code, text = seen(*FOUR)
    assert code == 1
    check_screen("batch-again", width, text)
    code, text = seen("slides/S1-0001.svs", "--out", "results/S1-0001.zarr")
    assert code == 0
    check_screen("nothing-to-do", width, text)


def test_json_goes_where_nothing_else_does(seen, width, capsys):
    code, text = seen(*FOUR, "--json", stdout=False)
    assert code == 1
    check_screen("json", width, text)
    (line,) = capsys.readouterr().out.splitlines()
    values = json.loads(line)
    assert (values["done"], values["failed"]) == (3, 1)


def test_a_slide_half_way(monkeypatch, width):
    now = [0.0]
    lines = ("S1-0001.svs: 700 x 600 px", "gland-mini on cpu")
    with on_terminal(monkeypatch, width) as terminal:
        screen = LiveSlide(Console(stderr=True, get_time=lambda: now[0]))
        screen.begin(Start("S1-0001.svs", 42, 8, lines))
        for _ in range(13):
            now[0] += 0.5
            screen.advance(1)
        screen.warn("the slide is pale")
        screen._bar.refresh()
        check_screen("bar-slide", width, terminal.text())
        screen.advance(21)
        screen.warn("a polygon was mended")
        screen._bar.refresh()
        check_screen("bar-slide-writing", width, terminal.text())
        screen.close()
        assert "tiles" not in terminal.text()


def test_a_batch_half_way(monkeypatch, width):
    now = [0.0]
    with on_terminal(monkeypatch, width) as terminal:
        surface = Bar(Console(stderr=True, get_time=lambda: now[0]))
        screen = BatchScreen(surface, lambda _: None, clock=lambda: now[0])
        screen.begin_batch(10)
        job = Job(Path("a.svs"), Path("a.zarr"))
        screen.finish_slide(Outcome(job, Finished(job.zarr, None, {}, reused=True)))
        screen.finish_slide(Outcome(job, reason="unreadable"))
        screen.begin(Start("a.svs", 40))
        now[0] = 60.0
        screen.advance(20)
        screen.warn("the slide is pale")
        surface._bar.refresh()
        check_screen("bar-batch", width, terminal.text())
        screen.end_batch()
        assert "slides" not in terminal.text()
