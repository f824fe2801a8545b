"""Progress of a run or a loop, reported while it lasts; Python callers may ignore it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

_LINE_EVERY_S = 10.0
Thing = TypeVar("Thing")


@dataclass(frozen=True)
class Start:
    """What a slide's run starts with.

    Attributes
    ----------
    slide
        Name of its file.
    n_tiles
        Tiles of the whole slide that hold tissue.
    n_done
        Of them those that an earlier run has finished.
    lines
        What a person should know: the slide and its scale, the model and its tiles.
    """

    slide: str
    n_tiles: int
    n_done: int = 0
    lines: tuple[str, ...] = ()


class Progress(Protocol):
    """Receives the events of a run; all calls but `warn` come from one thread."""

    def begin(self, start: Start) -> None:
        """Start a slide."""
        ...

    def advance(self, n_tiles: int) -> None:
        """Count tiles that are done."""
        ...

    def warn(self, message: str) -> None:
        """Report something that the user should know."""
        ...

    def end(self) -> None:
        """Leave the network: what is done of the slide goes on into its files."""
        ...


class Silent:
    """Progress that reports nothing."""

    def begin(self, start: Start) -> None:
        """See `Progress`."""

    def advance(self, n_tiles: int) -> None:
        """See `Progress`."""

    def warn(self, message: str) -> None:
        """See `Progress`."""

    def end(self) -> None:
        """See `Progress`."""


def counted(things: Iterable[Thing], what: str, total: int) -> Iterator[Thing]:
    """Yield `things`, showing on stderr how many of `total` have come."""
    return _bar(things, what, total) if sys.stderr.isatty() else _lines(things, what, total)


def _bar(things: Iterable[Thing], what: str, total: int) -> Iterator[Thing]:
    from rich.console import Console
    from rich.progress import track

    yield from track(things, what, total=total, console=Console(stderr=True))


def _lines(things: Iterable[Thing], what: str, total: int) -> Iterator[Thing]:
    last = time.monotonic()
    for done, thing in enumerate(things, start=1):
        yield thing
        if time.monotonic() - last >= _LINE_EVERY_S and done < total:
            last = time.monotonic()
            print(f"{what}: {done} of {total}", file=sys.stderr, flush=True)
    print(f"{what}: {total} of {total}", file=sys.stderr, flush=True)
