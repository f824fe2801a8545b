"""JSON as Gson reads it when it is lenient, which is how QuPath reads GeoJSON.

Beyond JSON it takes comments, single quotes, bare words, ``;`` for ``,`` and ``=`` for ``:``, makes
null of a value that is missing in an array, and skips the prefix that keeps browsers from running
JSON as a script. Bare words are strings: NaN and Infinity, too.
"""

from __future__ import annotations

import json
import re
from typing import Any

MOST_LEVELS = 255
"""Levels that Gson goes down."""
_LARGEST_ODD = 50_000_000

_SPACE = re.compile(r"(?:[ \t\r\n]+|//[^\r\n]*|#[^\r\n]*|/\*.*?\*/)*", re.DOTALL)
_QUOTED = {quote: re.compile(rf"(?:[^\\{quote}]+|\\.)*", re.DOTALL) for quote in "\"'"}
_BARE = re.compile(r"[^/\\;#={}\[\]:, \t\f\r\n]+")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_ESCAPES = {"t": "\t", "b": "\b", "n": "\n", "r": "\r", "f": "\f", "\n": "\n"}
_ESCAPES |= {one: one for one in "'\"\\/"}
_NOT_FOR_SCRIPTS = re.compile(r"[ \t\r\n]*\)\]\}'\n")
_WORDS = {"true": True, "false": False, "null": None}


class NotJson(ValueError):
    """Text that Gson refuses."""


class Empty(ValueError):
    """Text without any content."""


def read_lenient(text: str) -> tuple[Any, str]:
    """Read a text as Gson does.

    Returns
    -------
    content, loose
        Parsed JSON, its numbers int or float; and why a strict reader would refuse it, if so.

    Raises
    ------
    Empty
        If there is nothing but space.
    NotJson
        If it is not JSON, even so, or nested more deeply than `MOST_LEVELS`.
    """
    constants: list[str] = []

    def constant(name: str) -> str:
        constants.append(name)
        return name

    try:
        value = json.JSONDecoder(parse_constant=constant, parse_int=_integer, strict=False).decode(
            text
        )
    except RecursionError as error:
        raise NotJson(f"nested more than {MOST_LEVELS} levels deep") from error
    except ValueError as error:
        if len(text) > _LARGEST_ODD:
            raise NotJson(str(error)) from error
        return _Reader(text).read(), f"JSON only to a lenient reader: {error}"
    _check_levels(value)
    return value, f"{constants[0]} is not a JSON number" if constants else ""


def _integer(digits: str) -> int | float:
    # Python turns only so many digits into an integer.
    return int(digits) if len(digits) < 1000 else float(digits)


def _check_levels(value: object) -> None:
    layer = [value]
    for _ in range(MOST_LEVELS + 1):
        layer = [inner for node in layer if isinstance(node, list | dict) for inner in _inner(node)]
        if not layer:
            return
    raise NotJson(f"nested more than {MOST_LEVELS} levels deep")


def _inner(node: list[Any] | dict[str, Any]) -> list[Any]:
    values = node.values() if isinstance(node, dict) else node
    return [one for one in values if isinstance(one, list | dict)]


class _Reader:
    """A text, and how far it has been read."""

    def __init__(self, text: str) -> None:
        self._text = text
        prefix = _NOT_FOR_SCRIPTS.match(text)
        self._at = prefix.end() if prefix else 0

    def read(self) -> Any:  # noqa: ANN401 - parsed JSON
        if self._next() == "":
            raise Empty
        value = self._value(0)
        if self._next():
            raise NotJson(f"something follows its end, at character {self._at}")
        return value

    def _next(self) -> str:
        """Skip space and comments; return the character there, or nothing at the end."""
        found = _SPACE.match(self._text, self._at)
        self._at = found.end() if found else self._at
        return self._text[self._at : self._at + 1]

    def _value(self, level: int) -> Any:  # noqa: ANN401 - parsed JSON
        match self._next():
            case "{":
                return self._object(level + 1)
            case "[":
                return self._array(level + 1)
            case '"' | "'":
                return self._quoted()
            case _:
                return self._word()

    def _enter(self, level: int) -> None:
        self._at += 1
        if level > MOST_LEVELS:
            raise NotJson(f"nested more than {MOST_LEVELS} levels deep")

    def _array(self, level: int) -> list[Any]:
        self._enter(level)
        values: list[Any] = []
        if self._next() == "]":
            self._at += 1
            return values
        while True:
            values.append(None if self._next() in (",", ";", "]") else self._value(level))
            if not self._goes_on("]"):
                return values

    def _object(self, level: int) -> dict[str, Any]:
        self._enter(level)
        values: dict[str, Any] = {}
        if self._next() == "}":
            self._at += 1
            return values
        while True:
            name = self._name()
            values[name] = self._value(level)
            if not self._goes_on("}"):
                return values

    def _goes_on(self, end: str) -> bool:
        found = self._next()
        if found not in (",", ";", end):
            raise NotJson(f"unterminated, or no comma, at character {self._at}")
        self._at += 1
        return found != end

    def _name(self) -> str:
        name = self._quoted() if self._next() in ("'", '"') else self._bare()
        if self._next() not in (":", "="):
            raise NotJson(f"no colon after a name, at character {self._at}")
        is_arrow = self._text.startswith("=>", self._at)
        self._at += 2 if is_arrow else 1
        return name

    def _quoted(self) -> str:
        quote = self._text[self._at]
        found = _QUOTED[quote].match(self._text, self._at + 1)
        end = found.end() if found else len(self._text)
        if self._text[end : end + 1] != quote:
            raise NotJson(f"a text without its end, from character {self._at}")
        inside, self._at = self._text[self._at + 1 : end], end + 1
        return _ESCAPE.sub(_unescaped, inside)

    def _bare(self) -> str:
        found = _BARE.match(self._text, self._at)
        if found is None:
            raise NotJson(f"a value or name was expected at character {self._at}")
        self._at = found.end()
        return found.group()

    def _word(self) -> Any:  # noqa: ANN401 - parsed JSON
        word = self._bare()
        if word.lower() in _WORDS:
            return _WORDS[word.lower()]
        if _NUMBER.fullmatch(word):
            return _integer(word) if word.lstrip("-").isdigit() else float(word)
        return word


def _unescaped(found: re.Match[str]) -> str:
    escape = found.group(1)
    if len(escape) == 5:
        return chr(int(escape[1:], 16))
    if escape not in _ESCAPES:
        raise NotJson(f"the escape \\{escape} is not one of JSON")
    return _ESCAPES[escape]
