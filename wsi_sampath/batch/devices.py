"""One batch on several devices of a machine: a process each, sharing the folder by claims."""

from __future__ import annotations

import multiprocessing
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.process import BaseProcess

from wsi_sampath.batch.batch import Batch
from wsi_sampath.batch.job import Job
from wsi_sampath.batch.record.before import recorded_outcome
from wsi_sampath.batch.record.folder import BatchFolder
from wsi_sampath.batch.record.journal import Record
from wsi_sampath.batch.record.outcome import Outcome
from wsi_sampath.batch.runner import run_batch
from wsi_sampath.errors import EXIT_USAGE, UsageError, WsiError
from wsi_sampath.inference.segmenter import load_from_settings
from wsi_sampath.inference.settings import SegmentSettings
from wsi_sampath.models.network import LoadedModel

_STOP_S = 60.0


def parse_devices(text: str) -> tuple[str, ...]:
    """Read ``"0,1"`` as the CUDA devices of these numbers; other names stand for themselves.

    Raises
    ------
    UsageError
        Where a name is empty, or a GPU is named twice.
    """
    names = [name.strip() for name in text.split(",")]
    devices = tuple(f"cuda:{name}" if name.isdecimal() else name for name in names)
    gpus = [name for name in devices if name != "cpu"]
    if not all(names) or len(set(gpus)) < len(gpus):
        raise UsageError(f"--gpus {text!r} is not a list of different GPUs such as 0,1")
    return devices


def run_on_devices(
    batch: Batch,
    devices: Sequence[str],
    *,
    load: Callable[[SegmentSettings], LoadedModel] = load_from_settings,
) -> list[Outcome]:
    """Run a batch with one process per device; the slides of a process that dies go to the others.

    Parameters
    ----------
    batch
        What to do; it needs a folder.
    devices
        Names for `SegmentSettings.device`, one a process.
    load
        Loads the model in every process; a function at the top of a module.

    Returns
    -------
    list of Outcome
        As of `run_batch`; slides that no process came to are not in it.
    """
    folder = BatchFolder(batch.shared_folder, batch.jobs)
    folder.begin(batch.progress.warn)
    team = _Team(folder, batch)
    team.watch(_start(batch, devices, load))
    return team.outcomes


def _start(
    batch: Batch, devices: Sequence[str], load: Callable[[SegmentSettings], LoadedModel]
) -> list[BaseProcess]:
    # CUDA does not survive a fork.
    spawn = multiprocessing.get_context("spawn")
    workers: list[BaseProcess] = []
    n = len(devices)
    for number, device in enumerate(devices):
        # Each begins with slides of its own, then helps with those of the others.
        order = [job for k in range(n) for job in batch.jobs[(number + k) % n :: n]]
        own = batch.for_worker(order, batch.settings.model_copy(update={"device": device}))
        workers.append(spawn.Process(target=_work, args=(own, load), name=device))
        workers[-1].start()
    return workers


def _work(batch: Batch, load: Callable[[SegmentSettings], LoadedModel]) -> None:
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, _interrupt)
    try:
        run_batch(batch, load(batch.settings))
    except WsiError as error:
        print(error.line(), file=sys.stderr, flush=True)
        sys.exit(EXIT_USAGE)
    except KeyboardInterrupt:
        sys.exit(1)


def _interrupt(_signal: int, _frame: object) -> None:
    # A terminal sends Ctrl-C to every process: the second one ends this at once, as its parent.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    raise KeyboardInterrupt


class _Team:
    """The parent's view: it works on no slide, and tells what the journal says."""

    def __init__(self, folder: BatchFolder, batch: Batch) -> None:
        self.outcomes: list[Outcome] = []
        self._folder, self._settings = folder, batch.settings
        self._options, self._progress = batch.options, batch.progress
        self._untold = {folder.name(job): job for job in folder.jobs}
        self._started = time.time()

    def watch(self, workers: list[BaseProcess]) -> None:
        self._progress.begin_batch(len(self._untold))
        try:
            while _alive(workers):
                self._tell_news()
                if self._options.fail_fast and not all(one.done for one in self.outcomes):
                    break
                time.sleep(min(0.5, self._options.poll_s))
        except KeyboardInterrupt:
            pass
        finally:
            _stop(workers)
            self._tell_news()
            self._tell(self._folder.journal.latest(), since=0.0)
            self._progress.end_batch()
            self._folder.write_pages()

    def _tell_news(self) -> None:
        journal = self._folder.journal
        self._tell(journal.latest(), since=self._started)
        # What is known of these is older, and stays.
        self._tell(journal.refusals, since=self._started)

    def _tell(self, records: Mapping[str, Record], *, since: float) -> None:
        news = [records[name] for name in self._untold if name in records]
        for record in sorted(news, key=lambda record: record.time):
            if record.time >= since:
                self._tell_one(self._untold.pop(record.zarr), record)

    def _tell_one(self, job: Job, record: Record) -> None:
        outcome = recorded_outcome(record, job, self._settings, since=self._started)
        self.outcomes.append(outcome)
        self._progress.finish_slide(outcome, elsewhere=True)


def _alive(workers: Sequence[BaseProcess]) -> int:
    # Asking each of them also buries the dead: a zombie would seem to hold its claim.
    return sum([worker.is_alive() for worker in workers])


def _stop(workers: Sequence[BaseProcess]) -> None:
    for worker in workers:
        if worker.is_alive():
            worker.terminate()
    for worker in workers:
        worker.join(_STOP_S)
        if worker.is_alive():
            worker.kill()
