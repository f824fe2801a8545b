"""Whether a slide has ended before, in this process or another: asked of the record, not of it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

from wsi_sampath.batch.job import Job
from wsi_sampath.batch.record.journal import Record
from wsi_sampath.batch.record.outcome import Outcome
from wsi_sampath.errors import WsiError
from wsi_sampath.inference.durable.identity import specification_digest, tissue_digest
from wsi_sampath.inference.finished import Finished
from wsi_sampath.inference.plan import plan_files
from wsi_sampath.inference.predictor import resolve_precision
from wsi_sampath.inference.settings import SegmentSettings
from wsi_sampath.models.device import resolve_device
from wsi_sampath.models.network import LoadedModel
from wsi_sampath.outputs.attributes import damage_of, read_attributes
from wsi_sampath.outputs.belonging import (
    nuclei_state,
    picture_state,
    polygons_state,
    report_state,
)
from wsi_sampath.outputs.omezarr.stored_chunks import missing_chunks
from wsi_sampath.settings import deciding
from wsi_sampath.slides.slide_fingerprint import slide_fingerprint
from wsi_sampath.version import __version__

# Failures that lie in the slide: with the same file, settings and model they come again.
_LASTING = frozenset({"unreadable", "no-mpp", "implausible-mpp", "no-tissue"})


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


def ended_before(
    record: Record, job: Job, settings: SegmentSettings, *, retry_failed: bool
) -> Outcome | None:
    """Return how a slide ended; None where it has to be opened to know.

    Parameters
    ----------
    record
        Of an attempt with the `attempt_key` that the slide has now.
    job, settings
        The slide.
    retry_failed
        Whether a failure that would come again is to be tried again.
    """
    if record.status == "done":
        result = _whole_result(job, settings)
        return Outcome(job, result) if result is not None else None
    if record.status == "failed" and record.reason in _LASTING and not retry_failed:
        return _failed(record, job, before=True)
    return None


def recorded_outcome(
    record: Record, job: Job, settings: SegmentSettings, *, since: float
) -> Outcome:
    """Return the outcome that another process recorded.

    Parameters
    ----------
    record, job, settings
        The slide.
    since
        Seconds since the epoch; what was recorded earlier counts as found, not made.
    """
    before = record.time < since
    if record.status == "done" and (result := _result(job, settings, reused=before)) is not None:
        return Outcome(job, result)
    return _failed(record, job, before=before)


def _failed(record: Record, job: Job, *, before: bool) -> Outcome:
    reason = record.reason or "interrupted"
    message = record.message or "its result has gone since; run again"
    where, refused = str(job.slide), record.refused
    return Outcome(job, None, reason, message, where, record.seconds, before, refused)


def _result(job: Job, settings: SegmentSettings, *, reused: bool) -> Finished | None:
    """Return the complete result at a slide's place, whatever became of the files beside it."""
    files = plan_files(job.zarr, settings)
    attributes = read_attributes(files.zarr)
    if attributes is None:
        return None
    table = attributes.get("nuclei_table")
    nuclei = None if table is None else files.zarr.parent / table
    return Finished.of(replace(files, nuclei=nuclei), attributes, reused=reused)


def _whole_result(job: Job, settings: SegmentSettings) -> Finished | None:
    """Return a result that needs no look at the slide: all its files are there and of one run.

    A set that does not match is looked at closely, and made again, by the run itself.
    """
    if settings.force or not plan_files(job.zarr, settings).are_tidy():
        return None
    result = _result(job, settings, reused=True)
    if result is None or damage_of(result.attributes, of_run=True) is not None:
        return None
    if missing_chunks(result.zarr, result.attributes):
        return None
    if result.geojson and polygons_state(result.geojson, result.attributes) != "same":
        return None
    if result.nuclei and nuclei_state(result.nuclei, result.attributes) != "same":
        return None
    if result.report and report_state(result.report, result.attributes) != "same":
        return None
    if result.overlay and picture_state(result.overlay, result.attributes) != "same":
        return None
    return result
