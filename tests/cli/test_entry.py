"""How every command ends."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
from command_line import ended

from wsi_sampath import __version__
from wsi_sampath.__main__ import main as as_module
from wsi_sampath.cli import COMMANDS
from wsi_sampath.cli.entry import BEFORE_ANY_SLIDE, new_app, run
from wsi_sampath.errors import UsageError, WsiError


def end(monkeypatch, capsys, error=None, arguments=(), **options):
    app = new_app()

    @app.command()
    def command() -> None:
        if error is not None:
            raise error

    monkeypatch.setattr(sys, "argv", ["wsi-x", *arguments])
    with pytest.raises(SystemExit) as ended:
        run(app, "wsi-x", **options)
    lines = capsys.readouterr().err.splitlines()
    return ended.value.code or 0, lines


def test_success_says_nothing(monkeypatch, capsys):
    assert end(monkeypatch, capsys) == (0, [])


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (KeyboardInterrupt(), 1, "error: interrupted: stopped by the user; run the command again"),
        (UsageError("no"), 2, "error: bad-input: no"),
        (
            WsiError("disk-full", "free some", subject="a.svs"),
            1,
            "error: a.svs: disk-full: free some",
        ),
    ],
)
def test_an_error_is_one_line_and_a_code(monkeypatch, capsys, error, code, line):
    assert end(monkeypatch, capsys, error) == (code, [line])


@pytest.mark.parametrize(
    ("reason", "expected"),
    [("unreadable", 2), ("bad-model", 2), ("no-mpp", 2), ("disk-full", 1), ("internal", 1)],
)
def test_before_any_slide_all_but_mishaps_is_wrong_use(monkeypatch, capsys, reason, expected):
    error = WsiError(reason, "mend it")
    assert end(monkeypatch, capsys, error, wrong_use=BEFORE_ANY_SLIDE)[0] == expected


def test_an_unknown_option_points_to_the_help(monkeypatch, capsys):
    code, (line,) = end(monkeypatch, capsys, arguments=["--nonsense"])
    assert code == 2
    assert line.startswith("error: bad-input: ")
    assert line.endswith("(see wsi-x --help)")


def test_every_command_tells_its_version(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["wsi-x", "--version"])
    with pytest.raises(SystemExit) as stopped:
        run(new_app(), "wsi-x")
    assert not stopped.value.code
    assert capsys.readouterr().out == f"wsi-x {__version__}\n"


@pytest.mark.parametrize(
    ("words", "code"), [(("-o", "x", "--version"), 0), (("--", "--version"), 2)]
)
def test_the_version_is_asked_for_anywhere_among_options(monkeypatch, capsys, words, code):
    app = new_app()
    app.command()(lambda: None)
    assert ended(monkeypatch, lambda: run(app, "wsi-x"), "wsi-x", *words) == code
    assert capsys.readouterr().out == ("" if code else f"wsi-x {__version__}\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_the_package_runs_as_its_commands(monkeypatch, capsys, name):
    assert ended(monkeypatch, as_module, "wsi_sampath", name, "--version") == 0
    assert capsys.readouterr().out == f"wsi-{name} {__version__}\n"


@pytest.mark.parametrize(("words", "code"), [((), 2), (("nonsense",), 2), (("-h",), 0)])
def test_the_package_names_its_commands(monkeypatch, capsys, words, code):
    assert ended(monkeypatch, as_module, "wsi_sampath", *words) == code
    said = capsys.readouterr()
    assert "segment|prompt|models|prepare" in (said.err if code else said.out)


_SLOW_TO_STOP = """
import signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from wsi_sampath.cli.entry import new_app, run
app = new_app()
@app.command()
def slow() -> None:
    print("ready", flush=True)
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        time.sleep(60)
run(app, "wsi-x", words=[])
"""


def test_the_second_interruption_stops_at_once():
    words = [sys.executable, "-c", _SLOW_TO_STOP]
    with subprocess.Popen(words, stdout=-1, stderr=-1, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.stderr.readline().startswith("stopping: what is finished is kept; Ctrl-C")
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode == 1
    assert rest == "error: interrupted: stopped at once; run the command again to resume\n"
