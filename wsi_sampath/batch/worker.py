"""What a process needs for the slides of a batch, and the stages through which it takes each."""

from __future__ import annotations

import traceback
from contextlib import suppress

from wsi_sampath.batch.batch import Batch
from wsi_sampath.batch.job import Job
from wsi_sampath.batch.record.before import attempt_key, ended_before
from wsi_sampath.batch.record.folder import BatchFolder
from wsi_sampath.batch.record.outcome import Outcome
from wsi_sampath.errors import WsiError
from wsi_sampath.explained import explained
from wsi_sampath.inference.cuda import blending_thread
from wsi_sampath.inference.durable.claim import Claim
from wsi_sampath.inference.finished import Finished
from wsi_sampath.inference.plan import plan_files
from wsi_sampath.inference.segmenter import Finish, PreparedSlide, Segmenter
from wsi_sampath.models.network import LoadedModel


class Worker:
    """Takes slides through one model, with one predictor, and keeps how they ended.

    It knows nothing of order: that is the runner's. What a stage makes, the next one takes:
    `prepare`, `analyse`, `finish`.

    Parameters
    ----------
    batch
        Settings, folder, options and progress; its jobs are those on the pages.
    model
        As its settings ask.
    """

    def __init__(self, batch: Batch, model: LoadedModel) -> None:
        pages = batch.options.pages
        self.options, self.progress = batch.options, batch.progress
        self.folder = None if batch.out is None else BatchFolder(batch.out, batch.jobs, pages=pages)
        self._segmenter = Segmenter(model, batch.settings)

    def ended(self, job: Job) -> Outcome | None:
        """Return how a slide ends that need not be opened; ``busy`` while another run holds it."""
        if job.fault:
            return Outcome.failed(job, WsiError("unreadable", job.fault))
        if self.folder is None:
            return None
        record = self.folder.latest(job)
        if record is not None and record.key == self._key(job):
            retry = self.options.retry_failed
            before = ended_before(record, job, self._segmenter.settings, retry_failed=retry)
            if before is not None:
                return before
        if Claim(plan_files(job.zarr, self._segmenter.settings).claim).is_held():
            return Outcome(job, reason="busy", message="another run is writing this output")
        return None

    def _key(self, job: Job) -> str:
        return attempt_key(job, self._segmenter.settings, self._segmenter.model)

    def prepare(self, job: Job) -> PreparedSlide:
        """Open and plan a slide; may run in a thread while another slide is analysed."""
        return self._segmenter.prepare(job.slide, job.zarr, csv_mpp=job.mpp)

    def analyse(self, job: Job, prepared: PreparedSlide) -> Finish:
        """Take a prepared slide through the network."""
        progress = self.folder.log(job, self.progress) if self.folder else self.progress
        return self._segmenter.analyse(prepared, progress=progress)

    def enter_finishing_thread(self) -> None:
        """Prepare the thread in which slides are finished."""
        blending_thread(self._segmenter.predictor.device)()

    def finish(self, job: Job, finish: Finish) -> Finished:
        """Complete an analysed slide's files, and draw it for the batch's page."""
        with explained(str(job.slide)):
            result = finish()
        if self.folder is not None:
            self.folder.draw(job, result)
        return result

    def keep(self, outcome: Outcome) -> None:
        """Record how a slide ended, and tell.

        Raises
        ------
        WsiError
            ``disk-full``, or ``bad-input`` where the batch's folder can't be written.
        """
        job = outcome.job
        if self.folder is not None and outcome.reason != "busy":
            with explained(str(self.folder.out)):
                key = job.fault or self._key(job)
                self.folder.keep(outcome, key, self.progress)
        self.progress.finish_slide(outcome)

    def log_defect(self, job: Job, error: Exception) -> Outcome:
        """Write to the log of a slide which defect of the program it brought to light."""
        if self.folder is None:
            raise error
        log = self.folder.log(job, self.progress)
        # Where not even the log can be written, the outcome that follows says so.
        with suppress(OSError):
            log.write("".join(traceback.format_exception(error)))
        message = f"{type(error).__name__}: {error}; see the slide's log, and please report it"
        return Outcome.failed(job, WsiError("internal", message))
