"""Outlines of nuclei that another program, or an earlier run, has found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray

from wsi_sampath.errors import WsiError
from wsi_sampath.outputs.qupath.geojson import PlaneToSlide
from wsi_sampath.shown import plural
from wsi_sampath.slides.regions.geojson import left_out_of, left_out_phrases, read_drawn

Outlines = NDArray[np.object_]
_NUCLEI = ("detection", "cell", "annotation")


def read_outlines(path: Path, slide: str) -> tuple[Outlines, tuple[str, ...]]:
    """Read outlines of nuclei.

    Parameters
    ----------
    path
        GeoJSON as QuPath writes it, or GeoParquet; in level-0 pixels as QuPath counts them. Of a
        GeoJSON, detections and the nuclei of cells count; annotations only where it has neither.
    slide
        Name of the slide that they should be of.

    Returns
    -------
    object (n,)
        Polygons and MultiPolygons, not empty.
    tuple of str
        Sentences for the user: what was left out, and doubts.

    Raises
    ------
    WsiError
        ``bad-input`` if the file cannot be read or holds none.
    """
    if not path.is_file():
        raise _bad(path, "there is no such file")
    read = _from_parquet if path.suffix == ".parquet" else _from_geojson
    found, notes = read(path, slide)
    is_area = np.isin(shapely.get_type_id(found), [3, 6]) & ~shapely.is_empty(found)
    if not is_area.any():
        raise _bad(path, "it holds no polygon")
    return found[is_area], notes


def to_plane(outlines: Outlines, transform: PlaneToSlide) -> Outlines:
    """Return outlines in pixels of the plane that `transform` takes to the slide."""
    scale = np.array([transform.scale_x, transform.scale_y])
    offset = np.array([transform.offset_x, transform.offset_y])
    moved: Outlines = shapely.transform(outlines, lambda places: (places - offset) / scale)
    return moved


def _from_geojson(path: Path, _: str) -> tuple[Outlines, tuple[str, ...]]:
    drawn = read_drawn(path)
    lacks = left_out_of(drawn.objects)
    shaped = [one for one in drawn.objects if one.area is not None and one.kind in _NUCLEI]
    nuclei = [one for one in shaped if one.kind != "annotation"] or shaped
    phrases = left_out_phrases(lacks)
    if len(nuclei) < len(shaped):
        phrases.append(plural(len(shaped) - len(nuclei), "annotation"))
    notes = (f"{path.name}: {', '.join(phrases)} left out of the nuclei",) if phrases else ()
    areas = np.array([one.area for one in nuclei], object).reshape(-1)
    return areas, notes + drawn.warnings


def _from_parquet(path: Path, slide: str) -> tuple[Outlines, tuple[str, ...]]:
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.read_table(path, columns=["geometry"])
        outlines: Outlines = shapely.from_wkb(np.array(table["geometry"].to_pylist(), object))
    except (OSError, KeyError, TypeError, pyarrow.ArrowException, shapely.GEOSException) as error:
        why = f"it is not GeoParquet with a geometry column in WKB ({error})"
        raise _bad(path, why) from None
    if not np.isfinite(shapely.bounds(outlines)).all():
        raise _bad(path, "it holds empty or infinite outlines")
    return outlines, _doubts(path, slide)


def _doubts(path: Path, slide: str) -> tuple[str, ...]:
    """Return a warning where a table of ours is of another slide."""
    from wsi_sampath.outputs.nuclei.reading import open_nuclei

    try:
        of = open_nuclei(path).info.slide
    except WsiError:
        return ()
    return () if of == slide else (f"{path.name} holds the nuclei of {of}, not of {slide}",)


def _bad(path: Path, why: str) -> WsiError:
    return WsiError("bad-input", f"cannot use these nuclei: {why}", subject=str(path))
