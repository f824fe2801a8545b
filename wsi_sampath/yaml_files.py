"""YAML as people write it: small, flat, without tricks; anything else is refused in one line."""

from __future__ import annotations

import os
import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from wsi_sampath.errors import Reason, WsiError
from wsi_sampath.files import require_file

MAX_BYTES = 256 * 1024
MAX_DEPTH = 32
MAX_NODES = 20_000
"""Limit on keys, values and items, with every alias expanded."""
MAX_SCALAR = 20_000

_CONSTRUCTOR_FAILURES = (ValueError, LookupError, OverflowError, TypeError, AttributeError)
"""What PyYAML lets out of its constructors, as for ``2020-99-99`` or ``!!bool x``."""


def read_yaml(path: str | Path, *, reason: Reason = "bad-input") -> object:
    """Read a YAML file; no code in it is run, and size and nesting are bounded.

    Parameters
    ----------
    path
        The file, in UTF-8.
    reason
        Subject of the error.

    Raises
    ------
    WsiError
        If it is missing, not a regular file, too large or deep, not YAML, or names a key twice.
    """
    require_file(Path(path), reason)
    try:
        return parse_yaml(_text(Path(path)))
    except OSError as error:
        why = error.strerror or str(error)
        raise WsiError(reason, f"cannot be read: {why}", subject=str(path)) from error
    except ValueError as error:
        raise WsiError(reason, str(error), subject=str(path)) from error


def parse_yaml(text: str) -> object:
    """Return the values of a YAML text.

    Raises
    ------
    ValueError
        With one sentence on what is wrong.

    Examples
    --------
    >>> parse_yaml("tile: 512")
    {'tile': 512}
    """
    try:
        _check_extent(text)
        return yaml.load(text, Loader=_Loader)  # noqa: S506
    except yaml.YAMLError as error:
        raise ValueError(f"is not YAML: {_short(error)}") from error
    except RecursionError as error:
        raise ValueError(f"is nested deeper than {MAX_DEPTH} levels") from error
    except _CONSTRUCTOR_FAILURES as error:
        if isinstance(error, _Refused):
            raise
        raise ValueError(f"holds a value that cannot be read: {_short(error)}") from error


def beside(folder: Path, word: str) -> str:
    """Return what a word in a YAML file of this folder means: a path from there, if there is one.

    Anything else is a name, or a path from the current folder, and returned as it is.
    """
    path = folder / word
    return str(path) if os.path.exists(path) else word


class _Refused(ValueError):
    """An error of this module, its message ready for the user."""


_INTEGER = "tag:yaml.org,2002:int"
_FLOAT = "tag:yaml.org,2002:float"


class _Loader(yaml.SafeLoader):
    """The safe loader, which besides refuses a key twice, and reads numbers as people do.

    To YAML 1.1, 064 would be an octal number, and 1:30 one of the base 60.
    """

    # Those of the safe loader, without its patterns of numbers; they are told by the first letter.
    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's own name
        first: [(tag, pattern) for tag, pattern in known if tag not in {_INTEGER, _FLOAT}]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_number(self, node: yaml.ScalarNode) -> int:
        """Return a whole number, of the base 10 unless it begins with 0x or 0b."""
        word = node.value.replace("_", "")
        return int(word, 0) if "x" in word or "b" in word else int(word)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    line = key.start_mark.line + 1
                    raise _Refused(f"gives the key '{key.value[:60]}' twice (line {line})")
                seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.add_constructor(_INTEGER, _Loader.construct_number)
_Loader.add_implicit_resolver(
    _INTEGER,
    re.compile(r"[-+]?(?:0[0-7_]*|[1-9][0-9_]*|0x[0-9a-fA-F_]+|0b[01_]+)$"),
    list("-+0123456789"),
)
_Loader.add_implicit_resolver(
    _FLOAT,
    re.compile(
        r"(?:[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+][0-9]+)?"
        r"|[-+]?\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
    list("-+0123456789."),
)


def _text(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"is larger than {MAX_BYTES // 1024} KiB, so not such a YAML file")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"is not a text file in UTF-8 (byte {error.start})") from error


def _check_extent(text: str) -> None:
    """Refuse nesting and aliases that would unfold to more than a person would write."""
    sizes: dict[str, int] = {}
    open_nodes: list[tuple[str | None, int]] = [(None, 0)]
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor, 1))
            if len(open_nodes) > MAX_DEPTH:
                raise _Refused(f"is nested deeper than {MAX_DEPTH} levels")
            continue
        if isinstance(event, yaml.ScalarEvent):
            if len(event.value) > MAX_SCALAR:
                raise _Refused(f"holds a text of more than {MAX_SCALAR} characters")
            anchor, size = event.anchor, 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, size = open_nodes.pop()
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise _Refused(f"its alias *{event.anchor} refers to itself or to nothing")
            anchor, size = None, sizes[event.anchor]
        else:
            continue
        if anchor is not None:
            sizes[anchor] = size
        parent, before = open_nodes[-1]
        open_nodes[-1] = (parent, before + size)
        if before + size > MAX_NODES:
            raise _Refused(f"unfolds to more than {MAX_NODES} values")


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
