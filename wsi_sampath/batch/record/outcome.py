"""How one slide of a batch ended."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from wsi_sampath.batch.job import Job
from wsi_sampath.errors import WsiError
from wsi_sampath.inference.durable.identity import specification_digest, tissue_digest
from wsi_sampath.inference.predictor import resolve_precision
from wsi_sampath.inference.run import SegmentResult
from wsi_sampath.inference.settings import SegmentSettings
from wsi_sampath.models.device import resolve_device
from wsi_sampath.models.network import LoadedModel
from wsi_sampath.settings import deciding
from wsi_sampath.shown import shortened, shown
from wsi_sampath.slides.companions import slide_fingerprint
from wsi_sampath.version import __version__


@dataclass(frozen=True)
class Outcome:
    """How a slide ended.

    Attributes
    ----------
    job
        The slide.
    result
        What was made of it; None where it failed.
    reason, message, subject
        Of a failure: one of `wsi_sampath.errors.REASONS`, what is wrong, and where.
    seconds
        Spent on it here.
    failed_before
        True where it was not tried, since it failed before in the same way.
    """

    job: Job
    result: SegmentResult | None = None
    reason: str = ""
    message: str = ""
    subject: str = ""
    seconds: float = 0.0
    failed_before: bool = False

    @classmethod
    def failed(cls, job: Job, error: WsiError, seconds: float = 0.0) -> Outcome:
        """Describe a failure."""
        subject = error.subject or str(job.slide)
        return cls(job, None, error.reason, error.message, subject, seconds)

    @property
    def done(self) -> bool:
        """True where the slide's result is complete."""
        return self.result is not None

    @property
    def stopped(self) -> bool:
        """True where the user stopped it: it is neither done nor has it failed."""
        return self.reason == "interrupted"

    def line(self) -> str:
        """Return the one line that tells of a failure."""
        again = " (failed before; --retry-failed tries again)" if self.failed_before else ""
        return shown(f"error: {shortened(self.subject)}: {self.reason}: {self.message}{again}")

    def as_json(self) -> dict[str, Any]:
        """Return the outcome as ``wsi-segment --json`` prints it."""
        if self.result is None:
            failure = {"reason": self.reason, "message": self.message}
            status = "interrupted" if self.stopped else "failed"
            return {"status": status, "slide": str(self.job.slide), **failure}
        made = self.result
        return {
            "status": "done",
            "slide": str(self.job.slide),
            "zarr": str(made.zarr),
            "geojson": str(made.geojson) if made.geojson else None,
            "report": str(made.report) if made.report else None,
            "reused": made.reused,
            "result": made.attributes,
        }


def attempt_key(job: Job, settings: SegmentSettings, model: LoadedModel) -> str:
    """Hash what decides how a slide ends: the content of its files, settings, model, version."""
    try:
        slide = slide_fingerprint(job.slide)
    except WsiError:
        slide = ""
    values: list[Any] = [__version__, slide, job.mpp, settings.max_bad_tiles]
    values += [model.weights_sha256, specification_digest(model.spec), _mask(settings)]
    values += [resolve_precision(settings.precision, resolve_device(settings.device))]
    text = json.dumps([*values, deciding(settings)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _mask(settings: SegmentSettings) -> str:
    try:
        return tissue_digest(settings) or settings.tissue
    except WsiError:
        return settings.tissue
