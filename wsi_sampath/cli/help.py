"""What ``--help`` looks like: plain text, the options of a command in groups."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from typer.core import TyperCommand, TyperGroup

_ARGUMENTS, _OPTIONS = "Arguments", "Options"
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
    groups: dict[str, list[tuple[str, str]]] = {}
    for parameter in parameters:
        record = parameter.get_help_record(ctx)
        if record is not None:
            usual = _ARGUMENTS if parameter.param_type_name == "argument" else _OPTIONS
            group = getattr(parameter, "rich_help_panel", None) or usual
            groups.setdefault(group, []).append(record)
    groups.setdefault(_OPTIONS, []).append(_VERSION)
    for group in _in_order(groups):
        with formatter.section(group):
            formatter.write_dl(groups[group])


def _in_order(groups: Collection[str]) -> list[str]:
    usual = {_ARGUMENTS, _OPTIONS}
    if usual.issuperset(groups):
        panels = []
    else:
        # Imported here: pydantic takes a tenth of a second, which not all commands need.
        from wsi_sampath.settings import Panel

        panels = [panel.value for panel in Panel]
    return [group for group in (_ARGUMENTS, *panels, _OPTIONS) if group in groups]
