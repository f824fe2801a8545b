"""The course of a batch on the terminal: one live bar for the whole, or plain lines."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn
from rich.table import Column

from wsi_sampath.batch.progress import BatchCounts, BatchProgress, SilentBatch
from wsi_sampath.batch.record.outcome import Outcome
from wsi_sampath.cli.progress import (
    Loudness,
    SlideScreen,
    live_bar,
    live_console,
    put_above,
    say,
    slide_screen,
)
from wsi_sampath.progress import Start

_LINE_EVERY_S = 60.0
Ended = Callable[[Outcome], None]


class QuietBatch(SilentBatch):
    """Tells how slides ended, and nothing else."""

    def __init__(self, ended: Ended) -> None:
        self._ended = ended

    def finish_slide(self, outcome: Outcome, *, elsewhere: bool = False) -> None:
        """See `BatchProgress`."""
        self._ended(outcome)


class OneSlide:
    """The screen of a slide that is the whole batch.

    Parameters
    ----------
    slide
        Shows it.
    ended
        Tells how it ended.
    """

    def __init__(self, slide: SlideScreen, ended: Ended) -> None:
        self._slide, self._ended = slide, ended
        self.begin, self.advance = slide.begin, slide.advance
        self.warn, self.end = slide.warn, slide.end

    def begin_batch(self, n_slides: int) -> None:
        """See `BatchProgress`."""

    def finish_slide(self, outcome: Outcome, *, elsewhere: bool = False) -> None:
        """See `BatchProgress`."""
        self._slide.close()
        self._ended(outcome)

    def end_batch(self) -> None:
        """See `BatchProgress`."""
        self._slide.close()


class Surface(Protocol):
    """What a batch is shown on."""

    def start(self, counts: BatchCounts) -> None:
        """Begin to show counts."""
        ...

    def put(self, line: str) -> None:
        """Print a line."""
        ...

    def show(self, counts: BatchCounts) -> None:
        """Show counts as they are now."""
        ...

    def paused(self) -> AbstractContextManager[None]:
        """Let others print as they please within the block."""
        ...

    def stop(self) -> None:
        """Take away what is shown of them."""
        ...


class Bar:
    """One live bar.

    Parameters
    ----------
    console
        Where it stands.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        told = TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True))
        self._bar = live_bar(console, BarColumn(None, table_column=Column(ratio=1)), told)
        self._task = TaskID(0)

    def start(self, counts: BatchCounts) -> None:
        """See `Surface`."""
        self._task = self._bar.add_task(counts.line(), total=counts.total)
        self._bar.start()

    def put(self, line: str) -> None:
        """See `Surface`."""
        put_above(self._console, line)

    def show(self, counts: BatchCounts) -> None:
        """See `Surface`."""
        self._bar.update(self._task, completed=counts.ended, description=counts.line())

    @contextmanager
    def paused(self) -> Iterator[None]:
        """See `Surface`."""
        # Printed beside a live bar, lines would be broken where the terminal ends.
        self._bar.stop()
        try:
            yield
        finally:
            self._bar.start()

    def stop(self) -> None:
        """See `Surface`."""
        self._bar.stop()


class Lines:
    """A plain line every minute."""

    def start(self, counts: BatchCounts) -> None:
        """See `Surface`."""
        self._told = time.monotonic()

    def put(self, line: str) -> None:
        """See `Surface`."""
        say(line)

    def show(self, counts: BatchCounts) -> None:
        """See `Surface`."""
        now = time.monotonic()
        if now - self._told >= _LINE_EVERY_S:
            self._told = now
            say(f"batch: {counts.line()}")

    def paused(self) -> AbstractContextManager[None]:
        """See `Surface`."""
        return nullcontext()

    def stop(self) -> None:
        """See `Surface`."""


class BatchScreen:
    """Shows the course of a batch as a whole.

    Parameters
    ----------
    surface
        What it is shown on.
    ended
        Tells how each slide ended.
    is_verbose
        Whether to tell how each slide begins, too.
    clock
        Seconds, from any start.
    """

    def __init__(
        self,
        surface: Surface,
        ended: Ended,
        *,
        is_verbose: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._surface, self._tell_end, self._is_verbose = surface, ended, is_verbose
        self._clock = clock
        self._counts = BatchCounts(0)

    def begin_batch(self, n_slides: int) -> None:
        """See `BatchProgress`."""
        self._counts = BatchCounts(n_slides, clock=self._clock)
        self._surface.start(self._counts)

    def begin(self, start: Start) -> None:
        """See `Progress`."""
        self._slide, self._n_done = start, start.n_done
        for line in start.lines if self._is_verbose else ():
            self._surface.put(line)

    def advance(self, n_tiles: int) -> None:
        """See `Progress`."""
        self._n_done += n_tiles
        self._counts.tiles += n_tiles
        self._counts.under_way[self._slide.slide] = self._n_done / max(1, self._slide.n_tiles)
        self._surface.show(self._counts)

    def warn(self, message: str) -> None:
        """See `Progress`."""
        self._surface.put(f"warning: {message}")

    def end(self) -> None:
        """See `Progress`."""

    def finish_slide(self, outcome: Outcome, *, elsewhere: bool = False) -> None:
        """See `BatchProgress`."""
        # Those that were complete are but counted, ten thousand of them in a moment.
        reused = outcome.result is not None and outcome.result.reused
        with nullcontext() if reused else self._surface.paused():
            self._tell_end(outcome)
        self._counts.count(outcome, with_tiles=elsewhere)
        self._surface.show(self._counts)

    def end_batch(self) -> None:
        """See `BatchProgress`."""
        self._surface.stop()


def batch_screen(
    ended: Ended, *, is_single: bool = False, loudness: Loudness = "normal"
) -> BatchProgress:
    """Choose the screen of a batch: live on a terminal, plain lines for anything else.

    Parameters
    ----------
    ended
        Tells how each slide ended.
    is_single
        Whether there is but one slide, and so nothing to say of a batch.
    loudness
        How much is told.
    """
    if loudness == "quiet":
        return QuietBatch(ended)
    if is_single:
        return OneSlide(slide_screen(), ended)
    console = live_console()
    surface = Lines() if console is None else Bar(console)
    return BatchScreen(surface, ended, is_verbose=loudness == "verbose")
