"""What ``--help`` looks like: plain text, the options of a command in groups."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from typer.core import TyperCommand, TyperGroup

_ARGUMENTS, _OPTIONS = "Arguments", "Options"
# Not an option of each command: `run` looks for it before anything else is read.
_VERSION = ("--version", "Show the version and exit.")
WIDEST = 120
"""Columns beyond which lines of help do not grow with the terminal."""
_LIST = re.compile(r"<list\[(\w+)\]>")
_TYPES = {"<str>": "TEXT", "<path>": "PATH", "<Path>": "PATH", "<int>": "N", "<float>": "NUMBER"}
_WHOLE = 1000


class Command(TyperCommand):
    """A command whose help has a heading for each panel of its options.

    Rich would draw the panels as boxes, in twice the lines and twice the time, and swallow what
    stands in square brackets.
    """

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return what stands behind the command's name."""
        return ["[OPTIONS]", *_arguments(self.get_params(ctx))]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments and options, group by group."""
        _write_groups(self.get_params(ctx), ctx, formatter)


class Group(TyperGroup):
    """A command of commands, with the same help."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write options, then the commands."""
        _write_groups(self.get_params(ctx), ctx, formatter)
        self.format_commands(ctx, formatter)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands, each with its whole first sentence."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, one.get_short_help_str(_WHOLE)) for name, one in commands if one]
            )


def _arguments(parameters: Any) -> list[str]:
    """Return the arguments as they stand in the line of usage."""
    pieces = []
    for one in parameters:
        if one.param_type_name == "argument":
            piece = _name(one) if one.required else f"[{_name(one)}]"
            pieces.append(f"{piece}..." if one.nargs == -1 else piece)
    return pieces


def _name(argument: Any) -> str:
    return str(argument.metavar or argument.name.upper())


def _in_words(parameter: Any, record: tuple[str, str]) -> tuple[str, str]:
    """Return a line of help with the types in words of the shell, not of Python."""
    name, text = record
    if parameter.param_type_name == "argument":
        choices = re.search(r"<[^>]*\|[^>]*>", name)
        return (f"{_name(parameter)} {choices[0]}" if choices else _name(parameter)), text
    name = _LIST.sub(r"<\1>", name)
    for python, word in _TYPES.items():
        name = name.replace(python, word)
    return name, text


def _write_groups(parameters: Any, ctx: Any, formatter: Any) -> None:
    for group, records in grouped_records(parameters, ctx).items():
        with formatter.section(group):
            formatter.write_dl(records)


def grouped_records(parameters: Any, ctx: Any) -> dict[str, list[tuple[str, str]]]:
    """Return flags and meanings of what a command takes, under the headings of its help."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for parameter in parameters:
        record = parameter.get_help_record(ctx)
        if record is not None:
            usual = _ARGUMENTS if parameter.param_type_name == "argument" else _OPTIONS
            group = getattr(parameter, "rich_help_panel", None) or usual
            groups.setdefault(group, []).append(_in_words(parameter, record))
    groups.setdefault(_OPTIONS, []).append(_VERSION)
    return {group: groups[group] for group in _in_order(groups)}


def _in_order(groups: Collection[str]) -> list[str]:
    usual = {_ARGUMENTS, _OPTIONS}
    if usual.issuperset(groups):
        panels = []
    else:
        # Imported here: pydantic takes a tenth of a second, which not all commands need.
        from wsi_sampath.settings import Panel

        panels = [panel.value for panel in Panel]
    return [group for group in (_ARGUMENTS, *panels, _OPTIONS) if group in groups]
