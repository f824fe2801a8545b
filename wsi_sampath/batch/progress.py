"""What a batch reports while it runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
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
    before
        Of those done, the ones that were complete already.
    tiles
        Analysed in this run of the batch.
    under_way
        The part of each running slide, by name, that is done.
    clock
        Seconds, from any start.
    """

    total: int
    done: int = 0
    before: int = 0
    failed: int = 0
    tiles: int = 0
    under_way: dict[str, float] = field(default_factory=dict)
    clock: Callable[[], float] = time.monotonic
    _worked: int = 0

    def __post_init__(self) -> None:
        self._started = self.clock()

    def count(self, outcome: Outcome, *, with_tiles: bool = False) -> None:
        """Take an outcome into account; its tiles only where nobody counted them before."""
        made = outcome.result
        reused = made is not None and made.reused
        self.under_way.pop(outcome.job.slide.name, None)
        self.done += outcome.done
        self.before += reused
        self.failed += not (outcome.done or outcome.stopped)
        self._worked += not (reused or outcome.failed_before)
        if with_tiles and made is not None and not reused:
            self.tiles += made.attributes["tiles"]["analysed"]

    @property
    def ended(self) -> float:
        """Slides that have ended, with the parts of those under way."""
        return min(self.total, self.done + self.failed + sum(self.under_way.values()))

    @property
    def tiles_per_s(self) -> float:
        """Tiles analysed per second since the start."""
        return self.tiles / max(self.clock() - self._started, 1e-9)

    @property
    def seconds_left(self) -> float | None:
        """Estimate from what took work; None before anything of that is done."""
        worked = self._worked + sum(self.under_way.values())
        if worked <= 0:
            return None
        return (self.clock() - self._started) / worked * max(0.0, self.total - self.ended)

    def line(self) -> str:
        """Return the counts as one line."""
        # What matters least comes last: a narrow terminal cuts it off.
        parts = [f"{self.done + self.failed}/{plural(self.total, 'slide')}"]
        if self.ended < self.total and self.seconds_left is not None:
            parts.append(f"{format_duration(self.seconds_left)} left")
        parts += [f"{self.failed} failed"] if self.failed else []
        parts += [f"{self.before} done before"] if self.before else []
        parts += [f"{self.tiles_per_s:.1f} tiles/s"] if self.tiles else []
        return ", ".join(parts)
