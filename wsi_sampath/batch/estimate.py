"""The cost of a batch, before anything is written: tiles, tissue, hours, gigabytes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wsi_sampath.batch.job import Job
from wsi_sampath.errors import UsageError, WsiError
from wsi_sampath.inference.plan import RunPlan
from wsi_sampath.inference.segmenter import PreparedSlide, Segmenter, segment_slide
from wsi_sampath.inference.settings import SegmentSettings
from wsi_sampath.inference.summary import coverage
from wsi_sampath.models.network import LoadedModel
from wsi_sampath.shown import format_duration, plural, shortened, shown
from wsi_sampath.slides.mpp import Mpp

# Tiles of the trial runs; the longer one runs only if the first was quick.
_TRIALS = (2, 16)
_QUICK_S = 4.0


@dataclass(frozen=True)
class Calibration:
    """The cost of a tile on this machine: wall seconds, and bytes of zarr and polygons."""

    seconds_per_tile: float
    bytes_per_tile: float


@dataclass(frozen=True)
class Estimate:
    """The cost of one slide.

    Attributes
    ----------
    job
        The slide.
    tiles, tissue_mm2, mpp
        Its plan; zeros and None where it would fail.
    seconds, size_bytes
        Estimates from the calibration; 0 where it is done already or would fail.
    state
        ``"to do"``, ``"done already"``, or the reason why it would fail.
    message
        Message of the failure.
    """

    job: Job
    tiles: int = 0
    tissue_mm2: float = 0.0
    mpp: Mpp | None = None
    seconds: float = 0.0
    size_bytes: float = 0.0
    state: str = "to do"
    message: str = ""

    @property
    def fails(self) -> bool:
        """True where the slide could not be done."""
        return self.state not in ("to do", "done already")

    def as_json(self) -> dict[str, Any]:
        """Return the estimate as JSON values."""
        return {
            "slide": str(self.job.slide),
            "zarr": str(self.job.zarr),
            "state": self.state,
            "message": self.message,
            "tiles": self.tiles,
            "tissue_mm2": self.tissue_mm2,
            "mpp": None if self.mpp is None else [self.mpp.x, self.mpp.y],
            "seconds": round(self.seconds, 2),
            "bytes": round(self.size_bytes),
        }


def estimate_batch(
    jobs: Sequence[Job], settings: SegmentSettings, model: LoadedModel
) -> Iterator[Estimate]:
    """Plan every slide, and say what it would cost as measured on the first that is to be done.

    Nothing is written but a trial result in the folder for temporary files, removed at once.

    Raises
    ------
    UsageError
        Where the settings fit no slide.
    """
    segmenter = Segmenter(model, settings)
    measured: Calibration | None = None
    for job in jobs:
        if job.fault:
            yield Estimate(job, state="unreadable", message=job.fault)
            continue
        try:
            prepared = segmenter.prepare(job.slide, job.zarr, csv_mpp=job.mpp)
            with prepared.slide:
                if measured is None and prepared.plan is not None:
                    measured = calibrate(job, prepared.plan, settings, model)
                yield _estimate(job, prepared, measured)
        except UsageError:
            raise
        except WsiError as error:
            yield Estimate(job, state=error.reason, message=error.message)


def calibrate(
    job: Job, plan: RunPlan, settings: SegmentSettings, model: LoadedModel
) -> Calibration:
    """Segment a few tiles from the middle of a slide's tissue, all stages included."""
    for n_tiles in _TRIALS:
        seconds, size, tiles = _trial(job, plan, settings, model, n_tiles)
        if seconds > _QUICK_S:
            break
    return Calibration(seconds / tiles, size / tiles)


def _trial(
    job: Job, plan: RunPlan, settings: SegmentSettings, model: LoadedModel, n_tiles: int
) -> tuple[float, int, int]:
    """Return wall seconds after planning, bytes, and tiles of a trial on about `n_tiles` tiles."""
    changes = {
        "region": _middle(plan, n_tiles),
        "tissue": "none",
        "geojson": None,
        "report": False,
        "overlay": False,
    }
    with tempfile.TemporaryDirectory(prefix="wsi-sampath-") as folder:
        made = segment_slide(
            job.slide,
            Path(folder) / "trial.zarr",
            settings=settings.model_copy(update=changes),
            model=model,
            csv_mpp=job.mpp,
        )
        size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    spent = made.attributes["seconds"]
    return spent["total"] - spent["plan"], size, max(1, made.attributes["tiles"]["analysed"])


def _middle(plan: RunPlan, n_tiles: int) -> tuple[float, float, float, float]:
    """Return a level-0 box over about `n_tiles` tiles, around the middle one with tissue."""
    grid = plan.grid
    zoom_x, zoom_y = plan.level0_per_px
    places = np.argwhere(grid.selected)
    row, column = places[len(places) // 2]
    side = round(n_tiles**0.5)
    top, left = max(0, row - side // 2), max(0, column - side // 2)
    x, y = grid.xs[left], grid.ys[top]
    # Half a step less than whole tiles, so that rounding never adds a row of tiles.
    extent = grid.tile + (side - 1.5) * grid.step if side > 1 else grid.tile / 2
    right = min(x + extent, grid.window.x + grid.window.width)
    bottom = min(y + extent, grid.window.y + grid.window.height)
    return x * zoom_x, y * zoom_y, (right - x) * zoom_x, (bottom - y) * zoom_y


def _estimate(job: Job, prepared: PreparedSlide, measured: Calibration | None) -> Estimate:
    slide, plan = prepared.slide, prepared.plan
    if plan is None or measured is None:
        return Estimate(job, mpp=slide.mpp, state="done already")
    tiles = plan.grid.n_tiles
    return Estimate(
        job,
        tiles,
        coverage(slide, plan, 0.0)["tissue_mm2"],
        slide.mpp,
        prepared.seconds + tiles * measured.seconds_per_tile,
        tiles * measured.bytes_per_tile,
    )


def estimate_line(one: Estimate) -> str:
    """Return a slide's estimate as one line of a table."""
    slide = shown(shortened(str(one.job.slide)))
    if one.fails:
        return f"{slide}: would fail: {one.state}: {shown(one.message)}"
    if one.state != "to do" or one.mpp is None:
        return f"{slide}: {one.state}"
    return (
        f"{slide}: {plural(one.tiles, 'tile')}, {one.tissue_mm2:.4g} mm2 tissue, "
        f"{one.mpp.x:.4g} x {one.mpp.y:.4g} um/px, about {format_duration(one.seconds)}, "
        f"{format_size(one.size_bytes)}"
    )


def summary_line(estimates: Sequence[Estimate], *, n_devices: int = 1) -> str:
    """Return the cost of the whole batch, as one line."""
    todo = [one for one in estimates if one.state == "to do"]
    failing = sum(one.fails for one in estimates)
    if not todo:
        return f"nothing to do: {len(estimates) - failing} done already, {failing} would fail"
    seconds = sum(one.seconds for one in todo) / n_devices
    size = sum(one.size_bytes for one in todo)
    return (
        f"{plural(len(todo), 'slide')} to do, {failing} would fail, "
        f"{len(estimates) - len(todo) - failing} done already; "
        f"{plural(sum(one.tiles for one in todo), 'tile')}, "
        f"{sum(one.tissue_mm2 for one in todo):.4g} mm2 tissue; about "
        f"{format_duration(seconds)} and {format_size(size)} (measured on a few tiles of the "
        "first slide; nothing was written)"
    )


def format_size(size_bytes: float) -> str:
    """Return a file size as a person would write it: ``"3.2 MB"``."""
    for unit in ("kB", "MB", "GB"):
        size_bytes /= 1000
        if size_bytes < 999.5:
            return f"{size_bytes:.3g} {unit}"
    return f"{size_bytes / 1000:.3g} TB"
