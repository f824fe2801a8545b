"""A model with its settings, and what they do to a slide: open and plan it, run it, hand it out."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from wsi_sampath.explained import explained
from wsi_sampath.inference.durable.claim import Claim
from wsi_sampath.inference.durable.identity import identity, is_same
from wsi_sampath.inference.finished import Finished, find_finished
from wsi_sampath.inference.opening import open_slide
from wsi_sampath.inference.plan import Run, RunFiles, RunPlan, plan_files, plan_run, plan_tiling
from wsi_sampath.inference.predictor import Predictor
from wsi_sampath.inference.reporting import overlay_slide, report_slide
from wsi_sampath.inference.run import Analysed, analyse, finish
from wsi_sampath.inference.settings import ModelSettings, SegmentSettings
from wsi_sampath.inference.targets import refuse_foreign_picture, refuse_foreign_report
from wsi_sampath.models.network import LoadedModel
from wsi_sampath.outputs.belonging import picture_state, report_state
from wsi_sampath.outputs.result import Result, open_result
from wsi_sampath.progress import Progress, Silent
from wsi_sampath.slides.remote.place import located
from wsi_sampath.slides.slide import Slide

Finish = Callable[[], Finished]


def segment_slide(
    slide: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    settings: SegmentSettings | None = None,
    model: LoadedModel | None = None,
    csv_mpp: tuple[float, float] | None = None,
    progress: Progress | None = None,
) -> Result:
    """Segment a slide into an OME-Zarr and a GeoJSON.

    A run that was stopped, killed or that failed resumes after a finished strip when it is started
    again with the same settings, and ends with the same files. That strip is the last one, or,
    where maps are so wide that keeping every strip would cost too much, one of the last seconds.

    Parameters
    ----------
    slide
        The slide file, or the URL of one; see `Slide.open`.
    out
        ``NAME.zarr``; the polygons go to ``NAME.geojson`` beside it unless the settings name
        another file.
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
    Result
        As `open_result` returns it.

    Raises
    ------
    WsiError
        With one of the reasons of `wsi_sampath.errors.REASONS`. No output that looks finished is
        left behind.
    """
    settings = settings or SegmentSettings()
    slide = located(slide)
    if model is None:
        with explained(str(slide)):
            model = load_from_settings(settings)
    segmenter = Segmenter(model, settings)
    made = segmenter.run(segmenter.prepare(slide, out, csv_mpp=csv_mpp), progress=progress)
    opened = open_result(made.zarr)
    return replace(opened, geojson=made.geojson, report=made.report, reused=made.reused)


def load_from_settings(settings: ModelSettings) -> LoadedModel:
    """Load the model that the settings name.

    Raises
    ------
    WsiError
        See `load_model`.
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
    """A slide that is open and planned; `Segmenter.run` or `close` lets go of the file.

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


@dataclass(frozen=True)
class Segmenter:
    """A loaded model with the settings it is used with; one serves all slides of a batch.

    Parameters
    ----------
    model
        What is run.
    settings
        How.
    """

    model: LoadedModel
    settings: SegmentSettings

    @cached_property
    def predictor(self) -> Predictor:
        """Return what runs the network, made when it is first needed.

        Raises
        ------
        UsageError
            Where tile and output do not fit each other, or the device is not there.
        """
        tile, _, stride = plan_tiling(self.model.spec, self.settings)
        return Predictor(
            self.model,
            tile_px=tile,
            output_px=tile // stride,
            device=self.settings.device,
            precision=self.settings.precision,
            batch_size=self.settings.batch_size,
            compile=self.settings.compile,
        )

    def identity(self, slide: Slide) -> dict[str, Any]:
        """Return what decides the result of an open slide; see `durable.identity.identity`."""
        return identity(slide, self.model, self.settings)

    def prepare(
        self,
        slide: str | os.PathLike[str],
        out: str | os.PathLike[str],
        *,
        csv_mpp: tuple[float, float] | None = None,
    ) -> PreparedSlide:
        """Do what needs no network and writes nothing: open, find the tissue, plan the tiles.

        May run in another thread while another slide runs. The parameters and errors are those of
        `segment_slide`.
        """
        started = time.perf_counter()
        settings = self.settings
        slide = located(slide)
        has_nuclei = self.model.spec.architecture == "patho_sam"
        files = plan_files(Path(out), settings, has_nuclei=has_nuclei)
        with explained(str(slide)), ExitStack() as on_error:
            opened = open_slide(slide, settings, csv_mpp=csv_mpp)
            on_error.callback(opened.close)
            who = self.identity(opened)
            plan = None
            if find_finished(files, who, force=settings.force).attributes is None:
                files.check(settings, run_id=who["run_id"])
                plan = plan_run(opened, self.model.spec, settings)
            on_error.pop_all()
        return PreparedSlide(opened, files, who, plan, time.perf_counter() - started)

    def run(self, prepared: PreparedSlide, *, progress: Progress | None = None) -> Finished:
        """Run a slide that this segmenter prepared, and close it; errors as `segment_slide`."""
        return self.analyse(prepared, progress=progress)()

    def analyse(self, prepared: PreparedSlide, *, progress: Progress | None = None) -> Finish:
        """Put a prepared slide through the network, and leave the rest to the call returned.

        Returns
        -------
        callable
            Completes maps, polygons and report, lets go of slide and claim, and returns what was
            made. To be called once, from any thread: the network is free for another slide
            meanwhile. Its errors, like those of this method, are those of `segment_slide`.
        """
        slide, files, settings = prepared.slide, prepared.files, self.settings
        progress = progress or Silent()
        with explained(str(slide.path)), ExitStack() as held:
            held.enter_context(slide)
            if prepared.plan is None and (files.are_tidy() or Claim(files.claim).is_held()):
                made, _ = _reuse(prepared, force=settings.force)
                if made is not None:
                    return partial(_as_it_is, made)
            claim = _claim(files, held)
            ended = files.work.complete(files.zarr)
            # A run that was killed while its files were put in place has nothing else to do.
            force = settings.force and not (ended and is_same(ended, prepared.identity))
            # Another run may have finished it between our looking and our claim.
            made, note = _reuse(prepared, force=force)
            if made is not None:
                files.work.tidy()
                return partial(_as_it_is, made)
            files.check(settings, run_id=prepared.identity["run_id"])
            if note:
                progress.warn(note)
            plan = prepared.plan or plan_run(slide, self.model.spec, settings)
            started = time.perf_counter() - prepared.seconds
            run = Run(slide, self.model, settings, files, prepared.identity, plan)
            analysed = analyse(run, self.predictor, progress, claim, started=started)
            return partial(_finish, analysed, progress, claim, held.pop_all())


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
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing[::-1]


def _as_it_is(finished: Finished) -> Finished:
    return finished


def _finish(analysed: Analysed, progress: Progress, claim: Claim, held: ExitStack) -> Finished:
    files = analysed.run.files
    with explained(str(analysed.run.slide.path)), held:
        claim.check()
        attributes = finish(analysed, progress)
        return Finished.of(files, attributes)


def _reuse(prepared: PreparedSlide, *, force: bool) -> tuple[Finished | None, str]:
    """Find a finished result, and make page and picture where they lack or are of another run.

    Returns
    -------
    Finished or None
        The result, if there is one to hand out.
    str
        A sentence for the user: why a result that is there has to be made again.
    """
    files = prepared.files
    found = find_finished(files, prepared.identity, force=force)
    if found.attributes is None:
        return None, found.note
    if files.report is not None and report_state(files.report, found.attributes) != "same":
        refuse_foreign_report(files.report)
        report_slide(prepared.slide, files.zarr, files.report, zarr_name=files.zarr.name)
    if files.overlay is not None and picture_state(files.overlay, found.attributes) != "same":
        refuse_foreign_picture(files.overlay, advice="leave out --overlay")
        overlay_slide(prepared.slide, files.zarr, files.overlay)
    return Finished.of(files, found.attributes, reused=True), ""
