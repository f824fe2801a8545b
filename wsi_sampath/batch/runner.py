"""Many slides through one model: nothing lost, nothing twice, one bad slide is one line."""

from __future__ import annotations

import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from wsi_sampath.batch.discover import Job
from wsi_sampath.batch.folder import BatchFolder
from wsi_sampath.batch.lookahead import LookAhead
from wsi_sampath.batch.outcome import INTERNAL, Outcome, attempt_key
from wsi_sampath.batch.progress import BatchProgress, SilentBatch
from wsi_sampath.errors import UsageError, WsiError
from wsi_sampath.inference.claim import Claim
from wsi_sampath.inference.plan import plan_files
from wsi_sampath.inference.run import PreparedSlide, SegmentResult, prepare_slide, run_prepared
from wsi_sampath.inference.settings import SegmentSettings
from wsi_sampath.models.zoo import LoadedModel
from wsi_sampath.outputs.pyramid import read_attributes

# Failures that lie in the slide: with the same file, settings and model they come again.
_LASTING = frozenset({"unreadable", "no-mpp", "implausible-mpp", "no-tissue"})
# After these no other slide could be done either.
_ENDING = frozenset({"interrupted", "disk-full"})
_INTERNAL_IN_A_ROW = 3


@dataclass(frozen=True)
class BatchOptions:
    """How a batch goes about its slides.

    Attributes
    ----------
    fail_fast
        Stop at the first slide that fails.
    retry_failed
        Try slides again whose own fault was recorded before.
    poll_s
        Seconds between looks at slides that another process holds.
    pages
        Keep ``slides.csv`` and ``report.html`` up to date; a cluster's task leaves that to the
        process that sees all slides.
    """

    fail_fast: bool = False
    retry_failed: bool = False
    poll_s: float = 2.0
    pages: bool = True


def run_batch(
    jobs: Sequence[Job],
    settings: SegmentSettings,
    model: LoadedModel,
    *,
    out: Path | None = None,
    options: BatchOptions | None = None,
    progress: BatchProgress | None = None,
    tell: Callable[[Outcome], None] = lambda _: None,
) -> list[Outcome]:
    """Segment slides one after the other; the next is opened while the current one runs.

    Any number of processes, on any number of machines, may run the same batch into the same
    folder: a slide that another one holds is left to it, and taken over should it die.

    Parameters
    ----------
    jobs, settings, model
        What to do.
    out
        The batch's folder, above every job's zarr: gets ``slides.csv``, ``report.html`` and a log
        beside every zarr. None for a single slide: nothing but its own files is written.
    options
        See `BatchOptions`.
    progress
        Told about the course.
    tell
        Called with every outcome as it comes.

    Returns
    -------
    list of Outcome
        One a slide in the order of their ends; fewer than `jobs` where the batch was stopped.

    Raises
    ------
    UsageError
        Where the settings fit no slide.
    """
    runner = _Runner(jobs, settings, model, out, options or BatchOptions(), progress, tell)
    return runner.run()


class _Runner:
    def __init__(
        self,
        jobs: Sequence[Job],
        settings: SegmentSettings,
        model: LoadedModel,
        out: Path | None,
        options: BatchOptions,
        progress: BatchProgress | None,
        tell: Callable[[Outcome], None],
    ) -> None:
        self._waiting, self._busy = deque(jobs), deque[Job]()
        self._settings, self._model, self._options = settings, model, options
        self._progress = progress or SilentBatch()
        self._tell = tell
        self._folder = _folder(out, jobs, options)
        self._outcomes: list[Outcome] = []
        self._ahead = LookAhead(self._prepare)

    def run(self) -> list[Outcome]:
        self._progress.begin_batch(len(self._waiting))
        with ExitStack() as at_end:
            if self._folder is not None and self._options.pages:
                at_end.callback(self._folder.write_pages)
            at_end.callback(self._progress.end_batch)
            with self._ahead:
                self._run_all()
        return self._outcomes

    def _run_all(self) -> None:
        while (job := self._next()) is not None:
            try:
                outcome = self._one(job)
            except KeyboardInterrupt:
                outcome = _interrupted(job)
            if outcome.reason == "busy" and self._folder is not None:
                self._busy.append(job)
                continue
            self._keep(outcome)
            if self._is_last(outcome):
                return

    def _next(self) -> Job | None:
        if not self._waiting and self._busy:
            self._waiting, self._busy = self._busy, deque()
            try:
                time.sleep(self._options.poll_s)
            except KeyboardInterrupt:
                self._keep(_interrupted(self._waiting[0]))
                return None
        return self._waiting.popleft() if self._waiting else None

    def _one(self, job: Job) -> Outcome:
        before = self._known(job)
        if before is not None:
            self._ahead.drop(job)
            return before
        if self._folder is not None and self._is_held(job):
            self._ahead.drop(job)
            return Outcome(job, reason="busy")
        started = time.perf_counter()
        try:
            return self._segment(job)
        except UsageError:
            raise
        except WsiError as error:
            return Outcome.failed(job, error, time.perf_counter() - started)
        except Exception as error:
            # A defect that one slide brings to light must not cost the night's other slides.
            return self._unexpected(job, error)

    def _segment(self, job: Job) -> Outcome:
        prepared = self._ahead.take(job)
        following = next(filter(self._is_free, self._waiting), None)
        if following is not None:
            self._ahead.start(following)
        log = self._folder.log(job, self._progress) if self._folder else self._progress
        result = run_prepared(prepared, settings=self._settings, model=self._model, progress=log)
        return Outcome(job, result)

    def _prepare(self, job: Job) -> PreparedSlide:
        return prepare_slide(
            job.slide, job.zarr, settings=self._settings, model=self._model, csv_mpp=job.mpp
        )

    def _is_held(self, job: Job) -> bool:
        return Claim(plan_files(job.zarr, self._settings).claim).is_held()

    def _is_free(self, job: Job) -> bool:
        return not self._is_held(job) and self._known(job) is None

    def _known(self, job: Job) -> Outcome | None:
        """Return how a slide ended before, in any process, where it need not be opened again."""
        record = self._folder.latest(job) if self._folder is not None else None
        if record is None or record.key != attempt_key(job, self._settings, self._model):
            return None
        if record.status == "done":
            return self._done_before(job)
        if record.reason not in _LASTING or self._options.retry_failed:
            return None
        values = (record.reason, record.message, str(job.slide), record.seconds)
        return Outcome(job, None, *values, failed_before=True)

    def _done_before(self, job: Job) -> Outcome | None:
        files = plan_files(job.zarr, self._settings)
        if not files.are_tidy():
            return None
        wanted = [path for path in (files.geojson, files.report) if path is not None]
        attributes = read_attributes(files.zarr)
        if attributes is None or self._settings.force or not all(p.exists() for p in wanted):
            return None
        made = SegmentResult(files.zarr, files.geojson, attributes, True, files.report)
        return Outcome(job, made)

    def _unexpected(self, job: Job, error: Exception) -> Outcome:
        recent = self._outcomes[1 - _INTERNAL_IN_A_ROW :]
        row = [outcome.reason for outcome in recent] == [INTERNAL] * (_INTERNAL_IN_A_ROW - 1)
        if self._folder is None or row:
            raise error
        log = self._folder.log(job, self._progress)
        log.write("".join(traceback.format_exception(error)))
        message = " ".join(f"{type(error).__name__}: {error}; see the slide's log".split())
        return Outcome(job, None, INTERNAL, message, str(job.slide))

    def _keep(self, outcome: Outcome) -> None:
        self._outcomes.append(outcome)
        if self._folder is not None:
            if not outcome.failed_before:
                self._folder.log(outcome.job, self._progress).finish(outcome)
            self._folder.keep(outcome, self._settings, self._model)
        self._progress.finish_slide(outcome)
        self._tell(outcome)

    def _is_last(self, outcome: Outcome) -> bool:
        if outcome.done:
            return False
        return self._options.fail_fast or outcome.reason in _ENDING


def _folder(out: Path | None, jobs: Sequence[Job], options: BatchOptions) -> BatchFolder | None:
    return None if out is None else BatchFolder(out, jobs, pages=options.pages)


def _interrupted(job: Job) -> Outcome:
    error = WsiError("interrupted", "stopped by the user; run again to go on")
    return Outcome.failed(job, error)
