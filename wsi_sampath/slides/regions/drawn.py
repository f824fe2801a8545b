"""Tissue that somebody drew: the areas of a GeoJSON to a mask over the whole slide."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsi_sampath.errors import WsiError
from wsi_sampath.slides.grid import Box
from wsi_sampath.slides.regions.annotations import Annotation, LabelPainter, drawn_area
from wsi_sampath.slides.regions.geojson import Lack, read_drawn, told
from wsi_sampath.slides.regions.rasterise import Placement

SUFFIXES = (".geojson", ".json", ".geojson.gz", ".json.gz", ".geojson.zip", ".json.zip", ".zip")


def is_drawn(path: Path) -> bool:
    """Tell whether a mask is given as drawn areas, by its name."""
    return path.name.lower().endswith(SUFFIXES)


def read_tissue_areas(path: str | Path) -> tuple[tuple[Annotation, ...], tuple[str, ...]]:
    """Read the areas that say what to analyse, and those of ``Ignore*`` within them.

    Parameters
    ----------
    path
        GeoJSON as QuPath writes it. Annotations count, whatever their class and without any;
        detections, cells and tiles do not.

    Returns
    -------
    areas, warnings
        Some of which are to be cut out; sentences that say what was left out, and why.

    Raises
    ------
    WsiError
        ``bad-input`` if the file cannot be read or holds no such area.
    """
    path = Path(path)
    left_out: Counter[Lack] = Counter()
    drawn = read_drawn(path)
    found = [(thing, drawn_area(thing, left_out)) for thing in drawn.objects]
    areas = tuple(
        Annotation(thing.class_name.strip(), thing.color, area)
        for thing, area in found
        if area is not None
    )
    if all(area.is_cut_out for area in areas):
        only = [f"{len(areas):,} of Ignore*"] if areas else []
        what = "".join(f", {part}" for part in [*only, *told(left_out)]).replace(",", ", but", 1)
        hint = "draw areas in QuPath and export them as GeoJSON"
        raise _bad(path, f"it holds no polygon to analyse{what}; {hint}")
    what = ", ".join(told(left_out))
    notes = (f"{path.name}: {what} left out of the tissue",) if what else ()
    return areas, notes + drawn.warnings


def paint_tissue(
    areas: tuple[Annotation, ...],
    *,
    slide_size: tuple[int, int],
    mask_size: tuple[int, int],
    bounds_offset: tuple[float, float] = (0.0, 0.0),
) -> NDArray[np.bool_]:
    """Paint areas over the whole slide, as `LabelPainter` paints classes.

    Parameters
    ----------
    areas
        As `read_tissue_areas` returns them.
    slide_size, mask_size
        Width and height of level 0 and of the mask.
    bounds_offset
        Added to coordinates: QuPath counts from the corner of the slide's bounds.

    Returns
    -------
    bool (height, width) of `mask_size`
        Set where the centre of a pixel is in an area that is not to be cut out.
    """
    width, height = mask_size
    placement = Placement(slide_size[0] / width, slide_size[1] / height, *bounds_offset)
    labels = {area.name: 1 for area in areas if not area.is_cut_out}
    return LabelPainter(areas, labels, placement).paint(Box(0, 0, width, height)) > 0


def _bad(path: Path, why: str) -> WsiError:
    return WsiError("bad-input", f"cannot use this tissue mask: {why}", subject=str(path))
