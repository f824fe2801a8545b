"""How slides ended, on the screen and as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from wsi_sampath.batch.job import Job
from wsi_sampath.batch.record.outcome import Outcome
from wsi_sampath.cli.entry import of_stdout
from wsi_sampath.cli.progress import say
from wsi_sampath.errors import UsageError, WsiError
from wsi_sampath.inference.finished import Finished
from wsi_sampath.shown import json_line, plural, shown


class Ended:
    """Tells how slides ended, one by one, and of all of them at the end.

    Parameters
    ----------
    n_slides
        As many as there are to end.
    folder
        Of the batch; None for one slide.
    as_json
        Whether stdout is for JSON alone.
    """

    def __init__(self, n_slides: int, folder: Path | None, *, as_json: bool) -> None:
        self._n_slides, self._folder, self._as_json = n_slides, folder, as_json
        self._outcomes: list[Outcome] = []
        self._error: WsiError | None = None

    @property
    def is_unfinished(self) -> bool:
        """True where anything is left to be done or to be mended."""
        return self._error is not None or self._done < self._n_slides

    def tell(self, outcome: Outcome) -> None:
        """Tell how one slide ended."""
        self._outcomes.append(outcome)
        if outcome.result is None:
            say(outcome.line())
        else:
            lines = _result_lines(outcome.job, outcome.result, in_batch=self._folder is not None)
            text = "\n".join(map(shown, lines))
            put(text, instead=self._as_json)

    @contextmanager
    def whatever_happens(self) -> Iterator[None]:
        """Sum up at the end of the block, also where the batch as a whole failed there.

        Raises
        ------
        WsiError
            Of the block, where nothing could begin: wrong use, or a model that does not load.
        """
        try:
            yield
        except WsiError as error:
            if isinstance(error, UsageError) or error.reason == "bad-model":
                raise
            self._error = error
            say(error.line())
        if self._folder is not None and self._error is None:
            say(self._summary(self._folder))
        if self._as_json:
            print_json(self._as_values())

    @property
    def _done(self) -> int:
        return sum(outcome.done for outcome in self._outcomes)

    @property
    def _failed(self) -> int:
        return sum(not (outcome.done or outcome.stopped) for outcome in self._outcomes)

    def _summary(self, folder: Path) -> str:
        left = self._n_slides - self._done - self._failed
        again = f", {left} left: give the same command again to resume" if left else ""
        pages = f"{folder / 'report.html'}, {folder / 'slides.csv'}"
        slides = plural(self._n_slides, "slide")
        return f"{slides}: {self._done} done, {self._failed} failed{again}; {pages}"

    def _as_values(self) -> dict[str, Any]:
        slides = [outcome.as_json() for outcome in self._outcomes]
        values: dict[str, Any] = {"done": self._done, "failed": self._failed, "slides": slides}
        if self._error is not None:
            values["error"] = {"reason": self._error.reason, "message": self._error.message}
        return values


def print_json(values: Any) -> None:
    """Write one line of JSON to stdout, in whatever encoding that has."""
    text = json_line(values)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(values)
    put(text)


def put(text: str, *, instead: bool = False) -> None:
    """Write text to stdout at once, or `instead` to stderr, since stdout is for JSON alone.

    Raises
    ------
    OSError
        About ``stdout``, where it takes nothing.
    """
    if instead:
        with suppress(OSError):
            print(text, file=sys.stderr, flush=True)
        return
    with of_stdout():
        print(text, flush=True)


def _result_lines(job: Job, result: Finished, *, in_batch: bool) -> list[str]:
    run = result.attributes
    if result.reused and in_batch:
        return [f"{job.slide.name}: done (complete already, nothing to do): {result.zarr}"]
    tiles, seconds, mpp = run["tiles"], run["seconds"], run["mpp"]
    again = " (complete already, nothing to do)" if result.reused else ""
    stages = ", ".join(f"{stage} {spent:.1f}" for stage, spent in seconds.items())
    lines = [
        f"{job.slide.name}: done{again}",
        f"  read by {run['reader']}, {mpp['x']:.4g} x {mpp['y']:.4g} um/px ({_origin(mpp)}), "
        f"maps at {mpp['output'][0]:.4g} um/px",
        f"  tiles: {tiles['analysed']} analysed, {tiles['skipped']} without tissue, "
        f"{tiles['failed']} failed",
        _found(run),
        f"  {run['tiles_per_s']:.2f} tiles/s, {run['mm2_per_s']:.3g} mm2/s, "
        f"peak memory {run['peak_memory_mb']:.0f} MB{_gpu_memory(run)}",
        f"  {_decoding(run)}; seconds: {stages}",
        f"  {result.zarr}",
    ]
    if result.geojson is not None:
        lines.append(f"  {result.geojson} ({plural(run['polygons'], 'polygon')})")
    if result.nuclei is not None:
        lines.append(f"  {result.nuclei}")
    if result.report is not None:
        lines.append(f"  {result.report}")
    return lines


def _found(run: dict[str, Any]) -> str:
    if "nuclei" not in run:
        areas = ", ".join(f"{name} {area:.3f} mm2" for name, area in run["area_mm2"].items())
        return f"  area: {areas}"
    density, seconds = run["nuclei_per_mm2"], run["seconds"]["total"]
    counts = ", ".join(
        f"{name} {n:,} ({density[name]:.0f}/mm2)" for name, n in run["nuclei"].items()
    )
    per_second = sum(run["nuclei"].values()) / seconds if seconds else 0.0
    return f"  nuclei: {counts}; {per_second:.0f} nuclei/s"


def _decoding(run: dict[str, Any]) -> str:
    decoded, needed = run["decoded_px"] / 1e6, run["needed_px"] / 1e6
    # What was looked at for tissue, or for an overview, is often still at hand.
    before = ", the rest was decoded before, to find the tissue" if decoded < needed else ""
    return f"decoded {decoded:.1f} Mpx for {needed:.1f} Mpx needed{before}"


def _origin(mpp: dict[str, Any]) -> str:
    return mpp.get("origin") or mpp.get("stated_by") or str(mpp["source"])


def _gpu_memory(run: dict[str, Any]) -> str:
    return f", GPU {run['gpu_memory_mb']:.0f} MB" if run["gpu_memory_mb"] is not None else ""
