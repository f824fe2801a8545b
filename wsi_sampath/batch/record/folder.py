"""The output folder of a batch: what is remembered there, and the pages made from it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from wsi_sampath.batch.job import Job
from wsi_sampath.batch.record.journal import Journal, Record, journal_folder, thumbnail_of
from wsi_sampath.batch.record.outcome import Outcome
from wsi_sampath.batch.record.page import is_page, write_page
from wsi_sampath.batch.record.slide_log import SlideLog
from wsi_sampath.batch.record.table import is_table, write_table
from wsi_sampath.batch.record.thumbnails import write_thumbnail
from wsi_sampath.errors import UsageError, WsiError
from wsi_sampath.explained import explained
from wsi_sampath.inference.finished import Finished
from wsi_sampath.progress import Progress
from wsi_sampath.shown import plural

# Pages of ten thousand slides take a while to write: at most one part in fifty of the time.
_REST = 50.0
_OFTEN_ENOUGH_S = 2.0


class BatchFolder:
    """What one process knows of a batch, shared through files with the others.

    Parameters
    ----------
    out
        The output folder.
    jobs
        Every slide of the batch.
    pages
        Whether to renew ``slides.csv`` and ``report.html``.
    """

    def __init__(self, out: Path, jobs: Sequence[Job], *, pages: bool = True) -> None:
        self.out = out
        self.jobs = jobs
        self.journal = Journal(journal_folder(out))
        self._pages = pages
        self._next_pages = 0.0
        self._told_torn = 0

    @property
    def table(self) -> Path:
        """Return the file of the table."""
        return self.out / "slides.csv"

    @property
    def page(self) -> Path:
        """Return the file of the page."""
        return self.out / "report.html"

    def begin(self, warn: Callable[[str], None]) -> None:
        """Check, before any slide, that the folder can be written and that its pages are ours.

        Raises
        ------
        UsageError
            Where ``slides.csv`` or ``report.html`` is somebody else's.
        WsiError
            ``disk-full``, or ``bad-input`` where the folder can't be written.
        """
        for path, is_ours in ((self.table, is_table), (self.page, is_page)):
            if not is_ours(path):
                message = "the batch writes a file of this name, and this one is not of a batch"
                raise UsageError(f"{message}; move it, or choose another --out", subject=str(path))
        self.write_pages()
        self.warn_of_torn(warn)

    def warn_of_torn(self, warn: Callable[[str], None]) -> None:
        """Say once of every line of the journal that it could not be read."""
        torn = sum(self.journal.torn.values())
        if torn > self._told_torn:
            warn(
                f"{plural(torn - self._told_torn, 'line')} of the batch's journal "
                f"({journal_folder(self.out)}) cannot be read, after a power loss perhaps; "
                "what they told is looked at again"
            )
        self._told_torn = torn

    def name(self, job: Job) -> str:
        """Return a slide's name within the batch: its zarr below the folder."""
        return job.zarr.relative_to(self.out).as_posix()

    def latest(self, job: Job) -> Record | None:
        """Return what was last recorded of a slide by any process."""
        return self.journal.latest().get(self.name(job))

    def log(self, job: Job, onward: Progress) -> SlideLog:
        """Open a slide's log."""
        return SlideLog(job.zarr.with_suffix(".log"), job.slide.name, onward)

    def keep(self, outcome: Outcome, key: str, onward: Progress) -> None:
        """Record an outcome, unless it says nothing new, and renew the pages if they are due.

        Parameters
        ----------
        outcome
            Of a slide.
        key
            The `attempt_key` of the slide, by which the outcome is known again.
        onward
            Told what the slide's log is told.
        """
        if not outcome.failed_before:
            self.log(outcome.job, onward).finish(outcome)
        self._record(outcome, key)
        if outcome.result is not None:
            self.draw(outcome.job, outcome.result)
        self.write_pages_if_due()

    def draw(self, job: Job, result: Finished) -> None:
        """Make the thumbnail of a result, unless it is there."""
        # Nobody should lose a slide for want of its picture on the page. Damage to what is read for
        # it comes as any of these.
        with suppress(OSError, WsiError, ValueError, LookupError):
            write_thumbnail(result, self._thumbnail(self.name(job)))

    def _record(self, outcome: Outcome, key: str) -> None:
        before = self.latest(outcome.job)
        news = before is None or before.key != key or (before.status == "done") != outcome.done
        ran = not outcome.failed_before and not (outcome.result and outcome.result.reused)
        if news or ran:
            self.journal.add(Record.of(outcome, self.name(outcome.job), key))

    def write_pages_if_due(self) -> None:
        """Renew the pages unless they took much of the time lately."""
        if self._pages and time.monotonic() >= self._next_pages:
            self.write_pages()

    def write_pages(self) -> None:
        """Write ``slides.csv`` and ``report.html`` anew from all processes' records.

        Raises
        ------
        WsiError
            ``disk-full``, or ``bad-input`` where the folder can't be written.
        """
        started = time.monotonic()
        latest = self.journal.latest()
        records = [record for record in latest.values() if record.has_ended]
        ended = {record.zarr for record in records}
        names = [(str(job.slide), self.name(job)) for job in self.jobs]
        waiting = [pair for pair in names if pair[1] not in ended]
        with explained(str(self.out)):
            self.out.mkdir(parents=True, exist_ok=True)
            write_table(self.table, records, waiting)
            write_page(self.page, records, waiting, self._picture)
        finished = time.monotonic()
        self._next_pages = finished + max(_OFTEN_ENOUGH_S, _REST * (finished - started))

    def _thumbnail(self, name: str) -> Path:
        return thumbnail_of(self.out, name)

    def _picture(self, record: Record) -> str | None:
        path = self._thumbnail(record.zarr)
        return path.relative_to(self.out).as_posix() if path.exists() else None
