"""A terminal for tests: what a person sees of a command in the end, kept as golden text.

Set WSI_SAMPATH_RENEW_SCREENS to write the golden texts anew, and look at what has changed in them.
"""

from __future__ import annotations

import io
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyte
import pytest

WIDTHS = (80, 120)
_SCREENS = Path(__file__).parent / "cli" / "screens"
_LINES = 200
# What differs from run to run is taken out before it decides where lines are broken.
_OF_THE_MOMENT = (
    (re.compile(r"\d+(\.\d+)? (tiles/s|mm2/s|MB)"), r"# \2"),
    (
        re.compile(r"(plan|network|for files|read|blend|write|vectorise|save|total) \d+\.\d"),
        r"\1 #",
    ),
)


class Terminal(io.StringIO):
    """A stream that is a terminal, and remembers what stands on its screen.

    Parameters
    ----------
    width
        Columns.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self._screen = pyte.Screen(width, _LINES)
        self._stream = pyte.Stream(self._screen)
        self._lock = threading.Lock()

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        written = len(text)
        for pattern, instead in _OF_THE_MOMENT:
            text = pattern.sub(instead, text)
        with self._lock:
            self._stream.feed(text.replace("\n", "\r\n"))
        return written

    def text(self) -> str:
        """Return what stands on the screen now."""
        with self._lock:
            lines = [line.rstrip() for line in self._screen.display]
        return "\n".join(lines).rstrip() + "\n"


@contextmanager
def on_terminal(
    monkeypatch: pytest.MonkeyPatch, width: int, *, stdout: bool = True
) -> Iterator[Terminal]:
    """Let stderr, and `stdout` unless that is to be a pipe, be a terminal."""
    terminal = Terminal(width)
    with monkeypatch.context() as patch:
        for name, value in (("COLUMNS", width), ("LINES", _LINES), ("TERM", "xterm")):
            patch.setenv(name, str(value))
        patch.delenv("NO_COLOR", raising=False)
        patch.setattr("sys.stderr", terminal)
        if stdout:
            patch.setattr("sys.stdout", terminal)
        yield terminal


def check_screen(name: str, width: int, text: str) -> None:
    """Compare a screen with its golden text ``screens/NAME.WIDTH.txt``."""
    path = _SCREENS / f"{name}.{width}.txt"
    if os.environ.get("WSI_SAMPATH_RENEW_SCREENS"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")
