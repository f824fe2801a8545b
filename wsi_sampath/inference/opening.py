"""Open the outputs of a run: new ones, or those that an earlier run left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

from wsi_sampath.classes import ClassSpec
from wsi_sampath.inference.durable.ledger import Strip
from wsi_sampath.inference.plan import RunFiles, RunPlan
from wsi_sampath.inference.settings import SegmentSettings
from wsi_sampath.inference.strips import CLASS_MAP, MEASUREMENTS, MapSink
from wsi_sampath.inference.summary import Tally
from wsi_sampath.models.network import LoadedModel
from wsi_sampath.outputs.omezarr.images import ROOT, ImageSpec, PyramidSpec
from wsi_sampath.outputs.omezarr.ngff import PlaneScale
from wsi_sampath.outputs.omezarr.pyramid import PyramidWriter
from wsi_sampath.outputs.polygons.tracer import PolygonTracer
from wsi_sampath.outputs.qupath.geojson import GeoJSONWriter, PlaneToSlide
from wsi_sampath.slides.slide import Slide

Classes = tuple[ClassSpec, ...]


@contextmanager
def open_sink(
    slide: Slide,
    model: LoadedModel,
    settings: SegmentSettings,
    files: RunFiles,
    plan: RunPlan,
    identity: dict[str, Any],
    tally: Tally,
    last: Strip | None,
    device: torch.device,
) -> Iterator[MapSink]:
    """Open zarr, GeoJSON and tracer behind one sink; the GeoJSON is complete when the block ends.

    Parameters
    ----------
    slide, model, settings, files, plan, identity, tally
        The run.
    last
        The strip after which to go on; None for a new run.
    device
        Where the network answers.
    """
    classes = classes_of(model)
    spec = pyramid_spec(slide, plan, settings, classes)
    work = files.work
    flushed = None if last is None else last.notes["flushed"]
    pyramid = PyramidWriter(work.maps, spec, resume_at=flushed)
    with _polygons(slide, files, plan, settings, classes, identity, last) as geojson:
        tracer = _tracer(plan, settings, len(classes)) if geojson is not None else None
        sink = MapSink(plan, len(classes), pyramid, work.ledger, tally, tracer, geojson, device)
        if last is not None:
            sink.restore(last, work.ledger.needed_by(last))
        yield sink


def classes_of(model: LoadedModel) -> Classes:
    """Return name and colour of a model's classes."""
    return model.spec.classes


def pyramid_spec(
    slide: Slide, plan: RunPlan, settings: SegmentSettings, classes: Classes
) -> PyramidSpec:
    """Describe the zarr of a run."""
    um_x, um_y = plan.um_per_px
    return PyramidSpec(
        name=slide.path.name,
        height=plan.grid.height,
        width=plan.grid.width,
        scale=PlaneScale(um_x, um_y, slide.mpp.x, slide.mpp.y),
        images=class_images(classes, probabilities=settings.probabilities),
        zarr_format=settings.zarr_format,
    )


def class_images(classes: Classes, *, probabilities: bool) -> tuple[ImageSpec, ...]:
    """Return the class map, and the root image: the probabilities, or the class map once more."""
    labels = ImageSpec(CLASS_MAP, values=classes)
    if not probabilities:
        return labels, ImageSpec(ROOT)
    return labels, ImageSpec(ROOT, channels=classes, halving="mean")


def plane_to_slide(slide: Slide, plan: RunPlan) -> PlaneToSlide:
    """Say where the window's pixels lie on the slide, as QuPath counts."""
    window = plan.grid.window
    scale_x, scale_y = plan.level0_per_px
    return PlaneToSlide(
        scale_x=scale_x,
        scale_y=scale_y,
        offset_x=window.x * scale_x - slide.bounds_offset[0],
        offset_y=window.y * scale_y - slide.bounds_offset[1],
        mpp_x=slide.mpp.x,
        mpp_y=slide.mpp.y,
        limit_x=slide.size[0] - slide.bounds_offset[0],
        limit_y=slide.size[1] - slide.bounds_offset[1],
    )


def _tracer(plan: RunPlan, settings: SegmentSettings, n_classes: int) -> PolygonTracer:
    tolerance = settings.simplify_um / max(plan.um_per_px)
    return PolygonTracer(plan.grid.window.width, largest_label=n_classes, simplify=tolerance)


def _polygons(
    slide: Slide,
    files: RunFiles,
    plan: RunPlan,
    settings: SegmentSettings,
    classes: Classes,
    identity: dict[str, Any],
    last: Strip | None,
) -> GeoJSONWriter | nullcontext[None]:
    if files.geojson is None:
        return nullcontext()
    work = files.work
    return GeoJSONWriter(
        work.polygons,
        classes=classes,
        transform=plane_to_slide(slide, plan),
        namespace=identity["run_id"],
        measurements=MEASUREMENTS,
        run=identity["run_id"],
        growing=work.growing_polygons,
        name=files.geojson.name,
        min_area_um2=settings.min_area_um2,
        resume=None if last is None else last.notes["geojson"],
    )
