"""What a batch says at its end, and how a command ends whose output nobody takes."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from wsi_sampath.batch.job import Job
from wsi_sampath.batch.record.outcome import Outcome
from wsi_sampath.cli import ended as ended_module
from wsi_sampath.cli.ended import Ended, print_json
from wsi_sampath.cli.entry import new_app, run
from wsi_sampath.errors import OtherSettingsError, UsageError, WsiError
from wsi_sampath.inference.finished import Finished

JOB = Job(Path("in/a.svs"), Path("out/a.zarr"))
RUN = {
    "reader": "tiff",
    "mpp": {"x": 0.5, "y": 0.5, "source": "metadata", "output": [4.0, 4.0]},
    "tiles": {"analysed": 1, "skipped": 0, "failed": 0},
    "area_mm2": {"gland": 0.1},
    "tiles_per_s": 1.0,
    "mm2_per_s": 1.0,
    "peak_memory_mb": 1.0,
    "gpu_memory_mb": None,
    "decoded_px": 1,
    "needed_px": 1,
    "seconds": {"total": 1.0},
    "polygons": 1,
}


def done(*, reused: bool = False) -> Outcome:
    return Outcome(JOB, Finished(JOB.zarr, Path("out/a.geojson"), RUN, reused))


def failed(reason: str = "unreadable") -> Outcome:
    return Outcome.failed(JOB, WsiError(reason, "because"))


def refused(zarr: str = "out/a.zarr") -> Outcome:
    message = "the output was begun with other settings (min_area_um2 was 10.0, now 5.0)"
    return Outcome.failed(JOB, OtherSettingsError("bad-input", message, subject=zarr))


def end(outcomes, n_slides: int, *, as_json: bool = False, error: WsiError | None = None) -> Ended:
    ended = Ended(n_slides, Path("out"), as_json=as_json)
    with ended.whatever_happens():
        for outcome in outcomes:
            ended.tell(outcome)
        if error is not None:
            raise error
    return ended


def test_the_last_line_counts_and_names_the_pages(capsys):
    assert end([done(), failed()], 2).is_unfinished
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == "1 done, 1 failed, 0 left; out/report.html, out/slides.csv"
    assert not end([done()], 1).is_unfinished
    assert capsys.readouterr().err.startswith("1 done, 0 failed, 0 left;")


def test_an_interrupted_slide_is_left_and_has_not_failed(capsys):
    ended = end([done(), failed("interrupted")], 4, as_json=True)
    assert ended.is_unfinished
    shown = capsys.readouterr()
    assert "1 done, 0 failed, 3 left (the same command resumes)" in shown.err
    values = json.loads(shown.out)
    assert [values[name] for name in ("done", "before", "failed", "left")] == [1, 0, 0, 3]
    assert (values["report"], values["table"]) == ("out/report.html", "out/slides.csv")
    assert values["slides"][1]["status"] == "interrupted"


def test_a_batch_goes_on_without_its_stdout_and_says_so_at_the_end(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", Full(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space") as raised:
        end([done(), done()], 2)
    assert raised.value.filename == "stdout"
    told = capsys.readouterr().err.splitlines()
    assert [line.startswith("a.svs: done in") for line in told] == [True, True, False]
    assert told[-1].startswith("2 done, 0 failed, 0 left")


def test_slides_that_were_complete_are_but_counted(capsys):
    end([done(reused=True), done()], 2)
    shown = capsys.readouterr()
    (line,) = shown.out.splitlines()
    assert line == "a.svs: done in 1.0 s: gland 0.100 mm2; out/a.zarr, a.geojson"
    assert shown.err.startswith("2 done (1 of them before), 0 failed, 0 left;")


def test_results_of_other_settings_are_counted_and_one_is_named(capsys):
    outcomes = [refused("out/a.zarr"), failed(), refused("out/b.zarr"), refused("out/c.zarr")]
    assert end(outcomes, 4, as_json=True).is_unfinished
    shown = capsys.readouterr()
    told = shown.err.splitlines()
    assert [line.split(": ")[1] for line in told[:2]] == ["out/a.zarr", "in/a.svs"]
    assert "min_area_um2 was 10.0, now 5.0" in told[0]
    assert told[2:] == [
        "3 results were made with other settings and are left as they are; "
        "give --force, or another --out",
        "0 done, 4 failed (3 of them with other settings), 0 left; out/report.html, out/slides.csv",
    ]
    values = json.loads(shown.out)
    assert [values[name] for name in ("done", "failed", "refused", "left")] == [0, 4, 3, 0]
    assert all("min_area_um2" in values["slides"][number]["message"] for number in (0, 2, 3))


def test_one_result_of_other_settings_is_named_alone(capsys):
    assert end([refused(), done()], 2).is_unfinished
    told = capsys.readouterr().err.splitlines()
    assert [line.split(" ", 1)[0] for line in told] == ["error:", "1"]
    one = Ended(1, None, as_json=True)
    with one.whatever_happens():
        one.tell(refused())
    shown = capsys.readouterr()
    assert shown.err.startswith("error: out/a.zarr: bad-input: ")
    assert len(shown.err.splitlines()) == 1
    assert json.loads(shown.out) == {
        "done": 0,
        "before": 0,
        "failed": 1,
        "left": 0,
        "slides": [
            {
                "status": "failed",
                "slide": "in/a.svs",
                "reason": "bad-input",
                "message": refused().message,
            }
        ],
    }


def test_files_elsewhere_are_named_whole_and_damage_is_said(capsys):
    run = RUN | {"tiles": {"analysed": 1, "skipped": 0, "failed": 2}}
    ended = Ended(1, None, as_json=False)
    ended.tell(Outcome(JOB, Finished(JOB.zarr, Path("else/a.geojson"), run)))
    line = capsys.readouterr().out.strip()
    assert line.endswith("gland 0.100 mm2, 2 tiles unreadable; out/a.zarr, else/a.geojson")


def test_with_json_stdout_is_json_alone_even_where_the_batch_failed(capsys):
    error = WsiError("disk-full", "free some", subject="out")
    assert end([done()], 2, as_json=True, error=error).is_unfinished
    shown = capsys.readouterr()
    values = json.loads(shown.out)
    assert values["error"]["reason"] == "disk-full"
    assert "a.svs: done" in shown.err
    assert shown.err.splitlines()[-1] == "error: out: disk-full: free some"


def test_wrong_use_goes_on_to_the_command(capsys):
    for error in (UsageError("no"), WsiError("bad-model", "no")):
        with pytest.raises(WsiError, match="no"):
            end([], 1, error=error)


def test_names_that_act_are_shown_escaped(capsys):
    job = Job(Path("in/a\x1b[2J\n\udcff.svs"), Path("out/a.zarr"))
    ended = Ended(2, Path("out"), as_json=True)
    with ended.whatever_happens():
        ended.tell(Outcome(job, done().result))
        ended.tell(Outcome.failed(job, WsiError("unreadable", "no")))
    shown = capsys.readouterr()
    assert "\x1b" not in shown.out + shown.err
    assert json.loads(shown.out)["slides"][0]["slide"] == str(job.slide)


def test_json_is_json_in_any_encoding(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    print_json({"slide": "Müller\udcff.svs"})
    assert json.loads(raw.getvalue()) == {"slide": "Müller\udcff.svs"}


class Full(io.TextIOWrapper):
    """A stdout that takes nothing."""

    def __init__(self, error: OSError) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8")
        self.error = error
        self.is_clean = True

    def write(self, _text):
        self.is_clean = False
        return 0

    def flush(self):
        if not self.is_clean:
            raise self.error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (BrokenPipeError(32, "Broken pipe"), "error: interrupted: nobody reads"),
        (OSError(28, "No space left on device"), "error: disk-full: "),
        (OSError(5, "Input/output error"), "error: bad-input: "),
    ],
)
@pytest.mark.parametrize("flush", [True, False])
def test_a_stdout_that_takes_nothing_is_one_line(monkeypatch, capsys, error, words, flush):
    app = new_app()

    @app.command()
    def command() -> None:
        print("something", flush=flush)

    monkeypatch.setattr(sys, "argv", ["wsi-x"])
    monkeypatch.setattr(sys, "stdout", Full(error))
    with pytest.raises(SystemExit) as stopped:
        run(app, "wsi-x")
    monkeypatch.undo()
    assert stopped.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.replace("stdout: ", "").startswith(words)


def test_results_and_json_say_that_it_is_stdout(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Full(OSError(28, "No space left on device")))
    for work in (lambda: print_json([]), lambda: end([done()], 1)):
        with pytest.raises(OSError, match="No space left") as told:
            work()
        assert told.value.filename == "stdout"


def test_a_file_that_cannot_be_written_is_one_line(monkeypatch, capsys):
    app = new_app()

    @app.command()
    def command() -> None:
        raise OSError(30, "Read-only file system", "/mnt/out.json")

    monkeypatch.setattr(sys, "argv", ["wsi-x"])
    with pytest.raises(SystemExit) as stopped:
        run(app, "wsi-x")
    assert stopped.value.code == 1
    assert capsys.readouterr().err.startswith("error: /mnt/out.json: bad-input: ")


def test_a_screen_that_went_away_stops_no_work(monkeypatch):
    gone = Full(BrokenPipeError(32, "Broken pipe"))
    monkeypatch.setattr(sys, "stderr", gone)
    ended_module.say("a line")
    assert not gone.is_clean, "it was tried"
