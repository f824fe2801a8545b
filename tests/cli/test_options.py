"""Options from the fields of settings."""

from __future__ import annotations

from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Annotated, Literal

import pytest
import typer
from command_line import ended
from pydantic import Field

from wsi_sampath.batch.options import BatchOptions
from wsi_sampath.cli import COMMANDS
from wsi_sampath.cli.entry import new_app, run
from wsi_sampath.cli.help import Command
from wsi_sampath.cli.options import flag_of, offered, with_options
from wsi_sampath.cli.segment import Request
from wsi_sampath.evaluation.settings import PatchScoring
from wsi_sampath.inference.instances.settings import NucleusSettings
from wsi_sampath.inference.prompted.settings import AskingSettings, GridSettings
from wsi_sampath.inference.settings import NetworkSettings, SegmentSettings
from wsi_sampath.settings import Flags, Frozen, Help, Panel, Reads

# What no command line says: of a batch, how often to look, and what workers do otherwise; of nuclei
# that are asked for, all that is seldom changed.
UNSAID = {
    SegmentSettings: {"nuclei", "grid", "own_prompts"},
    BatchOptions: {"poll_s", "wait", "pages"},
    Request: {"repeated", "from_files"},
    GridSettings: {*AskingSettings.model_fields, "max_box_overlap", "drop_background", "overlaps"},
}
SETTINGS = {
    "segment": (SegmentSettings, NucleusSettings, GridSettings, BatchOptions, Request),
    "evaluate": (PatchScoring,),
}
HEADINGS = {
    "segment": [
        *("Input and resolution", "Network", "Tissue and region", "Nuclei (patho_sam models)"),
        *("Output", "Batch", "Settings in files"),
    ],
    "evaluate": ["Labelled patches", "Result of a slide", "Network", "Scores"],
}


def app_of(name):
    return import_module(f"wsi_sampath.cli.{name}").app


def commands_of(app):
    command = typer.main.get_command(app)
    return [command, *getattr(command, "commands", {}).values()]


def help_of(monkeypatch, capsys, name):
    assert ended(monkeypatch, import_module(f"wsi_sampath.cli.{name}").main, name, "-h") == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_is_an_option_with_its_help(monkeypatch, capsys, name):
    shown = " ".join(help_of(monkeypatch, capsys, name).split())
    for kind in SETTINGS[name]:
        assert set(kind.model_fields) - set(offered(kind)) == UNSAID.get(kind, set())
        for field, about in offered(kind).items():
            marks = {type(mark): mark for mark in about.metadata}
            text = marks[Help].text
            # Lines of the help break at hyphens, too.
            assert text.replace("- ", "-") in shown.replace("- ", "-"), field
            assert text[0].isupper()
            assert text[-1] == "."
            assert f"{flag_of(kind, field)} " in shown
            assert Panel in marks


@pytest.mark.parametrize("name", HEADINGS)
def test_the_help_is_in_groups(monkeypatch, capsys, name):
    lines = help_of(monkeypatch, capsys, name).splitlines()
    headings = [line[:-1] for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert headings == ["Arguments", *HEADINGS[name], "Options"]
    assert "  --version   Show the version and exit." in lines


@pytest.mark.parametrize("name", COMMANDS)
def test_help_fills_the_terminal_in_words_of_the_shell(monkeypatch, capsys, name):
    for columns, least in ((80, 60), (120, 86)):
        monkeypatch.setenv("COLUMNS", str(columns))
        lines = help_of(monkeypatch, capsys, name).splitlines()
        assert least <= max(map(len, lines)) <= columns or name in {"train", "doctor"}
        text = "\n".join(lines)
        for of_python in ("list[", "<str>", "<path>", "<float>", "{", "..]", "`"):
            assert of_python not in text
        assert not [line for line in lines[1:] if line.endswith("...")]


@pytest.mark.parametrize("name", COMMANDS)
def test_no_flag_is_declared_twice_and_all_are_explained(name):
    for command in commands_of(app_of(name)):
        flags = Counter(
            flag for option in command.params for flag in (*option.opts, *option.secondary_opts)
        )
        assert [flag for flag, count in flags.items() if count > 1] == []
        assert [option.name for option in command.params if not option.help] == []


def test_what_runs_a_network_is_declared_for_all_commands_at_once():
    own = {kind: kind.__annotations__ for kind in (SegmentSettings, PatchScoring)}
    assert [
        name for names in own.values() for name in names if name in NetworkSettings.model_fields
    ] == []


def comma(word: str) -> tuple[str, ...]:
    return tuple(word.split(","))


class Some(Frozen):
    """Settings with all that a field can say."""

    number: Annotated[int, Field(ge=1), Flags("--number", "-n"), Help("N.")] = 4
    share: Annotated[float | None, Help("S.")] = None
    kind: Annotated[Literal["a", "b"], Help("K.")] = "a"
    place: Annotated[tuple[int, int] | None, Flags(metavar="X Y"), Help("P.")] = None
    names: Annotated[tuple[str, ...] | None, Reads(comma), Help("N.")] = None
    file: Annotated[Path | None, Help("F.")] = None
    pages: Annotated[bool, Flags("--no-pages"), Help("No pages.")] = True
    plots: Annotated[bool, Flags("--plots/--no-plots"), Help("Plots.")] = True
    force: Annotated[bool, Help("Force.")] = False
    secret: int = 7


class Needed(Frozen):
    """Settings without which nothing begins."""

    must: Annotated[int, Help("M.")]


@pytest.fixture
def call(monkeypatch, capsys):
    got = []
    app = new_app()

    @app.command(cls=Command)
    @with_options(some=Some, needed=Needed)
    def command(word: Annotated[str, typer.Argument()], some: Some, needed: Needed) -> None:
        got.append((word, some, needed))

    def called(*words):
        code = ended(monkeypatch, lambda: run(app, "wsi-x"), "wsi-x", *words)
        return code, capsys.readouterr().err, got[-1] if code == 0 else None

    return called


def test_settings_are_built_from_their_options(call):
    assert call("a", "--must", 1) == (0, "", ("a", Some(), Needed(must=1)))
    words = (
        "-n 5 --share 0.5 --kind b --place 1 2 --names x,y --file f --no-pages --no-plots --force"
    )
    expected = Some(
        number=5,
        share=0.5,
        kind="b",
        place=(1, 2),
        names=("x", "y"),
        file=Path("f"),
        pages=False,
        plots=False,
        force=True,
    )
    assert call("a", "--must", 1, *words.split())[2] == ("a", expected, Needed(must=1))


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("--must 1 -n 0", "--number: Input should be greater than or equal to 1 (got 0)"),
        ("--must 1 --kind c", "--kind: Input should be 'a' or 'b' (got 'c')"),
        ("--must 1 --pages", "No such option: --pages"),
        ("--must 1 --no-force", "No such option: --no-force"),
        ("--must 1 --secret 1", "No such option: --secret"),
        ("", "Missing option '--must'"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_its_flag(call, words, line):
    code, told, _ = call("a", *words.split())
    assert code == 2
    assert told.startswith(f"error: bad-input: {line}")
    assert len(told.splitlines()) == 1


def test_a_flag_of_two_settings_is_refused():
    with pytest.raises(ValueError, match="duplicate"):
        with_options(one=Some, other=Some)(lambda one, other: None)
