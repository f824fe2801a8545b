"""One slide from file to files: read, predict, blend, write, vectorise, all at once."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from wsi_sampath.explained import explained
from wsi_sampath.inference.durable.claim import Claim
from wsi_sampath.inference.durable.identity import identity, is_same
from wsi_sampath.inference.finished import find_finished
from wsi_sampath.inference.plan import RunFiles, RunPlan, plan_files, plan_run
from wsi_sampath.inference.predictor import Predictor
from wsi_sampath.inference.reporting import report_slide
from wsi_sampath.inference.settings import SegmentSettings
from wsi_sampath.inference.slide_run import SlideRun, make_predictor
from wsi_sampath.inference.targets import refuse_foreign_report
from wsi_sampath.models.network import LoadedModel
from wsi_sampath.outputs.belonging import report_state
from wsi_sampath.progress import Progress, Silent
from wsi_sampath.slides.slide import Slide


@dataclass(frozen=True)
class SegmentResult:
    """A finished slide.

    Attributes
    ----------
    zarr, geojson
        The files; `geojson` is None where no polygons were wanted.
    attributes
        The ``wsi_sampath`` attribute of the zarr: counts, areas, costs.
    reused
        True where an equal, complete result was there already.
    report
        The HTML page; None where none was wanted.
    """

    zarr: Path
    geojson: Path | None
    attributes: dict[str, Any]
    reused: bool = False
    report: Path | None = None

    def __repr__(self) -> str:
        # All attributes would be a screenful.
        areas = ", ".join(f"{n} {a:.3f} mm2" for n, a in self.attributes["area_mm2"].items())
        return f"SegmentResult({str(self.zarr)!r}, {areas})"


Finish = Callable[[], SegmentResult]


def segment_slide(
    slide: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    settings: SegmentSettings | None = None,
    model: LoadedModel | None = None,
    csv_mpp: tuple[float, float] | None = None,
    progress: Progress | None = None,
) -> SegmentResult:
    """Segment a slide into an OME-Zarr and a GeoJSON.

    A run that was stopped, killed or that failed goes on after its last finished strip when it is
    started again with the same settings, and ends with the same files.

    Parameters
    ----------
    slide
        The slide file.
    out
        ``NAME.zarr``; the polygons go to ``NAME.geojson`` beside it unless the settings say else.
    settings
        Everything that decides the result; the defaults if None.
    model
        A loaded model, to be used for many slides; None loads the one named in the settings.
    csv_mpp
        (x, y) um per level-0 pixel from an mpp table.
    progress
        Told about the course of the run.

    Returns
    -------
    SegmentResult

    Raises
    ------
    WsiError
        With one of the reasons of `wsi_sampath.errors.REASONS`. No output that looks finished is
        left behind.
    """
    settings = settings or SegmentSettings()
    if model is None:
        with explained(str(slide)):
            model = load_from_settings(settings)
    prepared = prepare_slide(slide, out, settings=settings, model=model, csv_mpp=csv_mpp)
    return run_prepared(prepared, settings=settings, model=model, progress=progress)


def load_from_settings(settings: SegmentSettings) -> LoadedModel:
    """Load the model that the settings name.

    Raises
    ------
    WsiError
        As of `load_model`.
    """
    # Importing the networks takes seconds, which a caller with one of its own need not wait for.
    from wsi_sampath.models.zoo import load_model

    return load_model(
        settings.model,
        weights=settings.weights,
        allow_random_weights=settings.allow_random_weights,
    )


@dataclass(frozen=True)
class PreparedSlide:
    """A slide that is open and planned; `run_prepared` or `close` lets go of the file.

    Attributes
    ----------
    slide
        The open slide.
    files
        Where its results go.
    identity
        What decides its results.
    plan
        Its tiles; None where an equal, complete result is there already.
    seconds
        Spent on opening, tissue and plan.
    """

    slide: Slide
    files: RunFiles
    identity: dict[str, Any]
    plan: RunPlan | None
    seconds: float

    def close(self) -> None:
        """Let go of the slide without running it."""
        self.slide.close()


def prepare_slide(
    slide: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    settings: SegmentSettings,
    model: LoadedModel,
    csv_mpp: tuple[float, float] | None = None,
) -> PreparedSlide:
    """Do what needs no network and writes nothing: open a slide, find its tissue, plan its tiles.

    May run in another thread while another slide runs. The parameters and errors are those of
    `segment_slide`.
    """
    started = time.perf_counter()
    files = plan_files(Path(out), settings)
    with explained(str(slide)), ExitStack() as on_error:
        opened = Slide.open(
            slide,
            slide_mpp=settings.slide_mpp,
            csv_mpp=csv_mpp,
            reader=settings.reader,
            image=settings.image,
        )
        on_error.callback(opened.close)
        who = identity(opened, model, settings)
        done = not files.work.is_publishing() and _found(files, who, force=settings.force)
        if not done:
            files.check(tissue=settings.tissue, run_id=who["run_id"])
        plan = None if done else plan_run(opened, model.spec, settings)
        on_error.pop_all()
    return PreparedSlide(opened, files, who, plan, time.perf_counter() - started)


def run_prepared(
    prepared: PreparedSlide,
    *,
    settings: SegmentSettings,
    model: LoadedModel,
    progress: Progress | None = None,
) -> SegmentResult:
    """Run a prepared slide, with the settings and the model it was prepared with, and close it.

    Returns and errors are those of `segment_slide`.
    """
    return analyse_prepared(prepared, settings=settings, model=model, progress=progress)()


def analyse_prepared(
    prepared: PreparedSlide,
    *,
    settings: SegmentSettings,
    model: LoadedModel,
    progress: Progress | None = None,
    predictor: Predictor | None = None,
) -> Finish:
    """Put a prepared slide through the network, and leave the rest to the call that is returned.

    Parameters
    ----------
    prepared, settings, model, progress
        As for `run_prepared`.
    predictor
        From `make_predictor` with the same settings and model; None makes one.

    Returns
    -------
    callable
        Completes maps, polygons and report, lets go of slide and claim, and returns the result. To
        be called once, from any thread: the network is free for another slide meanwhile. Its
        errors, like those of this function, are those of `segment_slide`.
    """
    slide, files, who = prepared.slide, prepared.files, prepared.identity
    with explained(str(slide.path)), ExitStack() as held:
        held.enter_context(slide)
        found = _reuse(prepared, force=settings.force)
        if found.result is not None and (files.are_tidy() or Claim(files.claim).is_held()):
            return _as_it_is(found.result)
        claim = _claim(files, held)
        ended = files.work.complete(files.zarr)
        # A run that was killed while its files were put in their places has nothing else to do.
        force = settings.force and not (ended is not None and is_same(ended, who))
        # Another run may have finished it between our looking and our claim.
        found = _reuse(prepared, force=force)
        if found.result is not None:
            files.work.tidy()
            return _as_it_is(found.result)
        files.check(tissue=settings.tissue, run_id=who["run_id"])
        progress = progress or Silent()
        if found.note:
            progress.warn(found.note)
        plan = prepared.plan or plan_run(slide, model.spec, settings)
        started = time.perf_counter() - prepared.seconds
        run = SlideRun(slide, model, settings, files, who, plan, started, progress)
        run.analyse(predictor or make_predictor(model, settings))
        return partial(_finish, run, claim, held.pop_all())


def _claim(files: RunFiles, held: ExitStack) -> Claim:
    """Claim all that a run writes; a folder that was made for nothing is removed."""
    made = [*_make_folder(files.zarr.parent)]
    try:
        if files.geojson is not None:
            made += _make_folder(files.geojson.parent)
        claim = held.enter_context(Claim(files.claim))
        if files.geojson_claim is not None:
            held.enter_context(Claim(files.geojson_claim, option="--geojson"))
    except BaseException:
        for folder in reversed(made):
            with suppress(OSError):
                folder.rmdir()
        raise
    return claim


def _make_folder(folder: Path) -> list[Path]:
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing[::-1]


def _as_it_is(finished: SegmentResult) -> Finish:
    return lambda: finished


def _finish(run: SlideRun, claim: Claim, held: ExitStack) -> SegmentResult:
    files = run.files
    with explained(str(run.slide.path)), held:
        claim.check()
        return SegmentResult(files.zarr, files.geojson, run.finish(), report=files.report)


@dataclass(frozen=True)
class _Reused:
    result: SegmentResult | None
    note: str = ""


def _reuse(prepared: PreparedSlide, *, force: bool) -> _Reused:
    """Find a finished result, and make its report where that is missing or of another run."""
    files = prepared.files
    if files.work.is_publishing():
        return _Reused(None)
    found = find_finished(files, prepared.identity, force=force)
    if found.attributes is None:
        return _Reused(None, found.note)
    result = SegmentResult(files.zarr, files.geojson, found.attributes, True, files.report)
    if files.report is not None and report_state(files.report, found.attributes) != "same":
        refuse_foreign_report(files.report)
        report_slide(prepared.slide, files.zarr, files.report, zarr_name=files.zarr.name)
    return _Reused(result)


def _found(files: RunFiles, who: dict[str, Any], *, force: bool) -> bool:
    return find_finished(files, who, force=force).attributes is not None
