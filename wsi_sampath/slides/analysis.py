"""Where to look on a slide: the tissue mask, found or given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsi_sampath.errors import WsiError
from wsi_sampath.slides.overview import Overview
from wsi_sampath.slides.sampling import Sampling
from wsi_sampath.slides.slide import Slide

MASK_MPP = 8.0
_LISTED_BOXES = 5


@dataclass(frozen=True)
class Tissue:
    """Where a slide is to be analysed.

    Attributes
    ----------
    mask
        bool (h, w) over the whole slide: the tissue.
    unknown
        bool (h, w): what no level of the slide shows. It is not tissue, but is tried, and then
        reported, at full resolution.
    warnings
        Sentences for the user: what could not be decoded.
    """

    mask: NDArray[np.bool_]
    unknown: NDArray[np.bool_]
    warnings: tuple[str, ...] = ()

    @property
    def to_try(self) -> NDArray[np.bool_]:
        """Everything that a tile is to be read for."""
        return self.mask | self.unknown


def find_tissue(slide: Slide, method: str = "otsu") -> Tissue:
    """Find what is to be analysed.

    Parameters
    ----------
    slide
        An open slide.
    method
        ``"otsu"`` finds tissue on a low-resolution image (about 8 um per pixel), ``"none"`` takes
        everything, anything else is the path of a mask image or of a GeoJSON.

    Raises
    ------
    WsiError
        ``no-tissue`` for an empty mask, ``bad-input`` for an unusable mask file, ``unreadable``
        where nothing of the slide can be decoded.
    """
    if method == "none":
        return _given(np.ones((1, 1), bool))
    if method == "otsu":
        tissue = _found(slide)
        hint = "no tissue was found; look at the slide, or give --tissue none or a mask"
    else:
        tissue = _given(_drawn(slide, Path(method)))
        hint = f"the mask {method} is empty over this slide"
    if not tissue.to_try.any():
        raise WsiError("no-tissue", hint, subject=str(slide.path))
    return tissue


def _given(mask: NDArray[np.bool_]) -> Tissue:
    return Tissue(mask, np.zeros_like(mask))


def _found(slide: Slide) -> Tissue:
    # scikit-image takes half a second to import: only those wait who need it.
    from wsi_sampath.slides.tissue import tissue_mask

    overview, plan = slide.overview(MASK_MPP)
    if overview.failed.all():
        raise WsiError(
            "unreadable",
            "nothing of it can be decoded; is it fully copied?",
            subject=str(slide.path),
        )
    mask = tissue_mask(overview.image, mpp_x=plan.mpp_x, mpp_y=plan.mpp_y)
    return Tissue(mask, overview.failed, _damage(overview, plan))


def _drawn(slide: Slide, path: Path) -> NDArray[np.bool_]:
    from wsi_sampath.slides.tissue import load_mask

    plan = slide.sampling(MASK_MPP)
    return load_mask(
        path,
        slide_size=slide.size,
        mask_size=(plan.width, plan.height),
        bounds_offset=slide.bounds_offset,
    )


def _damage(overview: Overview, plan: Sampling) -> tuple[str, ...]:
    """Say what could not be decoded, and what came of it."""
    said = []
    if overview.mended:
        names = ", ".join(map(str, overview.mended))
        said.append(
            f"parts of level {names} cannot be decoded; tissue was found there on a finer level. "
            "Is the file fully copied?"
        )
    if overview.failed.any():
        share = 100 * float(overview.failed.mean())
        boxes = _boxes(overview.failed, plan)
        more = f" and {len(boxes) - _LISTED_BOXES} more" if len(boxes) > _LISTED_BOXES else ""
        said.append(
            f"{max(share, 0.01):.2g} % of the slide cannot be decoded on any level: not analysed "
            f"there (level-0 boxes x, y, width, height: {'; '.join(boxes[:_LISTED_BOXES])}{more})"
        )
    return tuple(said)


def _boxes(failed: NDArray[np.bool_], plan: Sampling) -> list[str]:
    # It takes a while to import, and hardly any slide is damaged.
    from scipy import ndimage

    labels, _ = ndimage.label(failed)
    boxes = []
    for rows, columns in ndimage.find_objects(labels):
        edges = (
            columns.start * plan.zoom_x,
            rows.start * plan.zoom_y,
            (columns.stop - columns.start) * plan.zoom_x,
            (rows.stop - rows.start) * plan.zoom_y,
        )
        boxes.append(", ".join(str(round(edge)) for edge in edges))
    return boxes
