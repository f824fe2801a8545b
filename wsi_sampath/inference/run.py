"""One slide from file to files: read, predict, blend, write, vectorise, all at once."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wsi_sampath.errors import WsiError
from wsi_sampath.inference.background import Background
from wsi_sampath.inference.claim import Claim
from wsi_sampath.inference.plan import RunFiles, RunPlan, plan_files, plan_run
from wsi_sampath.inference.predictor import Predictor
from wsi_sampath.inference.progress import Progress, Silent
from wsi_sampath.inference.settings import SegmentSettings
from wsi_sampath.inference.sink import Answers, MapSink
from wsi_sampath.inference.summary import (
    Tally,
    areas_mm2,
    costs,
    describe,
    identity,
    tile_counts,
)
from wsi_sampath.models.zoo import LoadedModel, load_model
from wsi_sampath.outputs.geojson import GeoJSONWriter, PlaneToSlide
from wsi_sampath.outputs.ngff import PlaneScale
from wsi_sampath.outputs.polygons import PolygonTracer
from wsi_sampath.outputs.pyramid import PyramidSpec, PyramidWriter, read_attributes
from wsi_sampath.slides.slide import Slide
from wsi_sampath.slides.stream import TileBatch, TileStream

_SAME = ("version", "model", "slide", "settings")


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
    """

    zarr: Path
    geojson: Path | None
    attributes: dict[str, Any]
    reused: bool = False


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
    path, progress = Path(slide), progress or Silent()
    files = plan_files(Path(out), settings)
    with _explained(str(path)):
        model = model or load_model(settings.model)
        with Slide.open(
            path, slide_mpp=settings.slide_mpp, csv_mpp=csv_mpp, reader=settings.reader
        ) as opened:
            who = identity(opened, model, settings)
            finished = _finished(files, who, force=settings.force)
            if finished is not None:
                return finished
            files.zarr.parent.mkdir(parents=True, exist_ok=True)
            with Claim(files.claim):
                return _run(opened, model, settings, files, who, progress)


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
    different = _differences(attributes, who)
    if different:
        raise WsiError(
            "bad-input",
            f"the output exists with other settings ({', '.join(different)}); give --force to "
            "replace it, or choose another --out",
            subject=str(files.zarr),
        )
    geojson = files.geojson if files.geojson and files.geojson.exists() else None
    if files.geojson is not None and geojson is None:
        return None
    return SegmentResult(files.zarr, geojson, attributes, reused=True)


def _differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    names = [name for name in _SAME[:-1] if before.get(name) != now[name]]
    old, new = before.get("settings", {}), now["settings"]
    changed = sorted(name for name in set(old) | set(new) if old.get(name) != new.get(name))
    return names + [f"{name} was {old.get(name)!r}, now {new.get(name)!r}" for name in changed]


def _run(
    slide: Slide,
    model: LoadedModel,
    settings: SegmentSettings,
    files: RunFiles,
    who: dict[str, Any],
    progress: Progress,
) -> SegmentResult:
    started = time.perf_counter()
    plan = plan_run(slide, model.spec, settings)
    predictor = Predictor(
        model,
        tile_px=plan.tile_px,
        output_px=plan.grid.tile,
        device=settings.device,
        precision=settings.precision,
        batch_size=settings.batch_size,
        compile=settings.compile,
    )
    _clear_partial(files.partial)
    classes = tuple((c.name, c.color) for c in model.spec.classes)
    pyramid = PyramidWriter(files.partial, _pyramid_spec(slide, plan, settings, classes))
    seconds = {"plan": time.perf_counter() - started}
    tally = Tally()
    stream = TileStream(
        slide,
        plan.sampling,
        plan.grid,
        batch_size=predictor.batch_size,
        workers=settings.workers,
    )
    for warning in slide.warnings:
        progress.warn(warning)
    with _geojson(files, slide, plan, settings, classes, who) as geojson:
        tracer = _tracer(plan, settings, len(classes)) if geojson is not None else None
        sink = MapSink(plan, len(classes), pyramid, tracer, geojson)
        progress.begin(slide.path.name, plan.grid.n_tiles)
        try:
            seconds["network"] = _predict_all(stream, predictor, sink, tally, progress)
        finally:
            progress.end()
        _check_bad_tiles(tally, plan, settings.max_bad_tiles)
        sink.finish()
    areas = areas_mm2(plan, sink.pixels, [name for name, _ in classes])
    seconds |= {"read": stream.counts.seconds, **sink.seconds}
    seconds["total"] = time.perf_counter() - started
    attributes = {
        **who,
        **describe(slide, plan, settings),
        "device": str(predictor.device),
        "precision": predictor.precision,
        "tiles": tile_counts(plan, tally),
        "polygons": geojson.count if geojson is not None else None,
        "area_mm2": areas,
        **costs(seconds, stream.counts, tally, sum(areas.values())),
        "complete": True,
    }
    pyramid.finish(attributes)
    _publish(files)
    return SegmentResult(files.zarr, files.geojson, attributes)


def _predict_all(
    stream: TileStream, predictor: Predictor, sink: MapSink, tally: Tally, progress: Progress
) -> float:
    seconds = 0.0
    with Background(sink.take) as later:
        for batch in stream:
            start = time.perf_counter()
            answers = _answer(batch, predictor, tally)
            seconds += time.perf_counter() - start
            if answers.tiles:
                later.put(answers)
            progress.advance(len(batch.tiles) + len(batch.failed))
    return seconds


def _answer(batch: TileBatch, predictor: Predictor, tally: Tally) -> Answers:
    tally.failed.extend(batch.failed)
    if not batch.tiles:
        return Answers((), np.empty((0, 0, 0, 0), np.float32))
    probabilities = predictor(batch.images)
    good = [bool(np.isfinite(answer).all()) for answer in probabilities]
    tally.failed.extend(
        (tile, "the network's answer is not finite")
        for tile, fine in zip(batch.tiles, good, strict=True)
        if not fine
    )
    tiles = tuple(tile for tile, fine in zip(batch.tiles, good, strict=True) if fine)
    tally.analysed += len(tiles)
    return Answers(tiles, probabilities if all(good) else probabilities[good])


def _check_bad_tiles(tally: Tally, plan: RunPlan, limit: float) -> None:
    bad, total = len(tally.failed), plan.grid.n_tiles
    if bad <= limit * total:
        return
    raise WsiError(
        "unreadable",
        f"{bad} of {total} tiles failed, more than --max-bad-tiles {limit:g} allows; "
        f"the first: {tally.failed[0][1]}",
    )


def _pyramid_spec(
    slide: Slide,
    plan: RunPlan,
    settings: SegmentSettings,
    classes: tuple[tuple[str, str], ...],
) -> PyramidSpec:
    um_x, um_y = plan.um_per_px
    return PyramidSpec(
        name=slide.path.name,
        height=plan.grid.height,
        width=plan.grid.width,
        scale=PlaneScale(um_x, um_y, slide.mpp.x, slide.mpp.y),
        classes=classes,
        zarr_format=settings.zarr_format,
        probabilities=settings.probabilities,
    )


def _tracer(plan: RunPlan, settings: SegmentSettings, n_classes: int) -> PolygonTracer:
    tolerance = settings.simplify_um / max(plan.um_per_px)
    return PolygonTracer(plan.grid.window.width, n_classes=n_classes, simplify=tolerance)


@contextmanager
def _geojson(
    files: RunFiles,
    slide: Slide,
    plan: RunPlan,
    settings: SegmentSettings,
    classes: tuple[tuple[str, str], ...],
    who: dict[str, Any],
) -> Iterator[GeoJSONWriter | None]:
    if files.geojson is None:
        yield None
        return
    files.geojson.parent.mkdir(parents=True, exist_ok=True)
    with GeoJSONWriter(
        files.geojson,
        classes=classes,
        transform=_to_slide(slide, plan),
        namespace=f"{who['slide']['fingerprint']}/{who['model']['sha256']}",
        min_area_um2=settings.min_area_um2,
    ) as writer:
        yield writer


def _to_slide(slide: Slide, plan: RunPlan) -> PlaneToSlide:
    stride, window = plan.grid.stride, plan.grid.window
    scale_x, scale_y = plan.sampling.zoom_x * stride, plan.sampling.zoom_y * stride
    return PlaneToSlide(
        scale_x=scale_x,
        scale_y=scale_y,
        offset_x=window.x * scale_x - slide.bounds_offset[0],
        offset_y=window.y * scale_y - slide.bounds_offset[1],
        mpp_x=slide.mpp.x,
        mpp_y=slide.mpp.y,
    )


def _clear_partial(partial: Path) -> None:
    if partial.exists():
        shutil.rmtree(partial)


def _publish(files: RunFiles) -> None:
    # By now the polygons stand under their own name; the zarr comes last, because its presence
    # is what says that the slide is done.
    if files.zarr.exists():
        old = files.zarr.with_name(files.zarr.name + ".old.partial")
        _clear_partial(old)
        files.zarr.rename(old)
        files.partial.rename(files.zarr)
        shutil.rmtree(old)
    else:
        files.partial.rename(files.zarr)


@contextmanager
def _explained(subject: str) -> Iterator[None]:
    """Turn what the machine may do to a run into the reasons that a user knows."""
    try:
        yield
    except WsiError as error:
        raise error.about(subject) from None
    except KeyboardInterrupt:
        raise WsiError("interrupted", "stopped by the user", subject=subject) from None
    except MemoryError:
        raise WsiError(
            "out-of-memory",
            "the machine ran out of memory; use a smaller --batch-size or fewer --workers",
            subject=subject,
        ) from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            message = "no space is left where the output goes; free some, then run again"
            raise WsiError("disk-full", message, subject=subject) from None
        where = f" ({error.filename})" if error.filename else ""
        message = f"the output cannot be written: {error.strerror or error}{where}"
        raise WsiError("bad-input", message, subject=subject) from None
