"""What ``--help`` looks like: plain text, the options of a command in groups."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperGroup

from wsi_sampath.settings import Panel

_ARGUMENTS, _OPTIONS = "Arguments", "Options"
_ORDER = (_ARGUMENTS, *(panel.value for panel in Panel), _OPTIONS)
# Not an option of each command: `run` looks for it before anything else is read.
_VERSION = ("--version", "Show the version and exit.")


class Command(TyperCommand):
    """A command whose help has a heading for each panel of its options.

    Rich would draw the panels as boxes, in twice the lines and twice the time, and swallow what
    stands in square brackets.
    """

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments and options, group by group."""
        _write_groups(self.get_params(ctx), ctx, formatter)


class Group(TyperGroup):
    """A command of commands, with the same help."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write options, then the commands."""
        _write_groups(self.get_params(ctx), ctx, formatter)
        self.format_commands(ctx, formatter)


def _write_groups(parameters: Any, ctx: Any, formatter: Any) -> None:
    groups: dict[str, list[tuple[str, str]]] = {name: [] for name in _ORDER}
    for parameter in parameters:
        record = parameter.get_help_record(ctx)
        if record is not None:
            usual = _ARGUMENTS if parameter.param_type_name == "argument" else _OPTIONS
            groups[getattr(parameter, "rich_help_panel", None) or usual].append(record)
    groups[_OPTIONS].append(_VERSION)
    for name, records in groups.items():
        if records:
            with formatter.section(name):
                formatter.write_dl(records)
