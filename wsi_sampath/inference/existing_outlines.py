"""Outlines of nuclei that another program, or an earlier run, has found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray

from wsi_sampath.errors import WsiError
from wsi_sampath.outputs.qupath.geojson import PlaneToSlide
from wsi_sampath.slides.regions.geojson import read_drawn

Outlines = NDArray[np.object_]


def read_outlines(path: Path) -> Outlines:
    """Read outlines of nuclei.

    Parameters
    ----------
    path
        GeoJSON as QuPath writes it (detections, nuclei of cells, annotations), or GeoParquet; in
        level-0 pixels as QuPath counts them.

    Returns
    -------
    object (n,)
        Polygons and MultiPolygons, not empty.

    Raises
    ------
    WsiError
        ``bad-input`` if the file cannot be read or holds none.
    """
    if not path.is_file():
        raise _bad(path, "there is no such file")
    found = _from_parquet(path) if path.suffix == ".parquet" else _from_geojson(path)
    is_area = np.isin(shapely.get_type_id(found), [3, 6]) & ~shapely.is_empty(found)
    if not is_area.any():
        raise _bad(path, "it holds no polygon")
    polygons: Outlines = found[is_area]
    return polygons


def to_plane(outlines: Outlines, transform: PlaneToSlide) -> Outlines:
    """Return outlines in pixels of the plane that `transform` takes to the slide."""
    scale = np.array([transform.scale_x, transform.scale_y])
    offset = np.array([transform.offset_x, transform.offset_y])
    moved: Outlines = shapely.transform(outlines, lambda places: (places - offset) / scale)
    return moved


def _from_geojson(path: Path) -> Outlines:
    areas = [one.area for one in read_drawn(path).objects if one.area is not None]
    return np.array(areas, object).reshape(-1)


def _from_parquet(path: Path) -> Outlines:
    import pyarrow
    from pyarrow import parquet

    try:
        column = parquet.read_table(path, columns=["geometry"])["geometry"]
        outlines: Outlines = shapely.from_wkb(np.array(column.to_pylist(), object))
    except (OSError, KeyError, TypeError, pyarrow.ArrowException, shapely.GEOSException) as error:
        why = f"it is not GeoParquet with a geometry column in WKB ({error})"
        raise _bad(path, why) from None
    if not np.isfinite(shapely.bounds(outlines)).all():
        raise _bad(path, "it holds empty or infinite outlines")
    return outlines


def _bad(path: Path, why: str) -> WsiError:
    return WsiError("bad-input", f"cannot use these nuclei: {why}", subject=str(path))
