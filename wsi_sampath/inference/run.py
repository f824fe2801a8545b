"""One slide from file to files: read, predict, blend, write, vectorise, all at once."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from wsi_sampath.errors import WsiError
from wsi_sampath.inference.claim import Claim
from wsi_sampath.inference.explain import explained
from wsi_sampath.inference.identity import check_same, identity
from wsi_sampath.inference.plan import RunFiles, RunPlan, plan_files, plan_run
from wsi_sampath.inference.predictor import Predictor
from wsi_sampath.inference.progress import Progress, Silent
from wsi_sampath.inference.reporting import report_slide
from wsi_sampath.inference.settings import SegmentSettings
from wsi_sampath.inference.slide_run import SlideRun, make_predictor
from wsi_sampath.models.loaded import LoadedModel
from wsi_sampath.outputs.pyramid import read_attributes
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
        done = _finished(files, who, force=settings.force) is not None
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
        finished = _reuse(prepared, force=settings.force)
        if finished is not None and (files.are_tidy() or Claim(files.claim).is_held()):
            return _as_it_is(finished)
        files.zarr.parent.mkdir(parents=True, exist_ok=True)
        held.enter_context(Claim(files.claim))
        # Another run may have finished it between our looking and our claim.
        finished = _reuse(prepared, force=settings.force)
        if finished is not None:
            files.work.tidy()
            return _as_it_is(finished)
        plan = prepared.plan or plan_run(slide, model.spec, settings)
        started = time.perf_counter() - prepared.seconds
        run = SlideRun(slide, model, settings, files, who, plan, started, progress or Silent())
        run.analyse(predictor or make_predictor(model, settings))
        return partial(_finish, run, held.pop_all())


def _as_it_is(finished: SegmentResult) -> Finish:
    return lambda: finished


def _finish(run: SlideRun, held: ExitStack) -> SegmentResult:
    files = run.files
    with explained(str(run.slide.path)), held:
        return SegmentResult(files.zarr, files.geojson, run.finish(), report=files.report)


def _reuse(prepared: PreparedSlide, *, force: bool) -> SegmentResult | None:
    files = prepared.files
    finished = _finished(files, prepared.identity, force=force)
    if finished is not None and files.report is not None and not files.report.exists():
        report_slide(prepared.slide, files.zarr, files.report, zarr_name=files.zarr.name)
    return finished


def _finished(files: RunFiles, who: dict[str, Any], *, force: bool) -> SegmentResult | None:
    if not files.zarr.exists():
        return None
    attributes = read_attributes(files.zarr)
    if attributes is None:
        raise WsiError(
            "bad-input",
            "the output exists and is not a result of ours; remove it, or choose another --out",
            subject=str(files.zarr),
        )
    if force:
        return None
    check_same(attributes, who, subject=str(files.zarr))
    if files.geojson is not None and not files.geojson.exists():
        return None
    return SegmentResult(files.zarr, files.geojson, attributes, True, files.report)
