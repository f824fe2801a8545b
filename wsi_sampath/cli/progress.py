"""Progress on the terminal: a live bar, or plain lines where the output is not a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import suppress

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichBar
from rich.text import Text

from wsi_sampath.batch.progress import BatchCounts, BatchProgress
from wsi_sampath.batch.record.outcome import Outcome
from wsi_sampath.progress import Progress
from wsi_sampath.shown import plural, shown

_LINE_EVERY_S = 10.0


def say(line: str) -> None:
    """Print a line on stderr; a screen that went away stops no work."""
    with suppress(OSError):
        print(shown(line), file=sys.stderr, flush=True)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("-- tiles/s" if speed is None else f"{speed:.1f} tiles/s")


class LiveBar:
    """A bar with tiles/s and the time left."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar: RichBar | None = None
        self._task = TaskID(0)

    def begin(self, slide: str, n_tiles: int) -> None:
        """See `Progress`."""
        name = TextColumn("{task.description}", markup=False)
        columns = (name, BarColumn(), MofNCompleteColumn())
        self._bar = RichBar(*columns, _Rate(), TimeRemainingColumn(), console=self._console)
        self._task = self._bar.add_task(shown(slide), total=n_tiles)
        self._bar.start()

    def advance(self, n_tiles: int) -> None:
        """See `Progress`."""
        if self._bar is not None:
            self._bar.advance(self._task, n_tiles)

    def warn(self, message: str) -> None:
        """See `Progress`."""
        self._console.print(shown(f"warning: {message}"), markup=False, highlight=False)

    def note(self, message: str) -> None:
        """See `Progress`."""
        self._console.print(shown(message), markup=False, highlight=False)

    def end(self) -> None:
        """See `Progress`."""
        if self._bar is not None:
            self._bar.stop()


class PlainLines:
    """One line at the start, one every ten seconds, one at the end."""

    def begin(self, slide: str, n_tiles: int) -> None:
        """See `Progress`."""
        self._slide, self._total, self._done = slide, n_tiles, 0
        self._start = self._told = time.monotonic()
        say(f"{slide}: {plural(n_tiles, 'tile')}")

    def advance(self, n_tiles: int) -> None:
        """See `Progress`."""
        self._done += n_tiles
        now = time.monotonic()
        if now - self._told < _LINE_EVERY_S and self._done < self._total:
            return
        self._told = now
        rate = self._done / max(now - self._start, 1e-9)
        left = (self._total - self._done) / max(rate, 1e-9)
        counts = f"{self._done}/{plural(self._total, 'tile')}, {rate:.1f} tiles/s"
        say(f"{self._slide}: {counts}" + (f", {left:.0f} s left" if left else ""))

    def warn(self, message: str) -> None:
        """See `Progress`."""
        say(f"warning: {message}")

    def note(self, message: str) -> None:
        """See `Progress`."""
        say(message)

    def end(self) -> None:
        """See `Progress`."""


class LiveBatch:
    """A bar for the batch, and below it one for the slide that runs.

    Parameters
    ----------
    console
        Where they stand.
    ended
        Tells, above the bars, how each slide ended.
    """

    def __init__(self, console: Console, ended: Callable[[Outcome], None]) -> None:
        self._console, self._ended = console, ended
        columns = (TextColumn("{task.description}", markup=False), BarColumn())
        self._bar = RichBar(*columns, MofNCompleteColumn(), console=console)
        self._counts = BatchCounts(0)
        self._slide: TaskID | None = None

    def begin_batch(self, n_slides: int) -> None:
        """See `BatchProgress`."""
        self._counts = BatchCounts(n_slides)
        self._batch = self._bar.add_task(self._counts.line(), total=n_slides)
        self._bar.start()

    def begin(self, slide: str, n_tiles: int) -> None:
        """See `Progress`."""
        self._slide = self._bar.add_task(shown(slide), total=n_tiles)

    def advance(self, n_tiles: int) -> None:
        """See `Progress`."""
        self._counts.tiles += n_tiles
        if self._slide is not None:
            self._bar.advance(self._slide, n_tiles)
        self._bar.update(self._batch, description=self._counts.line())

    def warn(self, message: str) -> None:
        """See `Progress`."""
        self._console.print(shown(f"warning: {message}"), markup=False, highlight=False)

    def note(self, message: str) -> None:
        """See `Progress`."""
        self._console.print(shown(message), markup=False, highlight=False)

    def end(self) -> None:
        """See `Progress`."""
        if self._slide is not None:
            self._bar.remove_task(self._slide)
        self._slide = None

    def finish_slide(self, outcome: Outcome, *, elsewhere: bool = False) -> None:
        """See `BatchProgress`."""
        self._ended(outcome)
        self._counts.count(outcome, with_tiles=elsewhere)
        self._bar.update(self._batch, advance=1, description=self._counts.line())

    def end_batch(self) -> None:
        """See `BatchProgress`."""
        self._bar.stop()


class PlainBatch:
    """The plain lines of every slide, and one for the batch after each.

    Parameters
    ----------
    slides
        Shows the slides.
    ended
        Tells how each slide ended.
    is_single
        Whether there is but one slide, and so nothing to say of a batch.
    """

    def __init__(
        self, slides: Progress, ended: Callable[[Outcome], None], *, is_single: bool
    ) -> None:
        self._slides, self._ended = slides, ended
        self._is_single = is_single
        self._counts = BatchCounts(1)

    def begin_batch(self, n_slides: int) -> None:
        """See `BatchProgress`."""
        self._counts = BatchCounts(n_slides)

    def begin(self, slide: str, n_tiles: int) -> None:
        """See `Progress`."""
        self._slides.begin(slide, n_tiles)

    def advance(self, n_tiles: int) -> None:
        """See `Progress`."""
        self._counts.tiles += n_tiles
        self._slides.advance(n_tiles)

    def warn(self, message: str) -> None:
        """See `Progress`."""
        self._slides.warn(message)

    def note(self, message: str) -> None:
        """See `Progress`."""
        self._slides.note(message)

    def end(self) -> None:
        """See `Progress`."""
        self._slides.end()

    def finish_slide(self, outcome: Outcome, *, elsewhere: bool = False) -> None:
        """See `BatchProgress`."""
        self._ended(outcome)
        self._counts.count(outcome, with_tiles=elsewhere)
        if not self._is_single:
            say(self._counts.line())

    def end_batch(self) -> None:
        """See `BatchProgress`."""


def batch_progress(ended: Callable[[Outcome], None], *, is_single: bool) -> BatchProgress:
    """Choose the progress of a batch: live on a terminal, plain lines for anything else.

    Parameters
    ----------
    ended
        Tells how each slide ended.
    is_single
        Whether there is but one slide, and so nothing to say of a batch.
    """
    if sys.stderr.isatty() and not is_single:
        return LiveBatch(Console(stderr=True), ended)
    return PlainBatch(terminal_progress(), ended, is_single=is_single)


def terminal_progress() -> Progress:
    """Choose the bar for a terminal, plain lines for anything else."""
    return LiveBar(Console(stderr=True)) if sys.stderr.isatty() else PlainLines()
