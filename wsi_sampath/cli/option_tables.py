"""The options of all commands as a page of docs, from the commands themselves."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import typer

from wsi_sampath.cli import COMMANDS
from wsi_sampath.cli.help import grouped_records

_WITHIN = {
    "evaluate": {"prompts": ("wsi_sampath.cli.evaluate_prompts", "app")},
    "prompt": {"precompute": ("wsi_sampath.cli.prompt", "precompute_app")},
}
"""Commands with a second word that are apps of their own."""
_HELP: dict[str, Any] = {"help_option_names": ["-h", "--help"]}


def options_page() -> Iterator[str]:
    """Yield the lines of the page: a table for each command, as its ``--help`` groups them."""
    yield from ("# Options", "", "What `-h` of each command says.")
    for title, command in _commands():
        context = command.make_context(title, [], resilient_parsing=True, **_HELP)
        yield from ("", f"## {title}", "", _escaped(command.help.partition("\n\n")[0]))
        for panel, records in grouped_records(command.get_params(context), context).items():
            yield from ("", f"| {panel} | |", "| --- | --- |")
            yield from (f"| {_code(name)} | {_escaped(text)} |" for name, text in records)


def _commands() -> Iterator[tuple[str, Any]]:
    """Yield every command with its name: those of groups one by one."""
    for name in COMMANDS:
        command = typer.main.get_command(import_module(f"wsi_sampath.cli.{name}").app)
        inside = getattr(command, "commands", None)
        if inside is None:
            yield f"wsi-{name}", command
        else:
            yield from ((f"wsi-{name} {second}", one) for second, one in inside.items())
        for second, (module, app) in _WITHIN.get(name, {}).items():
            inner = getattr(import_module(module), app)
            yield f"wsi-{name} {second}", typer.main.get_command(inner)


def _code(name: str) -> str:
    # A bar within backticks ends the cell for some readers of Markdown, and for others does not.
    return f"<code>{_escaped(name)}</code>" if "|" in name else f"`{name}`"


def _escaped(text: str) -> str:
    return " ".join(text.split()).replace("|", "&#124;").replace("<", "&lt;")
