"""``wsi-segment``: slides in, OME-Zarr class maps and QuPath polygons out."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsi_sampath.batch.options import BatchOptions
from wsi_sampath.cli.entry import BEFORE_ANY_SLIDE, new_app, run
from wsi_sampath.cli.help import Command
from wsi_sampath.cli.options import with_options
from wsi_sampath.cli.settings_files import RepeatingResult, earlier_values
from wsi_sampath.errors import EXIT_FAILED, EXIT_OK, UsageError, WsiError
from wsi_sampath.inference.instances.settings import NucleusSettings
from wsi_sampath.inference.prompted.settings import GridSettings
from wsi_sampath.inference.settings import SegmentSettings
from wsi_sampath.settings import Belongs, Flags, Help, Panel
from wsi_sampath.shown import plural
from wsi_sampath.slides.remote.place import located

if TYPE_CHECKING:
    from wsi_sampath.batch.discover import Plan
    from wsi_sampath.batch.job import Job
    from wsi_sampath.batch.record.outcome import Outcome
    from wsi_sampath.cli.progress import Loudness
    from wsi_sampath.models.network import LoadedModel

app = new_app()
_MOST_NOTES = 20


class Request(RepeatingResult):
    """What is asked of the command, beside the settings of the slides."""

    mpp_csv: Annotated[
        Path | None,
        Panel.INPUT,
        Flags(metavar="FILE"),
        Help("CSV with the columns wsi,mpp: the true microns per pixel of slides."),
    ] = None
    gpus: Annotated[
        str | None, Panel.BATCH, Help("Share the slides among these GPUs, such as 0,1.")
    ] = None
    scheduler: Annotated[
        str | None,
        Panel.BATCH,
        Help("Run the slides on dask: tcp://HOST:PORT, or local:N for N workers here."),
    ] = None
    dry_run: Annotated[
        bool,
        Panel.BATCH,
        Belongs.CALL,
        Help("Plan, estimate time and disk space, and write no result."),
    ] = False
    preview: Annotated[
        bool,
        *(Panel.TISSUE, Belongs.CALL),
        Help("Run nothing: draw tissue and tiles into NAME.preview.png, and tell of the slide."),
    ] = False
    as_json: Annotated[
        bool,
        *(Panel.OUTPUT, Belongs.CALL),
        Flags("--json"),
        Help("Write one line of JSON to stdout, and all else to stderr."),
    ] = False
    verbose: Annotated[
        bool,
        Panel.OUTPUT,
        Belongs.CALL,
        Flags("--verbose", "-v"),
        Help("Tell every detail of every slide."),
    ] = False
    quiet: Annotated[
        bool, Panel.OUTPUT, Belongs.CALL, Flags("--quiet", "-q"), Help("Tell of failures alone.")
    ] = False

    @property
    def loudness(self) -> Loudness:
        """How much is told.

        Raises
        ------
        UsageError
            Where both more and less are asked for.
        """
        if self.verbose and self.quiet:
            raise UsageError("--verbose and --quiet contradict each other; give one of them")
        return "verbose" if self.verbose else "quiet" if self.quiet else "normal"


@app.command(cls=Command)
@with_options(
    earlier_values,
    settings=SegmentSettings,
    nuclei=NucleusSettings,
    grid=GridSettings,
    options=BatchOptions,
    request=Request,
)
def segment(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT", parser=located, help="Slides, URLs, folders, or .txt/.csv lists."
        ),
    ],
    out: Annotated[
        str | None,
        typer.Option(
            *("--out", "-o"),
            metavar="PATH",
            help="NAME.zarr for one slide (or a folder/), a folder for several.",
            rich_help_panel=Panel.OUTPUT.value,
        ),
    ] = None,
    *,
    settings: SegmentSettings,
    nuclei: NucleusSettings,
    grid: GridSettings,
    options: BatchOptions,
    request: Request,
) -> None:
    """Segment whole-slide images into an OME-Zarr pyramid and GeoJSON polygons."""
    # First, since what is wrong here is said before torch has been imported.
    from wsi_sampath.batch.discover import plan_batch

    if request.as_json and sys.stdout is None:
        raise UsageError("--json has no stdout to write to")
    if request.preview and request.dry_run:
        raise UsageError("--preview and --dry-run both run nothing; give one of them")
    loudness = request.loudness
    settings = settings.model_copy(update={"nuclei": nuclei, "grid": grid})
    out = _place(out, request)
    plan = plan_batch(inputs, Path(out), into_folder=out.endswith(("/", os.sep)))
    request = _of_its_kind(request, plan)
    devices = _devices(plan, settings, request)
    jobs = _with_mpp(plan.jobs, request.mpp_csv)
    if loudness != "quiet":
        _note_plan(plan)
    if request.preview:
        from wsi_sampath.cli.preview import preview

        quiet = loudness == "quiet"
        _save(settings, options, request)
        raise typer.Exit(preview(jobs, settings, as_json=request.as_json, quiet=quiet))
    if request.dry_run:
        raise typer.Exit(_estimate(jobs, settings, options, devices, request))
    from wsi_sampath.cli.ended import Ended

    folder = None if plan.is_single else Path(out)
    ended = Ended(len(jobs), folder, as_json=request.as_json, loudness=loudness)
    with ended.whatever_happens():
        if plan.is_single and (fault := _fault(jobs[0], settings)) is not None:
            ended.tell(fault)
        else:
            _run(jobs, settings, folder, options, devices, request, ended.tell)
    raise typer.Exit(EXIT_FAILED if ended.is_unfinished else EXIT_OK)


def _place(out: str | None, request: Request) -> str:
    """Return where the results go; a preview alone may leave it out, and goes where one stands."""
    if out is None and not request.preview:
        raise UsageError("--out says where the results go: NAME.zarr, or a folder for several")
    return f".{os.sep}" if out is None else out


def _of_its_kind(request: Request, plan: Plan) -> Request:
    """Return the request without what files say of sharing a batch, where there is one slide."""
    useless = [name for name in ("gpus", "scheduler") if name in request.from_files]
    if not plan.is_single or not useless:
        return request
    if not request.quiet:
        from wsi_sampath.cli.progress import say

        say(f"note: not taken from the settings, since it shares a batch: {', '.join(useless)}")
    return request.model_copy(update=dict.fromkeys(useless))


def _devices(plan: Plan, settings: SegmentSettings, request: Request) -> tuple[str, ...]:
    """Return the devices that share the batch, if any; refuse what does not go together."""
    devices: tuple[str, ...] = ()
    if request.gpus is not None:
        # With torch, which a preview does without.
        from wsi_sampath.batch.devices import parse_devices

        devices = parse_devices(request.gpus)
    if plan.is_single and devices:
        raise UsageError("--gpus shares the slides of a batch; for one slide name its --device")
    if plan.is_single and request.scheduler is not None:
        raise UsageError("--scheduler shares the slides of a batch; one slide goes without")
    if request.scheduler is not None and devices:
        raise UsageError("--scheduler and --gpus both share the batch; give one of them")
    if settings.geojson is not None and not settings.polygons:
        raise UsageError("--geojson FILE and --no-geojson contradict each other; give one of them")
    if settings.geojson is not None and len(plan.jobs) > 1:
        raise UsageError("--geojson FILE goes with one slide; leave it out for several")
    if settings.existing is not None and len(plan.jobs) > 1:
        raise UsageError("--nuclei FILE goes with one slide, whose nuclei it holds")
    if settings.tissue not in ("otsu", "none") and not Path(settings.tissue).is_file():
        raise UsageError("--tissue is neither otsu, none nor a file", subject=settings.tissue)
    if settings.tissue_threshold is not None and settings.tissue != "otsu":
        raise UsageError("--tissue-threshold finds tissue, and goes with --tissue otsu alone")
    return devices


def _with_mpp(jobs: list[Job], table_file: Path | None) -> list[Job]:
    if table_file is None:
        return jobs
    from wsi_sampath.batch.discover import with_mpp
    from wsi_sampath.cli.progress import say
    from wsi_sampath.slides.mpp import read_mpp_csv, unmatched_note

    table = read_mpp_csv(table_file)
    unmatched = unmatched_note(table, [job.slide for job in jobs])
    if unmatched:
        say(f"warning: {table_file}: {unmatched}")
    return with_mpp(jobs, table)


def _loaded(settings: SegmentSettings, request: Request, devices: Sequence[str]) -> LoadedModel:
    """Load the model, and see that it can be run as asked."""
    from wsi_sampath.inference.plan import plan_tiling
    from wsi_sampath.inference.segmenter import load_from_settings
    from wsi_sampath.models.device import resolve_device

    model = load_from_settings(settings)
    request.check_model(model)
    plan_tiling(model.spec, settings)
    if request.scheduler is None:
        for device in devices or (settings.device,):
            resolve_device(device)
    return model


def _save(settings: SegmentSettings, options: BatchOptions, request: Request) -> None:
    request.save("wsi-segment", settings=settings, options=options, request=request)


def _fault(job: Job, settings: SegmentSettings) -> Outcome | None:
    """Return how a slide ends that cannot be opened: no model need be loaded for that."""
    from wsi_sampath.batch.record.outcome import Outcome
    from wsi_sampath.explained import explained
    from wsi_sampath.inference.opening import open_slide

    try:
        if job.fault:
            raise WsiError("unreadable", job.fault)
        with explained(str(job.slide)), open_slide(job.slide, settings, csv_mpp=job.mpp):
            return None
    except UsageError:
        raise
    except WsiError as error:
        return Outcome.failed(job, error)


def _run(
    jobs: Sequence[Job],
    settings: SegmentSettings,
    folder: Path | None,
    options: BatchOptions,
    devices: Sequence[str],
    request: Request,
    ended: Callable[[Outcome], None],
) -> None:
    """Run the slides: on a cluster, on several devices, or here."""
    model = _loaded(settings, request, devices)
    # Not before: settings with which nothing can begin are none to keep.
    _save(settings, options, request)
    if request.loudness != "quiet":
        _tell_beginning(jobs, folder, model, settings.mpp or model.spec.mpp)
    from wsi_sampath.batch.batch import Batch
    from wsi_sampath.cli.batch_screen import batch_screen

    screen = batch_screen(ended, is_single=folder is None, loudness=request.loudness)
    batch = Batch(jobs, settings, folder, options, screen)
    if request.scheduler is not None:
        from wsi_sampath.batch.cluster import run_on_cluster

        run_on_cluster(batch, request.scheduler)
    elif devices:
        from wsi_sampath.batch.devices import run_on_devices

        run_on_devices(batch, devices)
    else:
        from wsi_sampath.batch.runner import run_batch

        run_batch(batch, model)


def _estimate(
    jobs: Sequence[Job],
    settings: SegmentSettings,
    options: BatchOptions,
    devices: Sequence[str],
    request: Request,
) -> int:
    """Tell what the slides would cost; returns the exit code."""
    from wsi_sampath.batch.estimate import estimate_batch, estimate_line, summary_line
    from wsi_sampath.cli.ended import print_json, put
    from wsi_sampath.cli.progress import say

    model = _loaded(settings, request, devices)
    # Not before: settings with which nothing can begin are none to keep.
    _save(settings, options, request)
    for warning in model.warnings:
        say(f"warning: {warning}")
    estimates = []
    for one in estimate_batch(jobs, settings, model):
        estimates.append(one)
        if request.loudness != "quiet" or one.fails:
            put(estimate_line(one), instead=request.as_json)
    put(summary_line(estimates, n_devices=len(devices) or 1), instead=request.as_json)
    if request.as_json:
        print_json([one.as_json() for one in estimates])
    return EXIT_FAILED if any(one.fails for one in estimates) else EXIT_OK


def _note_plan(plan: Plan) -> None:
    from wsi_sampath.cli.progress import say

    for note in plan.notes[:_MOST_NOTES]:
        say(f"note: {note}")
    if len(plan.notes) > _MOST_NOTES:
        say(f"note: and {len(plan.notes) - _MOST_NOTES} more of the kind")


def _tell_beginning(
    jobs: Sequence[Job], folder: Path | None, model: LoadedModel, mpp: float
) -> None:
    """Tell of a batch as a whole, and of a model that is there to be tried out."""
    from wsi_sampath.cli.progress import say
    from wsi_sampath.models.shipped import bundled_models

    if folder is not None:
        slides = plural(len(jobs), "slide")
        say(f"{slides} to {folder}, {model.title} at {mpp:g} um/px")
    if model.source in bundled_models():
        name = model.source
        say(f"note: {name} is a demonstration, not for diagnosis (wsi-models info {name})")


def main() -> None:
    """Run the command; every known failure is one line and an exit code."""
    run(app, "wsi-segment", wrong_use=BEFORE_ANY_SLIDE)
