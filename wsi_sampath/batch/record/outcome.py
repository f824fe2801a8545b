"""How one slide of a batch ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wsi_sampath.batch.job import Job
from wsi_sampath.errors import OtherSettingsError, WsiError
from wsi_sampath.shown import shortened, shown

if TYPE_CHECKING:
    # Behind it stands torch, for which a slide that fails at once need not wait.
    from wsi_sampath.inference.finished import Finished


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
    refused
        True where it was not tried, since what is there was made, or begun, with other settings:
        that is left as it is, and so is what the batch's folder remembers of it.
    """

    job: Job
    result: Finished | None = None
    reason: str = ""
    message: str = ""
    subject: str = ""
    seconds: float = 0.0
    failed_before: bool = False
    refused: bool = False

    @classmethod
    def failed(cls, job: Job, error: WsiError, seconds: float = 0.0) -> Outcome:
        """Describe a failure."""
        subject = error.subject or str(job.slide)
        refused = isinstance(error, OtherSettingsError)
        return cls(job, None, error.reason, error.message, subject, seconds, refused=refused)

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
            "overlay": str(made.overlay) if made.overlay else None,
            "reused": made.reused,
            "result": made.attributes,
        }
