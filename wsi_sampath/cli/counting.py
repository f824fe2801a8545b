"""Progress through a known number of things: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

_LINE_EVERY_S = 10.0
Thing = TypeVar("Thing")


def counted(things: Iterable[Thing], what: str, total: int) -> Iterator[Thing]:
    """Pass on `things`, showing on stderr how many of `total` have come."""
    return _bar(things, what, total) if sys.stderr.isatty() else _lines(things, what, total)


def _bar(things: Iterable[Thing], what: str, total: int) -> Iterator[Thing]:
    from rich.console import Console
    from rich.progress import track

    yield from track(things, what, total=total, console=Console(stderr=True))


def _lines(things: Iterable[Thing], what: str, total: int) -> Iterator[Thing]:
    told = time.monotonic()
    for done, thing in enumerate(things, start=1):
        yield thing
        if time.monotonic() - told >= _LINE_EVERY_S and done < total:
            told = time.monotonic()
            print(f"{what}: {done} of {total}", file=sys.stderr, flush=True)
    print(f"{what}: {total} of {total}", file=sys.stderr, flush=True)
