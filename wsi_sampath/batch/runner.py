"""Many slides through one model: nothing lost, nothing twice, one bad slide is one line."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, TypeVar

from wsi_sampath.batch.batch import Batch
from wsi_sampath.batch.job import Job
from wsi_sampath.batch.lookahead import LookAhead
from wsi_sampath.batch.record.outcome import Outcome
from wsi_sampath.batch.worker import Worker
from wsi_sampath.errors import UsageError, WsiError
from wsi_sampath.explained import explained
from wsi_sampath.inference.segmenter import Finish
from wsi_sampath.models.network import LoadedModel

# After these no other slide could be done either.
ENDING = frozenset({"interrupted", "disk-full"})
_INTERNAL_IN_A_ROW = 3

Made = TypeVar("Made")


def run_batch(batch: Batch, model: LoadedModel) -> list[Outcome]:
    """Segment slides, one at a time in the network.

    The next slide is opened, and the one before is finished (last polygons, pyramid, report),
    while the current one runs. Any number of processes, on any number of machines, may run the
    same batch into the same folder: a slide that another one holds is left to it, and taken over
    should it die.

    Parameters
    ----------
    batch
        What to do.
    model
        As the batch's settings ask.

    Returns
    -------
    list of Outcome
        One a slide, in the order of their beginnings; fewer than the batch's jobs where it was
        stopped.

    Raises
    ------
    UsageError
        Where the settings fit no slide, or the folder holds pages that are not a batch's.
    WsiError
        ``disk-full``, or ``bad-input`` where the batch's folder can't be written.
    """
    return run_slides(batch.jobs, Worker(batch, model))


def run_slides(jobs: Sequence[Job], worker: Worker) -> list[Outcome]:
    """Take some slides of the worker's batch; returns and errors are those of `run_batch`."""
    folder, options, progress = worker.folder, worker.options, worker.progress
    with ExitStack() as at_end:
        if folder is not None and options.pages:
            folder.begin(progress.warn)
            at_end.callback(folder.write_pages)
        progress.begin_batch(len(jobs))
        at_end.callback(progress.end_batch)
        initializer = worker.enter_finishing_thread
        finisher = at_end.enter_context(ThreadPoolExecutor(1, "finish", initializer=initializer))
        ahead = at_end.enter_context(LookAhead(worker.prepare))
        return _Run(jobs, worker, finisher, ahead).to_the_end()


@dataclass(frozen=True)
class _Ending:
    """A slide that is past the network: its outcome, or its result, once it is there."""

    job: Job
    started: float
    future: Future[Any]


class _Run:
    """Slides on their way: those that wait, those that others hold, those past the network."""

    def __init__(
        self, jobs: Sequence[Job], worker: Worker, finisher: ThreadPoolExecutor, ahead: LookAhead
    ) -> None:
        self._worker, self._finisher, self._ahead = worker, finisher, ahead
        self._waiting, self._busy = deque(jobs), deque[Job]()
        self._endings: deque[_Ending] = deque()
        self._outcomes: list[Outcome] = []

    def to_the_end(self) -> list[Outcome]:
        """Run all slides, unless one of them, or the user, stops the batch."""
        current: Job | None = None
        try:
            while (current := self._next()) is not None:
                self._take(current)
                current = None
                self._settle()
        except KeyboardInterrupt:
            self._interrupt(current)
        self._settle(everything=True)
        return self._outcomes

    def _next(self) -> Job | None:
        if not self._waiting and self._busy:
            self._settle(everything=True)
            self._waiting.extend(self._busy)
            self._busy.clear()
            time.sleep(self._worker.options.poll_s)
        return self._waiting.popleft() if self._waiting else None

    def _take(self, job: Job) -> None:
        """Take a slide through the network, and leave the rest to the thread that finishes."""
        started = time.perf_counter()
        begun = self._guard(job, started, lambda: self._begin(job))
        if isinstance(begun, Outcome):
            self._end(begun)
        elif self._waiting and not self._worker.options.fail_fast:
            future = self._finisher.submit(self._worker.finish, job, begun)
            self._endings.append(_Ending(job, started, future))
        else:
            # Nothing is to run beside it.
            finish = begun
            made = self._guard(job, started, lambda: self._worker.finish(job, finish))
            self._end(made if isinstance(made, Outcome) else Outcome(job, made))

    def _begin(self, job: Job) -> Finish | Outcome:
        with explained(str(job.slide)):
            if (ended := self._worker.ended(job)) is not None:
                self._ahead.drop(job)
                return ended
            prepared = self._ahead.take(job)
            following = next(filter(self._is_to_do, self._waiting), None)
            if following is not None:
                self._ahead.start(following)
            return self._worker.analyse(job, prepared)

    def _is_to_do(self, job: Job) -> bool:
        try:
            return self._worker.ended(job) is None
        except (WsiError, OSError, ValueError):
            # Its own turn will say what is the matter with it.
            return False

    def _guard(self, job: Job, started: float, work: Callable[[], Made]) -> Made | Outcome:
        try:
            return work()
        except UsageError:
            raise
        except WsiError as error:
            return Outcome.failed(job, error, time.perf_counter() - started)
        except Exception as error:
            # A defect that one slide brings to light must not cost the night's other slides.
            recent = [outcome.reason for outcome in self._outcomes[1 - _INTERNAL_IN_A_ROW :]]
            if recent == ["internal"] * (_INTERNAL_IN_A_ROW - 1):
                raise
            return self._worker.log_defect(job, error)

    def _end(self, outcome: Outcome) -> None:
        worker = self._worker
        if outcome.reason == "busy" and worker.folder is not None and worker.options.wait:
            self._busy.append(outcome.job)
            return
        future: Future[Outcome] = Future()
        future.set_result(outcome)
        self._endings.append(_Ending(outcome.job, 0.0, future))
        self._stop_after(outcome)

    def _settle(self, *, everything: bool = False) -> None:
        """Keep the outcomes that are known, in order; wait for all but the last one, or for all."""
        while self._endings and (everything or self._endings[0].future.done() or self._crowded()):
            ending = self._endings[0]
            made = self._guard(ending.job, ending.started, ending.future.result)
            self._endings.popleft()
            outcome = made if isinstance(made, Outcome) else Outcome(ending.job, made)
            self._outcomes.append(outcome)
            self._worker.keep(outcome)
            self._stop_after(outcome)

    def _crowded(self) -> bool:
        return sum(not ending.future.done() for ending in self._endings) > 1

    def _stop_after(self, outcome: Outcome) -> None:
        if not outcome.done and (self._worker.options.fail_fast or outcome.reason in ENDING):
            self._waiting.clear()
            self._busy.clear()

    def _interrupt(self, current: Job | None) -> None:
        job = current or next(iter([*self._waiting, *self._busy]), None)
        self._waiting.clear()
        self._busy.clear()
        if job is not None:
            error = WsiError("interrupted", "stopped by the user; run the command again to resume")
            self._end(Outcome.failed(job, error))
