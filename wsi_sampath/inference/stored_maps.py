"""Which images the zarr of a run holds, how large they are, and where they lie on the slide."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wsi_sampath.inference.durable.ledger import Strip
from wsi_sampath.inference.plan import Run, RunPlan
from wsi_sampath.models.spec import ModelSpec
from wsi_sampath.outputs.nuclei.channels import NUCLEUS_CHANNELS
from wsi_sampath.outputs.omezarr.downsample import Unsigned
from wsi_sampath.outputs.omezarr.images import ROOT, ImageSpec, PyramidSpec
from wsi_sampath.outputs.omezarr.ngff import PlaneScale
from wsi_sampath.outputs.omezarr.pyramid import PyramidWriter, stored_rows
from wsi_sampath.outputs.qupath.geojson import PlaneToSlide

CLASS_MAP = "labels/classes"
NUCLEI = "labels/nuclei"


def pyramid_spec(run: Run) -> PyramidSpec:
    """Describe the zarr of a run."""
    um_x, um_y = run.plan.um_per_px
    return PyramidSpec(
        name=run.slide.path.name,
        height=run.plan.grid.height,
        width=run.plan.grid.width,
        scale=PlaneScale(um_x, um_y, run.slide.mpp.x, run.slide.mpp.y),
        images=images_of(run.model.spec, probabilities=run.settings.probabilities),
        zarr_format=run.settings.zarr_format,
    )


def open_pyramid(run: Run, last: Strip | None) -> PyramidWriter:
    """Open the growing zarr of a run.

    Parameters
    ----------
    run
        The run.
    last
        The strip after which it resumes; None for a new run.
    """
    resume_at = None if last is None else last.notes["flushed"]
    return PyramidWriter(run.files.work.maps, pyramid_spec(run), resume_at=resume_at)


def images_of(spec: ModelSpec, *, probabilities: bool) -> tuple[ImageSpec, ...]:
    """Return the label planes, and the root image: the maps, or the class map once more."""
    labels: tuple[ImageSpec, ...] = (ImageSpec(CLASS_MAP, values=spec.classes),)
    channels = spec.classes
    if spec.architecture == "patho_sam":
        labels += (ImageSpec(NUCLEI, dtype="uint32"),)
        channels = NUCLEUS_CHANNELS
    if not probabilities:
        return *labels, ImageSpec(ROOT)
    return *labels, ImageSpec(ROOT, channels=channels, halving="mean")


def holds(run: Run, strip: Strip) -> bool:
    """Return whether the growing zarr still holds the chunks that it held at a strip."""
    flushed, digest = strip.notes["flushed"], strip.notes["stored"]
    return bool(stored_rows(run.files.work.maps, pyramid_spec(run), flushed).digest == digest)


def widened(rows: Unsigned, plan: RunPlan) -> Unsigned:
    """Return rows of the window as rows of the whole plane, 0 beside it."""
    grid = plan.grid
    if rows.shape[-1] == grid.width:
        return rows
    wide = np.zeros((*rows.shape[:-1], grid.width), rows.dtype)
    wide[..., grid.window.x : grid.window.x + grid.window.width] = rows
    return wide


def plane_to_slide(run: Run) -> PlaneToSlide:
    """Say where the window's pixels lie on the slide, as QuPath counts."""
    slide, plan = run.slide, run.plan
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


def count_labels(
    labels: NDArray[np.uint8], y: int, plan: RunPlan, n_labels: int
) -> NDArray[np.float64]:
    """Count the pixels of the labels 0..n; at the slide's edges, the parts that lie on it.

    Parameters
    ----------
    labels
        uint8 (rows, columns of the window).
    y
        First row on the plane.
    plan
        The run's plan.
    n_labels
        The largest label, n.

    Returns
    -------
    float64 (n + 1,)
    """
    grid, (share_x, share_y) = plan.grid, plan.shares_at_edge
    window = grid.window
    counts = _counted(labels, n_labels)
    ends_x = window.x + window.width == grid.width
    ends_y = y + len(labels) == grid.height
    if ends_x:
        counts -= (1 - share_x) * _counted(labels[:, -1:], n_labels)
    if ends_y:
        counts -= (1 - share_y) * _counted(labels[-1:], n_labels)
    if ends_x and ends_y:
        corner = _counted(labels[-1:, -1:], n_labels)
        counts += (1 - share_x) * (1 - share_y) * corner
    return counts


def _counted(labels: NDArray[np.uint8], n_labels: int) -> NDArray[np.float64]:
    # Several comparisons of bytes are ten times faster than one bincount.
    return np.array([np.count_nonzero(labels == one) for one in range(n_labels + 1)], np.float64)
