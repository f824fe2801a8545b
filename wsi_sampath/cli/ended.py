"""How slides ended, on the screen and as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsi_sampath.batch.job import Job
from wsi_sampath.batch.record.outcome import Outcome
from wsi_sampath.cli.entry import of_stdout
from wsi_sampath.cli.progress import Loudness, say
from wsi_sampath.errors import UsageError, WsiError
from wsi_sampath.shown import format_duration, json_line, plural, shown

if TYPE_CHECKING:
    from wsi_sampath.inference.finished import Finished


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
    loudness
        How much is told of a slide that is done.
    """

    def __init__(
        self,
        n_slides: int,
        folder: Path | None,
        *,
        as_json: bool,
        loudness: Loudness = "normal",
    ) -> None:
        self._n_slides, self._folder, self._as_json = n_slides, folder, as_json
        self._loudness = loudness
        self._outcomes: list[Outcome] = []
        self._refused = 0
        self._error: WsiError | None = None
        self._lost: OSError | None = None

    @property
    def is_unfinished(self) -> bool:
        """True where anything is left to be done or to be mended."""
        return self._error is not None or self._done < self._n_slides

    def tell(self, outcome: Outcome) -> None:
        """Tell how one slide ended; those of a batch that were complete are but counted.

        So are those that were refused, after the first: one change of settings refuses them all.
        """
        self._outcomes.append(outcome)
        is_refused = outcome.refused and self._folder is not None
        self._refused += is_refused
        if outcome.result is None:
            if not (is_refused and self._refused > 1):
                say(outcome.line())
        elif self._loudness != "quiet" and not (self._folder and outcome.result.reused):
            lines = _result_lines(outcome.job, outcome.result, self._loudness)
            self._put("\n".join(map(shown, lines)))

    def _put(self, text: str) -> None:
        try:
            put(text, instead=self._as_json or self._lost is not None)
        except OSError as error:
            # The files are what a night's work is for: it goes on without its stdout.
            self._lost = error
            put(text, instead=True)

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
        if self._refused > 1:
            say(
                f"{plural(self._refused, 'result')} were made with other settings and are left as "
                "they are; give --force, or another --out"
            )
        if self._folder is not None and self._error is None and self._loudness != "quiet":
            say(self._summary(self._folder))
        if self._as_json:
            print_json(self._as_values())
        if self._lost is not None:
            raise self._lost

    @property
    def _done(self) -> int:
        return sum(outcome.done for outcome in self._outcomes)

    @property
    def _failed(self) -> int:
        return sum(not (outcome.done or outcome.stopped) for outcome in self._outcomes)

    @property
    def _left(self) -> int:
        return self._n_slides - self._done - self._failed

    @property
    def _before(self) -> int:
        return sum(one.result is not None and one.result.reused for one in self._outcomes)

    def _summary(self, folder: Path) -> str:
        parts = [
            f"{self._done} done" + (f" ({self._before} of them before)" if self._before else ""),
            f"{self._failed} failed"
            + (f" ({self._refused} of them with other settings)" if self._refused else ""),
            f"{self._left} left" + (" (the same command resumes)" if self._left else ""),
        ]
        return f"{', '.join(parts)}; {', '.join(_pages(folder).values())}"

    def _as_values(self) -> dict[str, Any]:
        slides = [outcome.as_json() for outcome in self._outcomes]
        values: dict[str, Any] = {
            "done": self._done,
            "before": self._before,
            "failed": self._failed,
            "left": self._left,
            "slides": slides,
        }
        if self._folder is not None:
            values |= {"refused": self._refused, **_pages(self._folder)}
        if self._error is not None:
            values["error"] = {"reason": self._error.reason, "message": self._error.message}
        return values


def _pages(folder: Path) -> dict[str, str]:
    """Return the pages of a batch, by their names in JSON."""
    return {"report": str(folder / "report.html"), "table": str(folder / "slides.csv")}


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


def _result_lines(job: Job, result: Finished, loudness: Loudness) -> list[str]:
    run, name = result.attributes, job.slide.name
    files = ", ".join(map(str, (result.zarr, *_beside(result))))
    if result.reused:
        return [f"{name}: complete already, nothing to do: {files}"]
    took = format_duration(run["seconds"]["total"])
    closing = f"{name}: done in {took}: {_found(run)}{_unread(run)}; {files}"
    return [closing, *_details(run, result)] if loudness == "verbose" else [closing]


def _beside(result: Finished) -> Iterator[Path]:
    """Yield the files of a result beside its zarr; one that lies elsewhere with its whole path."""
    for path in (result.geojson, result.nuclei, result.report, result.overlay):
        if path is not None:
            yield Path(path.name) if path.parent == result.zarr.parent else path


def _details(run: dict[str, Any], result: Finished) -> list[str]:
    tiles, seconds, mpp = run["tiles"], run["seconds"], run["mpp"]
    stages = ", ".join(f"{stage} {spent:.1f}" for stage, spent in seconds.items())
    return [
        f"  read by {run['reader']}, {mpp['x']:.4g} x {mpp['y']:.4g} um/px "
        f"({mpp.get('origin') or mpp['source']}), "
        f"maps at {mpp['output'][0]:.4g} um/px",
        f"  {plural(tiles['analysed'], 'tile')} analysed, "
        f"{tiles['skipped']} without tissue of their own, "
        f"{tiles['failed']} failed{_polygons(run)}{_pace_of_nuclei(run)}",
        f"  {run['tiles_per_s']:.2f} tiles/s, {run['mm2_per_s']:.3g} mm2/s, "
        f"peak memory {run['peak_memory_mb']:.0f} MB{_gpu_memory(run)}, decoded "
        f"{run['decoded_px'] / 1e6:.1f} Mpx in all, {run['needed_px'] / 1e6:.1f} Mpx under tiles",
        f"  seconds: {stages}",
    ]


def _found(run: dict[str, Any]) -> str:
    if "nuclei" not in run:
        return ", ".join(f"{name} {area:.3f} mm2" for name, area in run["area_mm2"].items())
    density = run["nuclei_per_mm2"]
    counts = ", ".join(
        f"{name} {n:,} ({density[name]:.0f}/mm2)" for name, n in run["nuclei"].items()
    )
    return f"nuclei: {counts}"


def _unread(run: dict[str, Any]) -> str:
    failed = run["tiles"]["failed"]
    return f", {plural(failed, 'tile')} unreadable" if failed else ""


def _polygons(run: dict[str, Any]) -> str:
    return f"; {plural(run['polygons'], 'polygon')}" if run["polygons"] is not None else ""


def _pace_of_nuclei(run: dict[str, Any]) -> str:
    seconds = run["seconds"]["total"]
    if "nuclei" not in run or not seconds:
        return ""
    return f"; {sum(run['nuclei'].values()) / seconds:.0f} nuclei/s"


def _gpu_memory(run: dict[str, Any]) -> str:
    return f", GPU {run['gpu_memory_mb']:.0f} MB" if run["gpu_memory_mb"] is not None else ""
