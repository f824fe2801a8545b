"""How one slide of a batch ended, as an object and as the record that is kept of it."""

from __future__ import annotations

import hashlib
import json
import socket
import time
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from wsi_sampath import __version__
from wsi_sampath.batch.discover import Job
from wsi_sampath.errors import WsiError
from wsi_sampath.inference.identity import specification_digest, tissue_digest
from wsi_sampath.inference.predictor import resolve_device, resolve_precision
from wsi_sampath.inference.run import SegmentResult
from wsi_sampath.inference.settings import SegmentSettings
from wsi_sampath.models.loaded import LoadedModel
from wsi_sampath.settings import deciding
from wsi_sampath.slides.companions import slide_fingerprint


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

    def line(self) -> str:
        """Return the one line that tells of a failure."""
        again = " (failed before; --retry-failed tries again)" if self.failed_before else ""
        return f"error: {self.subject}: {self.reason}: {self.message}{again}"

    def as_json(self) -> dict[str, Any]:
        """Return the outcome as ``wsi-segment --json`` prints it."""
        if self.result is None:
            failure = {"reason": self.reason, "message": self.message}
            return {"status": "failed", "slide": str(self.job.slide), **failure}
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


@dataclass(frozen=True)
class Record:
    """What the batch folder remembers of a slide; every field is a JSON value.

    Attributes
    ----------
    zarr
        Path below the output folder, with ``/``: the slide's name within the batch.
    key
        Hash of slide file, settings and model: a failure counts for an equal key only.
    time
        Seconds since the epoch.
    """

    slide: str
    zarr: str
    status: str
    key: str
    time: float
    host: str
    reason: str = ""
    message: str = ""
    seconds: float = 0.0
    tiles_analysed: int = 0
    tiles_skipped: int = 0
    tiles_failed: int = 0
    tiles_per_s: float = 0.0
    polygons: int | None = None
    mpp_x: float | None = None
    mpp_y: float | None = None
    reader: str = ""
    device: str = ""
    tissue_mm2: float = 0.0
    analysed_mm2: float = 0.0
    area_mm2: dict[str, float] = field(default_factory=dict)
    has_report: bool = False

    @classmethod
    def of(cls, outcome: Outcome, zarr: str, key: str) -> Record:
        """Record an outcome."""
        made = outcome.result
        return cls(
            slide=str(outcome.job.slide),
            zarr=zarr,
            status="done" if outcome.done else "failed",
            key=key,
            time=time.time(),
            host=socket.gethostname(),
            reason=outcome.reason,
            message=outcome.message,
            has_report=made is not None and made.report is not None,
            **(_numbers(made.attributes) if made else {"seconds": round(outcome.seconds, 3)}),
        )

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Record:
        """Read what `as_json` wrote; fields of other versions are left out."""
        known = {one.name for one in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})

    def as_json(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        return asdict(self)


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


def _numbers(run: dict[str, Any]) -> dict[str, Any]:
    tiles, coverage = run["tiles"], run["coverage"]
    return {
        "seconds": run["seconds"]["total"],
        "tiles_analysed": tiles["analysed"],
        "tiles_skipped": tiles["skipped"],
        "tiles_failed": tiles["failed"],
        "tiles_per_s": run["tiles_per_s"],
        "polygons": run["polygons"],
        "mpp_x": run["mpp"]["x"],
        "mpp_y": run["mpp"]["y"],
        "reader": run["reader"],
        "device": run["device"],
        "tissue_mm2": coverage["tissue_mm2"],
        "analysed_mm2": coverage["analysed_mm2"],
        "area_mm2": run["area_mm2"],
    }
