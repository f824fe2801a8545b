"""A tissue mask that the user gives: an image of the whole slide, or areas drawn in QuPath."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray

from wsi_sampath.errors import WsiError
from wsi_sampath.slides.grid import Box
from wsi_sampath.slides.regions.annotations import Annotation, LabelPainter, drawn_area
from wsi_sampath.slides.regions.geojson import Lack, left_out_phrases, read_drawn
from wsi_sampath.slides.regions.mask_image import read_tissue
from wsi_sampath.slides.regions.rasterise import Placement

SUFFIXES = (".geojson", ".json", ".geojson.gz", ".json.gz", ".geojson.zip", ".json.zip", ".zip")
_SLACK = 0.02
"""Share of the slide's longer side by which a drawing may cross the edge."""
_ON_TISSUE, _COVERED = 0.2, 0.5
"""Drawings by hand include less glass than this, or miss less tissue."""
_ASK = "are they of this slide, in pixels of level 0 with y counted downwards?"
_ASK_OF_ANY = "is it of this slide, the same way up, and (GeoJSON) in pixels of level 0?"


def is_drawn(path: Path) -> bool:
    """Return whether a mask is a file of drawn areas, by its name."""
    return path.name.lower().endswith(SUFFIXES)


def read_tissue_areas(path: str | Path) -> tuple[tuple[Annotation, ...], tuple[str, ...]]:
    """Read the areas to analyse, and those of ``Ignore*`` within them.

    Parameters
    ----------
    path
        GeoJSON as QuPath writes it. Annotations count with any class or none; detections, cells
        and tiles do not.

    Returns
    -------
    areas, warnings
        The areas, some of them to be cut out; sentences on what was left out, and why.

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
        what = "".join(f", {part}" for part in [*only, *left_out_phrases(left_out)]).replace(
            ",", ", but", 1
        )
        hint = "draw areas in QuPath and export them as GeoJSON"
        raise _bad(path, f"it holds no polygon to analyse{what}; {hint}")
    what = ", ".join(left_out_phrases(left_out))
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


def outside_notes(
    areas: Sequence[Annotation], slide_size: tuple[int, int], bounds_offset: tuple[float, float]
) -> tuple[str, ...]:
    """Return warnings about areas outside the slide, or far beyond its edge.

    Parameters
    ----------
    areas
        The drawn areas.
    slide_size
        Width and height of level 0.
    bounds_offset
        Added to coordinates: QuPath counts from the corner of the slide's bounds.
    """
    if not areas:
        return ()
    corners = shapely.bounds([area.area for area in areas]) + np.array([*bounds_offset] * 2)
    size = np.array(slide_size)
    slack = _SLACK * size.max()
    outside = (corners[:, 2:] <= 0).any(axis=1) | (corners[:, :2] >= size).any(axis=1)
    beyond = (corners[:, :2] < -slack).any(axis=1) | (corners[:, 2:] > size + slack).any(axis=1)
    counts = {
        "outside": int(outside.sum()),
        "partly outside": int((beyond & ~outside).sum()),
    }
    slide = f"the slide ({slide_size[0]} x {slide_size[1]} px)"
    return tuple(
        f"{count:,} of {len(areas):,} {_areas(len(areas))} {_lie(count)} {where} {slide}; {_ASK}"
        for where, count in counts.items()
        if count
    )


def _areas(count: int) -> str:
    return "area" if count == 1 else "areas"


def _lie(count: int) -> str:
    return "lies" if count == 1 else "lie"


def glass_notes(drawn: NDArray[np.bool_], tissue: NDArray[np.bool_]) -> tuple[str, ...]:
    """Return a warning where most of the drawing is glass, and most of the tissue lies elsewhere.

    Parameters
    ----------
    drawn, tissue
        bool (height, width) over the whole slide: the drawing, and the tissue that was found.
    """
    both = int((drawn & tissue).sum())
    share = both / max(1, int(drawn.sum()))
    if not drawn.any() or share >= _ON_TISSUE or both >= _COVERED * int(tissue.sum()):
        return ()
    return (f"only {100 * share:.0f} % of what was drawn looks like tissue; {_ASK_OF_ANY}",)


def load_mask(
    path: str | Path,
    *,
    slide_size: tuple[int, int],
    mask_size: tuple[int, int],
    bounds_offset: tuple[float, float] = (0.0, 0.0),
) -> NDArray[np.bool_]:
    """Read a mask of what to analyse, as `read_mask` does, without its notes."""
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
) -> tuple[NDArray[np.bool_], tuple[str, ...]]:
    """Read a mask of what to analyse, and what the user should know about it.

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
        ``bad-input`` if the file cannot be read, holds no polygon, or its shape differs from the
        slide's.
    """
    path = Path(path)
    if not is_drawn(path):
        return read_tissue(path, slide_size=slide_size, mask_size=mask_size)
    areas, notes = read_tissue_areas(path)
    mask = paint_tissue(
        areas, slide_size=slide_size, mask_size=mask_size, bounds_offset=bounds_offset
    )
    return mask, (*notes, *outside_notes(areas, slide_size, bounds_offset))
