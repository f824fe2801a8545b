"""What a server is asked for, whatever its protocol; tries that failed are made again."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from wsi_sampath.errors import WsiError

# Half a minute in all: as long as a server takes to start again.
WAITS_S: tuple[float, ...] = (0.5, 1, 2, 4, 8, 15)
# A name that is mistyped is said soon; a server that has answered once is waited for.
FIRST_TRIES = 4
_LONGEST_WAIT_S = 30.0
RESUME = "run the command again to resume"

T = TypeVar("T")


@dataclass(frozen=True)
class Stamp:
    """What tells one content of an address from another.

    Attributes
    ----------
    size
        In bytes.
    tag
        The server's ETag, or when the file was changed; empty where the server states neither.
    """

    size: int
    tag: str


class Wire(Protocol):
    """One file of a server; its methods may be called from several threads at once.

    They raise `Broken` where another try may help, and `WsiError` where none does.
    """

    def begin(self, count: int) -> tuple[Stamp, bytes]:
        """Return the state of the file, with its first `count` bytes or all."""
        ...

    def fetch(self, start: int, stop: int) -> tuple[Stamp, bytes]:
        """Return the bytes from `start` up to `stop`, with the state that they belong to."""
        ...


class Broken(Exception):
    """A try that failed, and that may succeed when it is made again.

    Parameters
    ----------
    why
        What happened, as the middle of a sentence.
    wait_s
        How long the server asks to be left alone.
    """

    def __init__(self, why: str, wait_s: float = 0.0) -> None:
        super().__init__(why)
        self.why, self.wait_s = why, wait_s


def patiently(attempt: Callable[[], T], *, tries: int | None = None) -> T:
    """Return what an attempt returns, made again after ever longer waits where it breaks.

    Parameters
    ----------
    attempt
        What is tried.
    tries
        How often at most; as often as there are `WAITS_S`, and once more, if None.

    Raises
    ------
    WsiError
        ``unreachable`` where the last try broke as well, and whatever else `attempt` raises.
    """
    waits = WAITS_S if tries is None else WAITS_S[: tries - 1]
    for wait in waits:
        try:
            return attempt()
        except Broken as broken:
            asked = min(broken.wait_s, _LONGEST_WAIT_S)
        time.sleep(max(wait, asked))
    try:
        return attempt()
    except Broken as broken:
        message = f"{broken.why}, at {len(waits) + 1} tries; {RESUME}"
        raise WsiError("unreachable", message) from None
