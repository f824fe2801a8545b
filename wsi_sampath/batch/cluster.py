"""One batch on a dask cluster: a slide is a task, and one that loses its worker resumes elsewhere.

Tasks write to the shared output folder through the same claims and ledgers as any other process,
so a slide that starts again on another worker resumes after a finished strip.
"""

from __future__ import annotations

import importlib
import logging
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from wsi_sampath.batch.batch import Batch
from wsi_sampath.batch.job import Job
from wsi_sampath.batch.record.folder import BatchFolder
from wsi_sampath.batch.record.outcome import Outcome
from wsi_sampath.batch.runner import ENDING, run_slides
from wsi_sampath.batch.worker import Worker
from wsi_sampath.errors import UsageError, WsiError
from wsi_sampath.extras import install_hint
from wsi_sampath.inference.segmenter import load_from_settings
from wsi_sampath.inference.settings import SegmentSettings
from wsi_sampath.models.network import LoadedModel

Load = Callable[[SegmentSettings], LoadedModel]

# What another worker, or the same one later, may well do better.
_WORTH_ANOTHER_TRY = frozenset({"internal", "out-of-memory"})
_RETRIES = 2
_CONNECT_S = 30
# Tasks that the scheduler knows at a time: a million slides cost it no more than these.
_IN_FLIGHT = 64
_IN_FLIGHT_PER_WORKER = 4
# Asking the scheduler for its workers is dear where there are thousands.
_LOOK_AT_WORKERS_S = 5.0

# One slide at a time in a worker process, however many threads it has: they share the network.
_one_at_a_time = threading.Lock()


def run_on_cluster(
    batch: Batch, scheduler: str, *, load: Load = load_from_settings
) -> list[Outcome]:
    """Run a batch as tasks of dask.distributed.

    Parameters
    ----------
    batch
        What to do; it needs a folder, and that and the slides must lie at the same paths on all
        machines.
    scheduler
        ``tcp://HOST:PORT`` (or ``tls://``), or ``local:N`` for N worker processes here. Where
        workers declare a resource ``GPU``, every slide takes one.
    load
        Loads the model, once in every worker process; a function at the top of a module.

    Returns
    -------
    list of Outcome
        As of `run_batch`, in the order of their ends.

    Raises
    ------
    UsageError
        Where dask.distributed is missing, the scheduler does not answer, or a worker can't use the
        settings.
    WsiError
        ``bad-model`` where a worker can't load the model.
    """
    _check_paths(scheduler, batch.settings)
    full = _with_full_paths(batch)
    given = dict(zip(full.jobs, batch.jobs, strict=True))
    options, progress = batch.options, batch.progress
    folder, outcomes = BatchFolder(full.shared_folder, full.jobs), list[Outcome]()
    folder.begin(progress.warn)
    with _connected(scheduler) as client:
        progress.begin_batch(len(batch.jobs))
        try:
            tasks = _Tasks(client, scheduler, full, load)
            for ended in _outcomes(client, tasks, full):
                outcome = _as_given(ended, given[ended.job])
                outcomes.append(outcome)
                progress.finish_slide(outcome, elsewhere=True)
                folder.write_pages_if_due()
                if not outcome.done and (options.fail_fast or outcome.reason in ENDING):
                    break
        except KeyboardInterrupt:
            # What the workers did is on disk.
            outcomes += _interrupted(batch, outcomes)
        finally:
            progress.end_batch()
            folder.write_pages()
    return outcomes


def _with_full_paths(batch: Batch) -> Batch:
    jobs = [
        replace(job, slide=job.slide.absolute(), zarr=job.zarr.absolute()) for job in batch.jobs
    ]
    return replace(batch, jobs=jobs, out=batch.shared_folder.absolute())


def _as_given(outcome: Outcome, job: Job) -> Outcome:
    """Return an outcome with its paths as the user wrote them; workers know the full ones."""
    full, made, subject = outcome.job, outcome.result, outcome.subject
    if subject == str(full.slide):
        subject = str(job.slide)
    elif Path(subject).is_relative_to(full.zarr.parent):
        subject = str(job.zarr.parent / Path(subject).relative_to(full.zarr.parent))
    if made is not None:
        made = made.in_folder(job.zarr.parent)
    return replace(outcome, job=job, result=made, subject=subject)


def _interrupted(batch: Batch, outcomes: Sequence[Outcome]) -> list[Outcome]:
    ended = {outcome.job.zarr for outcome in outcomes}
    left = next((job for job in batch.jobs if job.zarr not in ended), None)
    if left is None:
        return []
    error = WsiError("interrupted", "stopped by the user; run the command again to resume")
    outcome = Outcome.failed(left, error)
    batch.progress.finish_slide(outcome, elsewhere=True)
    return [outcome]


def _check_paths(scheduler: str, settings: SegmentSettings) -> None:
    if scheduler.startswith("local:"):
        return
    named = {"--model": settings.model, "--weights": settings.weights, "--tissue": settings.tissue}
    for option, value in named.items():
        if value and Path(value).is_file() and not Path(value).is_absolute():
            message = f"give {option} with its full path: workers have folders of their own"
            raise UsageError(message, subject=value)


def _distributed() -> Any:
    try:
        return importlib.import_module("distributed")
    except ImportError:
        message = f"--scheduler needs dask.distributed: {install_hint('cluster')}"
        raise UsageError(message) from None


@contextmanager
def _connected(scheduler: str) -> Iterator[Any]:
    dask = _distributed()
    kind, _, number = scheduler.partition(":")
    if kind == "local":
        if not number.isdecimal() or int(number) < 1:
            raise UsageError(f"--scheduler {scheduler!r}: give local:N with N workers")
        with (
            _local_cluster(dask, int(number)) as cluster,
            dask.Client(cluster, set_as_default=False) as client,
        ):
            yield client
        return
    try:
        # As the default it would stay that of all dask, where the scheduler does not answer.
        client = dask.Client(scheduler, timeout=_CONNECT_S, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        message = f"--scheduler {scheduler!r} does not answer: {error}; give tcp://HOST:PORT"
        raise UsageError(message) from None
    with client:
        yield client


def _local_cluster(dask: Any, n_workers: int) -> Any:
    cores = max(1, (os.cpu_count() or 1) // n_workers)
    with _uninterrupted():
        return dask.LocalCluster(
            n_workers=n_workers,
            threads_per_worker=1,
            # Memory is looked after by the run; dask would pause or kill workers for torch's share.
            memory_limit=0,
            dashboard_address=None,
            silence_logs=logging.CRITICAL,
            # dask's own default is one thread for all of numpy and torch.
            env={"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(cores))},
        )


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Let processes started within ignore Ctrl-C, which a terminal sends to all: we end them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _outcomes(client: Any, tasks: _Tasks, batch: Batch) -> Iterator[Outcome]:
    if not client.scheduler_info()["workers"]:
        batch.progress.warn("the cluster has no workers yet; waiting for the first")
        client.wait_for_workers(1)
    waiting = deque(batch.jobs)
    tasks.submit(waiting)
    for future in tasks.ended:
        outcome = tasks.outcome(future)
        if outcome.reason == "busy":
            # Held by a run outside, or by a lost worker whose claim has still to grow stale.
            waiting.append(outcome.job)
        else:
            yield outcome
        tasks.submit(waiting)


@dataclass(frozen=True)
class _Room:
    """How many tasks the workers of this moment keep busy with, and what each task takes of them.

    Attributes
    ----------
    tasks
        As many as the scheduler is to know.
    resources
        Of dask, that one of them takes.
    until
        Seconds of the monotonic clock, when to look again.
    """

    tasks: int
    resources: dict[str, int]
    until: float


def _look_at_workers(client: Any) -> _Room:
    workers = client.scheduler_info()["workers"].values()
    has_gpus = any("GPU" in worker["resources"] for worker in workers)
    return _Room(
        max(_IN_FLIGHT, _IN_FLIGHT_PER_WORKER * len(workers)),
        {"GPU": 1} if has_gpus else {},
        time.monotonic() + _LOOK_AT_WORKERS_S,
    )


class _Tasks:
    """The slides that the scheduler knows at this moment."""

    def __init__(self, client: Any, scheduler: str, batch: Batch, load: Load) -> None:
        self._client = client
        quiet = replace(
            batch, options=batch.options.model_copy(update={"pages": False, "wait": False})
        )
        # The workers of any other cluster have been given their GPUs by whoever started them.
        spread = scheduler.startswith("local:")
        self._arguments = (quiet.for_worker((), batch.settings), load, spread)
        self._jobs: dict[Any, Job] = {}
        self._room = _Room(0, {}, until=0.0)
        self.ended = _distributed().as_completed(loop=client.loop)

    def submit(self, waiting: deque[Job]) -> None:
        """Hand over slides until enough are under way."""
        if time.monotonic() >= self._room.until:
            self._room = _look_at_workers(self._client)
        while waiting and len(self._jobs) < self._room.tasks:
            job = waiting.popleft()
            future = self._client.submit(
                _segment_one,
                job,
                *self._arguments,
                retries=_RETRIES,
                resources=self._room.resources,
                pure=False,
            )
            self._jobs[future] = job
            self.ended.add(future)

    def outcome(self, future: Any) -> Outcome:
        """Return how an ended task's slide ended.

        Raises
        ------
        WsiError
            Where the worker could not begin.
        """
        job = self._jobs.pop(future)
        error = future.exception()
        if error is None:
            outcome: Outcome = future.result()
            return outcome
        if isinstance(error, WsiError):
            raise error
        if isinstance(error, _SlideFailed):
            return error.outcome
        text = f"its task failed {_RETRIES + 1} times: {type(error).__name__}: {error}"
        if isinstance(error, _distributed().KilledWorker):
            text = "every worker that took it died; its memory may not suffice: see dask's logs"
        return Outcome.failed(job, WsiError("internal", text))


class _SlideFailed(Exception):
    """Makes dask try the task again; carries what is to be said where it gives up."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome)
        self.outcome = outcome


def _segment_one(job: Job, batch: Batch, load: Load, spread: bool) -> Outcome:
    with _one_at_a_time:
        if spread:
            number = _distributed().get_worker().name
            batch = replace(batch, settings=on_own_gpu(batch.settings, number))
        (outcome,) = run_slides([job], _worker(batch, load))
        if outcome.reason == "busy":
            time.sleep(batch.options.poll_s)
    if outcome.reason in _WORTH_ANOTHER_TRY:
        raise _SlideFailed(outcome)
    return outcome


def on_own_gpu(settings: SegmentSettings, number: object) -> SegmentSettings:
    """Give worker `number` of this machine a GPU of its own, as far as there are any."""
    count = torch.cuda.device_count()
    if count < 2 or settings.device not in ("auto", "cuda") or not isinstance(number, int):
        return settings
    return settings.model_copy(update={"device": f"cuda:{number % count}"})


@lru_cache(maxsize=1)
def _worker(batch: Batch, load: Load) -> Worker:
    """Load the model once for all slides that come to this process."""
    return Worker(batch, load(batch.settings))
