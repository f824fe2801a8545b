"""What a batch reports while it runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from wsi_sampath.batch.record.outcome import Outcome
from wsi_sampath.progress import Progress, Silent
from wsi_sampath.shown import format_duration, plural


class BatchProgress(Progress, Protocol):
    """Receives the events of a batch, and of each of its slides."""

    def begin_batch(self, n_slides: int) -> None:
        """Start a batch."""
        ...

    def finish_slide(self, outcome: Outcome, *, elsewhere: bool = False) -> None:
        """Tell how a slide ended; one that ran `elsewhere` was not told of before."""
        ...

    def end_batch(self) -> None:
        """Finish the batch."""
        ...


class SilentBatch(Silent):
    """Progress that reports nothing."""

    def begin_batch(self, n_slides: int) -> None:
        """See `BatchProgress`."""

    def finish_slide(self, outcome: Outcome, *, elsewhere: bool = False) -> None:
        """See `BatchProgress`."""

    def end_batch(self) -> None:
        """See `BatchProgress`."""


@dataclass
class BatchCounts:
    """Counts of a batch under way, and the time it will still take.

    Attributes
    ----------
    total, done, failed
        Slides.
    tiles
        Analysed in this run of the batch.
    clock
        Seconds, from any start.
    """

    total: int
    done: int = 0
    failed: int = 0
    tiles: int = 0
    clock: Callable[[], float] = time.monotonic
    _worked: int = 0

    def __post_init__(self) -> None:
        self._started = self.clock()

    def count(self, outcome: Outcome, *, with_tiles: bool = False) -> None:
        """Take an outcome into account; its tiles only where nobody counted them before."""
        made = outcome.result
        reused = made is not None and made.reused
        self.done += outcome.done
        self.failed += not (outcome.done or outcome.stopped)
        self._worked += not (reused or outcome.failed_before)
        if with_tiles and made is not None and not reused:
            self.tiles += made.attributes["tiles"]["analysed"]

    @property
    def left(self) -> int:
        """Slides that have not ended."""
        return max(0, self.total - self.done - self.failed)

    @property
    def tiles_per_s(self) -> float:
        """Tiles analysed per second since the start."""
        return self.tiles / max(self.clock() - self._started, 1e-9)

    @property
    def seconds_left(self) -> float | None:
        """Estimate from the slides that took work; None before the first of them."""
        if not self._worked:
            return None
        return (self.clock() - self._started) / self._worked * self.left

    def line(self) -> str:
        """Return the counts as one line."""
        parts = [f"{self.done + self.failed}/{plural(self.total, 'slide')}"]
        if self.failed:
            parts.append(f"{self.failed} failed")
        parts += [f"{self.left} left", f"{self.tiles_per_s:.1f} tiles/s"]
        if self.left and self.seconds_left is not None:
            parts.append(f"about {format_duration(self.seconds_left)} to go")
        return "batch: " + ", ".join(parts)
