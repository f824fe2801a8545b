"""Masks that somebody drew: an image over the whole slide, or polygons."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from wsi_sampath.slides.regions.drawn import is_drawn, paint_tissue, read_tissue_areas
from wsi_sampath.slides.regions.drawn_place import outside_notes
from wsi_sampath.slides.regions.mask_image import read_tissue

BoolArray = npt.NDArray[np.bool_]


def load_mask(
    path: str | Path,
    *,
    slide_size: tuple[int, int],
    mask_size: tuple[int, int],
    bounds_offset: tuple[float, float] = (0.0, 0.0),
) -> BoolArray:
    """Read a mask that says what to analyse, as `read_mask` does, without its notes."""
    mask, _ = read_mask(
        path, slide_size=slide_size, mask_size=mask_size, bounds_offset=bounds_offset
    )
    return mask


def read_mask(
    path: str | Path,
    *,
    slide_size: tuple[int, int],
    mask_size: tuple[int, int],
    bounds_offset: tuple[float, float] = (0.0, 0.0),
) -> tuple[BoolArray, tuple[str, ...]]:
    """Read a mask that says what to analyse, and what the user should know about it.

    Parameters
    ----------
    path
        An image over the whole slide, of any size, read as `read_tissue` does; or GeoJSON
        (`.geojson`, `.json`, either with `.gz`, or a `.zip` of them) as QuPath writes it:
        annotated areas in level-0 pixels, less those of `Ignore*`.
    slide_size
        Width and height of level 0.
    mask_size
        Width and height of the mask to return.
    bounds_offset
        Added to GeoJSON coordinates: QuPath counts from the corner of the slide's bounds.

    Returns
    -------
    mask
        bool (height, width) of `mask_size`. A pixel of an image counts if any part of it is set,
        one of a polygon if its centre is inside.
    notes
        Sentences for the user about what is doubtful in the file, or was left out.

    Raises
    ------
    WsiError
        `bad-input` if the file cannot be read, holds no polygon, or has another shape than the
        slide.
    """
    path = Path(path)
    if not is_drawn(path):
        return read_tissue(path, slide_size=slide_size, mask_size=mask_size)
    areas, notes = read_tissue_areas(path)
    mask = paint_tissue(
        areas, slide_size=slide_size, mask_size=mask_size, bounds_offset=bounds_offset
    )
    return mask, (*notes, *outside_notes(areas, slide_size, bounds_offset))
