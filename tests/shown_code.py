"""The fenced blocks of README and docs, and the command lines in them."""

from __future__ import annotations

import inspect
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import typer

from wsi_sampath.cli import COMMANDS
from wsi_sampath.cli.options import _built

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
LANGUAGES = {"bash", "console", "python", "groovy", "r", "yaml", "json", "text"}
PROMPT = "$ "
ELSEWHERE = {"cd", "docker", "git", "napari", "QuPath", "singularity", "source", "ssh"}
"""What the pages call that is no business of ours."""
_FENCE = re.compile(r"^(\s*)```(.*)$")
_MARK = re.compile(r"^\s*<!-- (not run|slow): (\S.*) -->$")
_SEPARATORS = {"&&", "||", "|", ";", "&"}
_REDIRECTIONS = {">", ">>", "<", ">&"}
_UNFINISHED = re.compile(r"^Missing|requires an argument")
_VARIABLE = re.compile(r"[A-Z][A-Z_0-9]*=")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes
    ----------
    line
        Where it begins, counted from 1.
    mark
        ``not run`` or ``slow`` with the reason, from a comment before the block; or both empty.
    """

    page: Path
    line: int
    language: str
    text: str
    mark: tuple[str, str]

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    """Return the fenced blocks of a page, in order."""
    lines = iter(enumerate(page.read_text(encoding="utf-8").splitlines(), 1))
    found, before = [], ""
    for number, line in lines:
        fence = _FENCE.match(line)
        if fence is None:
            before = line if line.strip() else before
            continue
        inside = []
        for _, each in lines:
            if each.strip() == "```":
                break
            inside.append(each.removeprefix(fence[1]))
        mark = _MARK.match(before)
        found.append(
            Block(
                page,
                number,
                fence[2].partition(" ")[0],
                "\n".join(inside) + "\n",
                (mark[1], mark[2]) if mark else ("", ""),
            )
        )
        before = ""
    return found


def command_lines(block: Block) -> Iterator[list[str]]:
    """Yield the words of every command of a block, without comments and redirections."""
    text = block.text.replace("\\\n", " ")
    for line in text.splitlines():
        if block.language == "console":
            if not line.startswith(PROMPT):
                continue
            line = line.removeprefix(PROMPT)
        yield from split_line(line)


def split_line(line: str) -> Iterator[list[str]]:
    """Yield the words of every command of a line."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    tokens = iter([*lexer, ";"])
    for token in tokens:
        if token in _REDIRECTIONS:
            next(tokens)
        elif token not in _SEPARATORS:
            words.append(token)
        elif words:
            yield words
            words = []


def own_command(words: list[str]) -> list[str] | None:
    """Return a command of ours as ``wsi-NAME ...``, or None for any other."""
    while words and _VARIABLE.match(words[0]):
        words = words[1:]
    if words[:3] == ["python", "-m", "wsi_sampath"]:
        words = [f"wsi-{words[3]}", *words[4:]]
    return words if words and words[0].startswith("wsi-") else None


def run_main(words: list[str], monkeypatch) -> int:
    """Run a command of ours within this process; returns its exit code."""
    monkeypatch.setattr(sys, "argv", words)
    try:
        _module(words[0]).main()
    except SystemExit as stopped:
        return int(stopped.code or 0)
    return 0


def parse(words: list[str], monkeypatch, *, whole: bool = True) -> None:
    """Let a command's own Typer app read a line, and its settings take the values; run nothing.

    Parameters
    ----------
    whole
        The line has all its arguments, as one in running text need not.

    Raises
    ------
    typer.TyperException, WsiError
        As the command itself would end.
    """
    module = _module(words[0])
    if words[1:] == ["--version"]:
        return
    monkeypatch.setattr(sys, "argv", words)

    def read(app, command, *, words=None, **_):
        given = sys.argv[1:] if words is None else words
        context = _read(typer.main.get_command(app), app, command, given)
        if command == "wsi-train" and whole:
            _read_training(context)
        raise typer.Exit

    monkeypatch.setattr(module, "run", read)
    try:
        module.main()
    except typer.Exit:
        pass
    except typer.TyperException as error:
        if whole or not _UNFINISHED.search(error.format_message()):
            raise


def _module(name: str):
    short = name.removeprefix("wsi-")
    assert short in (*COMMANDS, "completion"), f"there is no {name}"
    return import_module(f"wsi_sampath.cli.{short}")


def _read(command, app, name: str, words: list[str]):
    context = command.make_context(name, list(words))
    if hasattr(command, "commands"):
        name, command, rest = command.resolve_command(
            context, [*context._protected_args, *context.args]
        )
        context = command.make_context(name, rest, parent=context)
    elif app.registered_commands:
        for kind in _kinds(app.registered_commands[0].callback):
            _built(kind, context.params, {})
    return context


def _read_training(context) -> None:
    from wsi_sampath.training.configuration import read_settings

    read_settings(context.params["config"], context.params["settings"] or ())


def _kinds(callback) -> list[type]:
    """Return the settings that a command builds from its options."""
    return list(inspect.getclosurevars(callback).nonlocals.get("kinds", {}).values())
