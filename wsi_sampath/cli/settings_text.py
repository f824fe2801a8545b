"""Settings as a YAML file that people read and change: what differs first, then all there is."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic.fields import FieldInfo

from wsi_sampath.cli.options import blocks_of, mark_of, offered, switches_off
from wsi_sampath.errors import UsageError
from wsi_sampath.explained import explained
from wsi_sampath.files import replacing
from wsi_sampath.settings import (
    Belongs,
    Frozen,
    Help,
    Panel,
    asked,
    belongs,
    is_of_one_slide,
)
from wsi_sampath.version import __version__

_WIDTH = 100
_OF_SLIDE = "Of one slide alone; leave these out for others."


def write_config(path: Path, command: str, settings: Mapping[str, Frozen], note: str = "") -> None:
    """Write settings to a YAML file.

    Parameters
    ----------
    path
        The file; an earlier one of the same command is replaced.
    command
        Whose settings they are.
    settings
        By the names of the command's parameters.
    note
        A line on what the file does not hold, if any.

    Raises
    ------
    UsageError
        Where something else is at `path`.
    WsiError
        Where it cannot be written.
    """
    begin = f"# Settings of {command} "
    with explained(str(path)):
        if path.exists() and not _begins(path, begin):
            message = f"is there already, and no settings of {command}; choose another file"
            raise UsageError(message, subject=str(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as growing:
            growing.write_text(config_text(command, settings, note), encoding="utf-8")


def config_text(command: str, settings: Mapping[str, Frozen], note: str = "") -> str:
    """Return settings as YAML, with what differs from the defaults first and these as comments."""
    values: dict[str, Any] = {}
    of_slide: dict[str, Any] = {}
    for one in settings.values():
        for name, value in asked(one, without=(Belongs.CALL,)).items():
            is_of_slide = is_of_one_slide(type(one).model_fields[name], value)
            (of_slide if is_of_slide else values)[name] = value
    lines = [
        f"# Settings of {command} {__version__}, for {command} --config FILE.",
        "# Options on the command line win over those here.",
        *([f"# {note}"] if note else []),
        *([""] if values else []),
        *(_line(name, value) for name, value in values.items()),
        *(["", f"# {_OF_SLIDE}"] if of_slide else []),
        *(_line(name, value) for name, value in of_slide.items()),
        "",
        "# All other settings at their defaults; remove the # before a name to change one.",
        *_defaults(settings, values | of_slide),
    ]
    return "\n".join(lines) + "\n"


def _begins(path: Path, text: str) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(text.encode())) == text.encode()


def _line(name: str, value: Any) -> str:
    flow = None if isinstance(value, list) else False
    # Written as they are, some separators of lines would not be read back.
    as_it_is = str(value).isprintable()
    text = yaml.safe_dump(
        {name: value},
        default_flow_style=flow,
        sort_keys=False,
        allow_unicode=as_it_is,
        width=1 << 20,
    )
    return text.rstrip("\n")


def _defaults(settings: Mapping[str, Frozen], values: Mapping[str, Any]) -> Iterator[str]:
    groups: dict[str, list[str]] = {panel.value: [] for panel in Panel}
    for one in settings.values():
        for name, field in _unsaid(type(one), values):
            if belongs(field) is not Belongs.CALL:
                panel = mark_of(field, Panel) or Panel.OUTPUT
                groups[panel.value].extend(_default(name, field))
        for block, kind in blocks_of(type(one)).items():
            unsaid = _unsaid(kind, values.get(block, {}))
            lines = [line for name, field in unsaid for line in _default(name, field, "  ")]
            if lines:
                groups[f"{block}: a block"] = [f"#{block}:", *lines]
    for heading, lines in groups.items():
        if not lines:
            continue
        yield from ("", f"# --- {heading} ---", *lines)


def _unsaid(kind: type[Frozen], said: Mapping[str, Any]) -> list[tuple[str, FieldInfo]]:
    return [(name, field) for name, field in offered(kind).items() if name not in said]


def _default(name: str, field: FieldInfo, indent: str = "") -> list[str]:
    about = mark_of(field, Help)
    text = "" if about is None else about.text
    if switches_off(name, field):
        text = f"false: {text[0].lower()}{text[1:]}"
    default = field.default
    plain = list(default) if isinstance(default, tuple) else default
    prose = [f"{indent}# {line}" for line in textwrap.wrap(text, _WIDTH - 4)]
    return [*prose, f"{indent}#{_line(name, plain)}"]
