"""Where to look on a slide: the tissue mask, found or given, and what is doubtful about it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsi_sampath.errors import WsiError
from wsi_sampath.slides.slide import Slide

MASK_MPP = 8.0


@dataclass(frozen=True)
class Tissue:
    """What is to be analysed.

    Attributes
    ----------
    mask
        bool (h, w) over the whole slide.
    warnings
        Sentences for the user.
    """

    mask: NDArray[np.bool_]
    warnings: tuple[str, ...] = ()


def find_tissue(slide: Slide, method: str = "otsu") -> Tissue:
    """Find what is to be analysed.

    Parameters
    ----------
    slide
        An open slide.
    method
        ``"otsu"`` finds tissue on a low-resolution image (about 8 um per pixel), ``"none"`` takes
        everything, anything else is the path of a mask image or of a GeoJSON.

    Returns
    -------
    Tissue
        What could not be decoded at low resolution counts as tissue, so that
        it is tried, and reported, at full resolution.

    Raises
    ------
    WsiError
        ``no-tissue`` for an empty mask, ``bad-input`` for an unusable mask file.
    """
    if method == "none":
        return Tissue(np.ones((1, 1), bool))
    # scikit-image and scipy take half a second to import: only those wait who need them.
    from wsi_sampath.slides.tissue import read_drawn, tissue_mask

    notes: tuple[str, ...] = ()
    if method == "otsu":
        image, failed, plan = slide.thumbnail(MASK_MPP)
        mask = tissue_mask(image, mpp_x=plan.mpp_x, mpp_y=plan.mpp_y) | failed
        hint = "no tissue was found; look at the slide, or give --tissue none or a mask"
    else:
        plan = slide.sampling(MASK_MPP)
        mask, notes = read_drawn(
            Path(method),
            slide_size=slide.size,
            mask_size=(plan.width, plan.height),
            bounds_offset=slide.bounds_offset,
        )
        hint = f"the mask {method} is empty over this slide"
    if not mask.any():
        raise WsiError("no-tissue", hint, subject=str(slide.path))
    return Tissue(mask, notes)
