"""The course of one slide on the terminal: a live bar, or plain lines for anything else."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from typing import Literal, Protocol

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, Task, TaskID, TextColumn
from rich.progress import Progress as RichBar
from rich.table import Column
from rich.text import Text

from wsi_sampath.progress import Progress, Start
from wsi_sampath.shown import format_duration, plural, shown

Loudness = Literal["quiet", "normal", "verbose"]
"""Whether a command tells of failures alone, what everybody wants to know, or every detail."""

_LINE_EVERY_S = 10.0


def say(line: str) -> None:
    """Print a line on stderr; a screen that went away stops no work."""
    with suppress(OSError):
        print(shown(line), file=sys.stderr, flush=True)


def put_above(console: Console, line: str) -> None:
    """Print a line above the bars of a console, as it is."""
    console.print(shown(line), markup=False, highlight=False, emoji=False, soft_wrap=True)


def live_bar(console: Console, *columns: ProgressColumn) -> RichBar:
    """Return a bar over the width of the terminal, which goes when it is stopped."""
    # What is printed to a stdout that is no terminal must go there, and not above the bar.
    return RichBar(
        *columns,
        console=console,
        transient=True,
        expand=True,
        redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),
    )


class SlideScreen(Progress, Protocol):
    """Shows the course of one slide to its end."""

    def close(self) -> None:
        """Take away what is shown of the slide, whose files are complete, or which failed."""
        ...


class _Pace(ProgressColumn):
    """Tiles, tiles/s and the time left; then what is still to be done."""

    def render(self, task: Task) -> Text:
        """Return the text of this moment."""
        if task.finished:
            return Text("writing maps, polygons and report")
        parts = [f"{int(task.completed)}/{plural(int(task.total or 0), 'tile')}"]
        # What matters least comes last: a narrow terminal cuts it off.
        if task.time_remaining is not None:
            parts.append(f"{format_duration(task.time_remaining)} left")
        if task.speed:
            parts.append(f"{task.speed:.1f} tiles/s")
        return Text(", ".join(parts))


class LiveSlide:
    """A slide's opening lines, and a bar below them.

    Parameters
    ----------
    console
        Where they stand.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar: RichBar | None = None
        self._task = TaskID(0)

    def begin(self, start: Start) -> None:
        """See `Progress`."""
        for line in start.lines:
            put_above(self._console, line)
        name = Column(no_wrap=True, overflow="ellipsis", ratio=1, max_width=40)
        self._bar = live_bar(
            self._console,
            TextColumn("{task.description}", markup=False, table_column=name),
            BarColumn(None, table_column=Column(ratio=1)),
            _Pace(table_column=Column(no_wrap=True)),
        )
        self._task = self._bar.add_task(
            shown(start.slide), total=start.n_tiles, completed=start.n_done
        )
        self._bar.start()

    def advance(self, n_tiles: int) -> None:
        """See `Progress`."""
        if self._bar is not None:
            self._bar.advance(self._task, n_tiles)

    def warn(self, message: str) -> None:
        """See `Progress`."""
        put_above(self._console, f"warning: {message}")

    def end(self) -> None:
        """See `Progress`."""

    def close(self) -> None:
        """See `SlideScreen`."""
        if self._bar is not None:
            self._bar.stop()
        self._bar = None


class PlainSlide:
    """A slide's opening lines, and one more every ten seconds."""

    def begin(self, start: Start) -> None:
        """See `Progress`."""
        self._start = start
        self._n_done, self._n_new = start.n_done, 0
        self._began = self._told = time.monotonic()
        for line in start.lines:
            say(line)

    def advance(self, n_tiles: int) -> None:
        """See `Progress`."""
        self._n_done += n_tiles
        self._n_new += n_tiles
        now, total = time.monotonic(), self._start.n_tiles
        if now - self._told < _LINE_EVERY_S or self._n_done >= total:
            return
        self._told = now
        rate = self._n_new / max(now - self._began, 1e-9)
        left = format_duration((total - self._n_done) / max(rate, 1e-9))
        tiles = f"{self._n_done}/{plural(total, 'tile')}"
        say(f"{self._start.slide}: {tiles}, {rate:.1f} tiles/s, {left} left")

    def warn(self, message: str) -> None:
        """See `Progress`."""
        say(f"warning: {message}")

    def end(self) -> None:
        """See `Progress`."""

    def close(self) -> None:
        """See `SlideScreen`."""


def live_console() -> Console | None:
    """Return a console of stderr, if that is a terminal on which a bar can move."""
    console = Console(stderr=True)
    return console if console.is_terminal and not console.is_dumb_terminal else None


def slide_screen() -> SlideScreen:
    """Choose the bar for a terminal, plain lines for anything else."""
    console = live_console()
    return PlainSlide() if console is None else LiveSlide(console)
