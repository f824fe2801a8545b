"""A batch: which slides, how each is segmented, where the results go, and who is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from wsi_sampath.batch.job import Job
from wsi_sampath.batch.options import BatchOptions
from wsi_sampath.batch.progress import BatchProgress, SilentBatch
from wsi_sampath.errors import UsageError
from wsi_sampath.inference.settings import SegmentSettings


@dataclass(frozen=True)
class Batch:
    """What every runner of a batch takes: here, on several devices, or on a cluster.

    Attributes
    ----------
    jobs
        The slides.
    settings
        How each of them is segmented.
    out
        The batch's folder, above every job's zarr: gets ``slides.csv``, ``report.html`` and a log
        beside every zarr. None for a single slide: nothing but its own files is written.
    options
        How the batch goes about its slides.
    progress
        Told about the course, in the process that runs the batch.
    """

    jobs: Sequence[Job]
    settings: SegmentSettings
    out: Path | None = None
    options: BatchOptions = BatchOptions()
    # Two batches that differ in nothing else are the same work.
    progress: BatchProgress = field(default=SilentBatch(), compare=False)

    @property
    def shared_folder(self) -> Path:
        """Return the batch's folder, by which several processes know of each other.

        Raises
        ------
        UsageError
            Where there is none.
        """
        if self.out is None:
            raise UsageError("several processes share a batch by its folder; name one")
        return self.out

    def for_worker(self, jobs: Sequence[Job], settings: SegmentSettings) -> Batch:
        """Return the part that another process is to do, which tells what it does by files."""
        return replace(self, jobs=jobs, settings=settings, progress=SilentBatch())
