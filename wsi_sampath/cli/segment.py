"""``wsi-segment``: slides in, OME-Zarr class maps and QuPath polygons out."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsi_sampath.cli.entry import BEFORE_ANY_SLIDE, new_app, run
from wsi_sampath.errors import EXIT_FAILED, EXIT_OK, UsageError

if TYPE_CHECKING:
    from wsi_sampath.batch.discover import Plan
    from wsi_sampath.batch.job import Job
    from wsi_sampath.inference.settings import SegmentSettings
    from wsi_sampath.models.network import LoadedModel

app = new_app()
_MOST_NOTES = 20


@app.command()
def segment(
    inputs: Annotated[
        list[Path], typer.Argument(metavar="INPUT...", help="Slides, folders, or .txt/.csv lists.")
    ],
    out: Annotated[
        str,
        typer.Option(
            "--out", "-o", help="NAME.zarr for one slide (or a folder/), a folder for several."
        ),
    ],
    model: Annotated[
        str, typer.Option("--model", "-m", help="Name of a model, .safetensors, or .yaml.")
    ] = "gland-mini",
    weights: Annotated[
        Path | None, typer.Option(help="Weights for a .yaml model: .safetensors, or published.")
    ] = None,
    allow_random_weights: Annotated[
        bool, typer.Option("--allow-random-weights", help="Run a .yaml model untrained.")
    ] = False,
    mpp: Annotated[
        float | None, typer.Option(help="um per pixel the network sees [the model's own].")
    ] = None,
    slide_mpp: Annotated[
        str | None, typer.Option(help="True um per level-0 pixel: VALUE, or X,Y.")
    ] = None,
    mpp_csv: Annotated[Path | None, typer.Option(help="CSV with the columns wsi,mpp.")] = None,
    tile: Annotated[
        int | None, typer.Option(help="Tile side in px at the model's mpp [the model's own].")
    ] = None,
    overlap: Annotated[
        int | None, typer.Option(help="Overlap of tiles in px [a quarter of the tile].")
    ] = None,
    output_mpp: Annotated[
        float | None, typer.Option(help="um per pixel of the stored maps [the network's own grid].")
    ] = None,
    batch_size: Annotated[
        str, typer.Option("--batch-size", "-b", help="Tiles per forward pass: auto or N.")
    ] = "auto",
    workers: Annotated[
        int, typer.Option("--workers", "-j", help="Threads that read and decode.")
    ] = 4,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp16, bf16 or fp32.")] = "auto",
    compile: Annotated[
        bool, typer.Option("--compile/--no-compile", help="Use torch.compile.")
    ] = False,
    tissue: Annotated[
        str, typer.Option(help="otsu, none, or a mask (PNG over the slide, or GeoJSON).")
    ] = "otsu",
    min_tissue: Annotated[
        float, typer.Option(help="Smaller pieces of found tissue are left out, um^2.")
    ] = 8_000.0,
    max_hole: Annotated[
        float, typer.Option(help="Larger holes in found tissue are glass, um^2.")
    ] = 10_000.0,
    region: Annotated[
        tuple[float, float, float, float] | None,
        typer.Option(metavar="X Y W H", help="Only this box, in level-0 px."),
    ] = None,
    geojson: Annotated[
        Path | None, typer.Option(help="File for the polygons [NAME.geojson beside the zarr].")
    ] = None,
    no_geojson: Annotated[bool, typer.Option("--no-geojson", help="Write no polygons.")] = False,
    report: Annotated[
        bool, typer.Option("--report/--no-report", help="Write NAME.html beside the zarr.")
    ] = True,
    min_area: Annotated[
        float, typer.Option(help="Leave out polygons below this area, um^2.")
    ] = 0.0,
    simplify: Annotated[
        float, typer.Option(help="Simplify borders by up to this, um; 0 is exact.")
    ] = 0.0,
    no_probabilities: Annotated[
        bool, typer.Option("--no-probabilities", help="Store the class map alone.")
    ] = False,
    zarr_format: Annotated[
        int, typer.Option(help="2 (NGFF 0.4, for today's QuPath) or 3 (NGFF 0.5).")
    ] = 2,
    max_bad_tiles: Annotated[
        float, typer.Option(help="Share of undecodable tiles at which a slide fails.")
    ] = 0.01,
    reader: Annotated[str, typer.Option(help="auto, tiff, openslide or tiffslide.")] = "auto",
    image: Annotated[
        int | None, typer.Option(help="Which picture of a file of several [the largest scan].")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace an earlier result of other settings.")
    ] = False,
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast", help="Stop at the first slide that fails.")
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try unreadable slides of earlier runs again.")
    ] = False,
    gpus: Annotated[
        str | None, typer.Option(help="Share a batch among these GPUs, as in 0,1.")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Run a batch on dask: tcp://HOST:PORT, or local:N workers.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Plan, estimate time and disk, write nothing.")
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Write one line of JSON to stdout, all else to stderr."),
    ] = False,
) -> None:
    """Segment whole-slide images into an OME-Zarr pyramid and GeoJSON polygons."""
    # First, since what is wrong here is said before torch has been imported.
    from wsi_sampath.batch.discover import plan_batch, with_mpp

    if as_json and sys.stdout is None:
        raise UsageError("--json has no stdout to write to")
    plan = plan_batch(inputs, Path(out), into_folder=out.endswith(("/", os.sep)))
    jobs, single, folder = plan.jobs, plan.is_single, Path(out)
    from wsi_sampath.batch.cluster import run_on_cluster
    from wsi_sampath.batch.devices import parse_devices, run_on_devices
    from wsi_sampath.batch.options import BatchOptions
    from wsi_sampath.batch.runner import run_batch
    from wsi_sampath.cli.ended import Ended
    from wsi_sampath.cli.progress import batch_progress, say
    from wsi_sampath.inference.plan import plan_tiling
    from wsi_sampath.inference.settings import SegmentSettings
    from wsi_sampath.models.device import resolve_device
    from wsi_sampath.models.zoo import load_model
    from wsi_sampath.slides.mpp import parse_mpp, read_mpp_csv, unmatched_note

    devices = parse_devices(gpus) if gpus is not None else ()
    if single and devices:
        raise UsageError("--gpus shares the slides of a batch; for one slide name its --device")
    if scheduler is not None and (single or devices):
        raise UsageError("--scheduler shares the slides of a batch, and goes without --gpus")
    if geojson is not None and len(jobs) > 1:
        raise UsageError("--geojson FILE goes with one slide; leave it out for several")
    if tissue not in ("otsu", "none") and not Path(tissue).is_file():
        raise UsageError("--tissue is neither otsu, none nor a file", subject=tissue)
    settings = SegmentSettings.build(
        {
            "model": model,
            "weights": None if weights is None else str(weights),
            "allow_random_weights": allow_random_weights,
            "mpp": mpp,
            "slide_mpp": None if slide_mpp is None else parse_mpp(slide_mpp),
            "tile": tile,
            "overlap": overlap,
            "output_mpp": output_mpp,
            "batch_size": batch_size if batch_size == "auto" else _whole(batch_size),
            "workers": workers,
            "device": device,
            "precision": precision,
            "compile": compile,
            "tissue": tissue,
            "min_tissue_um2": min_tissue,
            "max_hole_um2": max_hole,
            "region": region,
            "geojson": None if geojson is None else str(geojson),
            "polygons": not no_geojson,
            "probabilities": not no_probabilities,
            "min_area_um2": min_area,
            "simplify_um": simplify,
            "zarr_format": zarr_format,
            "max_bad_tiles": max_bad_tiles,
            "reader": reader,
            "image": image,
            "report": report,
            "force": force,
        }
    )
    if mpp_csv is not None:
        table = read_mpp_csv(mpp_csv)
        jobs = with_mpp(jobs, table)
        unmatched = unmatched_note(table, [job.slide for job in jobs])
        if unmatched:
            say(f"warning: {mpp_csv}: {unmatched}")
    loaded = load_model(model, weights=weights, allow_random_weights=allow_random_weights)
    plan_tiling(loaded.spec, settings)
    if scheduler is None:
        for device in devices or (settings.device,):
            resolve_device(device)
    _note_model(loaded)
    _note_plan(plan)
    if dry_run:
        for warning in loaded.warnings:
            say(f"warning: {warning}")
        raise typer.Exit(
            _estimate(jobs, settings, loaded, n_devices=len(devices) or 1, as_json=as_json)
        )
    options = BatchOptions(fail_fast=fail_fast, retry_failed=retry_failed)
    progress = batch_progress(is_single=single)
    ended = Ended(len(jobs), None if single else folder, as_json=as_json)
    with ended.whatever_happens():
        if scheduler is not None:
            run_on_cluster(
                jobs,
                settings,
                scheduler,
                out=folder,
                options=options,
                progress=progress,
                tell=ended.tell,
            )
        elif devices:
            run_on_devices(
                jobs,
                settings,
                devices,
                out=folder,
                options=options,
                progress=progress,
                tell=ended.tell,
            )
        else:
            run_batch(
                jobs,
                settings,
                loaded,
                out=None if single else folder,
                options=options,
                progress=progress,
                tell=ended.tell,
            )
    raise typer.Exit(EXIT_FAILED if ended.is_unfinished else EXIT_OK)


def _estimate(
    jobs: list[Job],
    settings: SegmentSettings,
    model: LoadedModel,
    *,
    n_devices: int,
    as_json: bool,
) -> int:
    from wsi_sampath.batch.estimate import estimate_batch, estimate_line, summary_line
    from wsi_sampath.cli.ended import print_json, put

    estimates = []
    for one in estimate_batch(jobs, settings, model):
        estimates.append(one)
        put(estimate_line(one), instead=as_json)
    put(summary_line(estimates, n_devices=n_devices), instead=as_json)
    if as_json:
        print_json([one.as_json() for one in estimates])
    return EXIT_FAILED if any(one.fails for one in estimates) else EXIT_OK


def _note_plan(plan: Plan) -> None:
    from wsi_sampath.cli.progress import say

    for note in plan.notes[:_MOST_NOTES]:
        say(f"note: {note}")
    if len(plan.notes) > _MOST_NOTES:
        say(f"note: and {len(plan.notes) - _MOST_NOTES} more of the kind")


def _note_model(model: LoadedModel) -> None:
    from wsi_sampath.models.zoo import bundled_models

    if model.source in bundled_models():
        print(
            f"note: {model.source} is a small demonstration model, not for diagnosis; "
            "get another (wsi-models list) or train one (wsi-train), and give it with --model FILE",
            file=sys.stderr,
        )


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"--batch-size {text!r} is neither auto nor a whole number") from None


def main() -> None:
    """Run the command; every known failure is one line and an exit code."""
    run(app, "wsi-segment", wrong_use=BEFORE_ANY_SLIDE)
