"""Many slides through one model: nothing lost, nothing twice, one bad slide is one line."""

from __future__ import annotations

import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from wsi_sampath.batch.job import Job
from wsi_sampath.batch.lookahead import LookAhead
from wsi_sampath.batch.options import BatchOptions
from wsi_sampath.batch.progress import BatchProgress, SilentBatch
from wsi_sampath.batch.record.folder import BatchFolder
from wsi_sampath.batch.record.outcome import Outcome
from wsi_sampath.errors import UsageError, WsiError
from wsi_sampath.explained import explained
from wsi_sampath.inference.cuda import blending_thread
from wsi_sampath.inference.durable.claim import Claim
from wsi_sampath.inference.finished import Finished
from wsi_sampath.inference.plan import plan_files
from wsi_sampath.inference.segmenter import Finish, PreparedSlide, Segmenter
from wsi_sampath.inference.settings import SegmentSettings
from wsi_sampath.models.network import LoadedModel

# After these no other slide could be done either.
ENDING = frozenset({"interrupted", "disk-full"})
_INTERNAL_IN_A_ROW = 3

Made = TypeVar("Made")


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
    """Segment slides, one at a time in the network.

    The next slide is opened, and the one before is finished (last polygons, pyramid, report),
    while the current one runs. Any number of processes, on any number of machines, may run the
    same batch into the same folder: a slide that another one holds is left to it, and taken over
    should it die.

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
        One a slide, in the order of their beginnings; fewer than `jobs` where the batch was
        stopped.

    Raises
    ------
    UsageError
        Where the settings fit no slide, or the folder holds pages that are not a batch's.
    WsiError
        ``disk-full``, or ``bad-input`` where the batch's folder can't be written.
    """
    options = options or BatchOptions()
    folder = None if out is None else BatchFolder(out, jobs, pages=options.pages)
    return BatchRunner(settings, model, folder, options, progress, tell).run(jobs)


class BatchRunner:
    """Runs slides with one model and one predictor; see `run_batch` for parameters and errors."""

    def __init__(
        self,
        settings: SegmentSettings,
        model: LoadedModel,
        folder: BatchFolder | None,
        options: BatchOptions,
        progress: BatchProgress | None = None,
        tell: Callable[[Outcome], None] = lambda _: None,
    ) -> None:
        self._settings, self._model, self._options = settings, model, options
        self._segmenter = Segmenter(model, settings)
        self._progress = progress or SilentBatch()
        self._tell = tell
        self._folder = folder

    def run(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Run some slides; returns and errors are those of `run_batch`."""
        self._waiting, self._busy = deque(jobs), deque[Job]()
        self._current: Job | None = None
        self._endings: deque[_Ending] = deque()
        self._outcomes: list[Outcome] = []
        self._stopped = False
        with ExitStack() as at_end:
            if self._folder is not None and self._options.pages:
                self._folder.begin(self._progress.warn)
                at_end.callback(self._folder.write_pages)
            self._progress.begin_batch(len(jobs))
            at_end.callback(self._progress.end_batch)
            self._finisher = at_end.enter_context(
                ThreadPoolExecutor(1, "finish", initializer=self._prepare_finisher)
            )
            self._ahead = at_end.enter_context(LookAhead(self._prepare))
            self._run_all()
        return self._outcomes

    def _run_all(self) -> None:
        try:
            while not self._stopped and (job := self._next()) is not None:
                self._current = job
                self._take(job)
                self._current = None
                self._settle()
        except KeyboardInterrupt:
            self._interrupt()
        self._settle(everything=True)

    def _next(self) -> Job | None:
        if not self._waiting and self._busy:
            self._settle(everything=True)
            self._waiting, self._busy = self._busy, deque()
            time.sleep(self._options.poll_s)
        return self._waiting.popleft() if self._waiting else None

    def _take(self, job: Job) -> None:
        """Take a slide through the network, and leave the rest to the thread that finishes."""
        started = time.perf_counter()
        begun = self._begin(job, started)
        if isinstance(begun, Outcome):
            self._end(begun)
        elif self._waiting and not self._options.fail_fast:
            future = self._finisher.submit(self._finish, job, begun)
            self._endings.append(_Ending(job, started, future))
        else:
            # Nothing is to run beside it.
            finish = begun
            made = self._guard(job, started, lambda: self._finish(job, finish))
            self._end(made if isinstance(made, Outcome) else Outcome(job, made))

    def _end(self, outcome: Outcome) -> None:
        if outcome.reason == "busy" and self._folder is not None and self._options.wait:
            self._busy.append(outcome.job)
            return
        self._endings.append(_Ending(outcome.job, 0.0, _known(outcome)))
        self._stopped |= self._is_last(outcome)

    def _begin(self, job: Job, started: float) -> Finish | Outcome:
        if job.fault:
            return Outcome.failed(job, WsiError("unreadable", job.fault, subject=str(job.slide)))
        return self._guard(job, started, lambda: self._look_and_analyse(job))

    def _look_and_analyse(self, job: Job) -> Finish | Outcome:
        before = self._before(job)
        if before is not None:
            self._ahead.drop(job)
            return before
        if self._folder is not None and self._is_held(job):
            self._ahead.drop(job)
            return Outcome(job, reason="busy", message="another run is writing this output")
        return self._analyse(job)

    def _guard(self, job: Job, started: float, work: Callable[[], Made]) -> Made | Outcome:
        try:
            return work()
        except UsageError:
            raise
        except WsiError as error:
            return Outcome.failed(job, error, time.perf_counter() - started)
        except Exception as error:
            # A defect that one slide brings to light must not cost the night's other slides.
            return self._unexpected(job, error)

    def _analyse(self, job: Job) -> Finish:
        prepared = self._ahead.take(job)
        following = next(filter(self._is_free, self._waiting), None)
        if following is not None:
            self._ahead.start(following)
        progress = self._folder.log(job, self._progress) if self._folder else self._progress
        return self._segmenter.analyse(prepared, progress=progress)

    def _prepare_finisher(self) -> None:
        blending_thread(self._segmenter.predictor.device)()

    def _finish(self, job: Job, finish: Finish) -> Finished:
        result = finish()
        if self._folder is not None:
            self._folder.draw(job, result)
        return result

    def _prepare(self, job: Job) -> PreparedSlide:
        return self._segmenter.prepare(job.slide, job.zarr, csv_mpp=job.mpp)

    def _is_held(self, job: Job) -> bool:
        with explained(str(job.slide)):
            return Claim(plan_files(job.zarr, self._settings).claim).is_held()

    def _is_free(self, job: Job) -> bool:
        try:
            return not (job.fault or self._is_held(job)) and self._before(job) is None
        except (WsiError, OSError, ValueError):
            # Its own turn will say what is the matter with it.
            return False

    def _before(self, job: Job) -> Outcome | None:
        if self._folder is None:
            return None
        retry = self._options.retry_failed
        return self._folder.before(job, self._settings, self._model, retry_failed=retry)

    def _settle(self, *, everything: bool = False) -> None:
        """Keep the outcomes that are known, in order; wait for all but the last one, or for all."""
        while self._endings and (everything or self._endings[0].future.done() or self._crowded()):
            ending = self._endings[0]
            made = self._guard(ending.job, ending.started, ending.future.result)
            self._endings.popleft()
            self._keep(made if isinstance(made, Outcome) else Outcome(ending.job, made))

    def _crowded(self) -> bool:
        return sum(not ending.future.done() for ending in self._endings) > 1

    def _keep(self, outcome: Outcome) -> None:
        self._outcomes.append(outcome)
        if self._folder is not None and outcome.reason != "busy":
            self._folder.keep(outcome, self._settings, self._model, self._progress)
        self._tell(outcome)
        self._progress.finish_slide(outcome)
        self._stopped |= self._is_last(outcome)

    def _is_last(self, outcome: Outcome) -> bool:
        return not outcome.done and (self._options.fail_fast or outcome.reason in ENDING)

    def _interrupt(self) -> None:
        self._stopped = True
        job = self._current or next(iter([*self._waiting, *self._busy]), None)
        if job is not None:
            error = WsiError("interrupted", "stopped by the user; run the command again to resume")
            self._end(Outcome.failed(job, error))

    def _unexpected(self, job: Job, error: Exception) -> Outcome:
        recent = self._outcomes[1 - _INTERNAL_IN_A_ROW :]
        row = [outcome.reason for outcome in recent] == ["internal"] * (_INTERNAL_IN_A_ROW - 1)
        if self._folder is None or row:
            raise error
        log = self._folder.log(job, self._progress)
        # Where not even the log can be written, the outcome that follows says so.
        with suppress(OSError):
            log.write("".join(traceback.format_exception(error)))
        message = f"{type(error).__name__}: {error}; see the slide's log, and please report it"
        return Outcome.failed(job, WsiError("internal", message))


@dataclass(frozen=True)
class _Ending:
    """A slide that is past the network: its outcome, or its result, once it is there."""

    job: Job
    started: float
    future: Future[Any]


def _known(outcome: Outcome) -> Future[Outcome]:
    future: Future[Outcome] = Future()
    future.set_result(outcome)
    return future
