"""The files beside a zarr: its polygons and its table of nuclei, found and read back."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import shapely

from wsi_sampath.errors import WsiError
from wsi_sampath.outputs.belonging import nuclei_state, polygons_state
from wsi_sampath.outputs.qupath.packing import SUFFIXES, read_members


@dataclass(frozen=True)
class SlidePolygon:
    """One region.

    Attributes
    ----------
    class_name
        Its class.
    polygon
        In level-0 pixels as QuPath shows the slide: pixel corners are integers, y down. Where a
        slide has bounds (MIRAX), ``attributes["bounds_offset"]`` is to be added for OpenSlide's.
    measurements
        Area in um^2, mean probability.
    """

    class_name: str
    polygon: shapely.Polygon | shapely.MultiPolygon
    measurements: dict[str, float]


def find_geojson(path: Path, attributes: dict[str, Any]) -> Path | None:
    """Find the polygons where the run put them, or under the zarr's name; only the run's own."""
    recorded: str | None = attributes.get("geojson")
    place = path.parent / recorded if recorded else None
    if place is not None and os.path.lexists(place):
        _check_polygons(place, attributes)
        return place
    beside = (path.with_suffix(suffix) for suffix in SUFFIXES)
    return next((one for one in beside if one.is_file() and _fits(one, attributes)), None)


def find_nuclei(path: Path, attributes: dict[str, Any]) -> Path | None:
    """Find the table of nuclei beside a zarr; None where the run wrote none, or it is gone.

    Raises
    ------
    WsiError
        ``bad-input`` where another table lies in its place.
    """
    if attributes.get("nuclei_table") is None:
        return None
    table = path.with_suffix(".nuclei.parquet")
    match nuclei_state(table, attributes):
        case "same":
            return table
        case "absent":
            return None
        case _:
            message = "is not the table that the run wrote; run wsi-segment again, or move it away"
            raise WsiError("bad-input", f"{message} to use the maps alone", subject=str(table))


def _fits(geojson: Path, attributes: dict[str, Any]) -> bool:
    if "geojson_content" not in attributes:  # Of a version that did not record it.
        return True
    return polygons_state(geojson, attributes) == "same"


def _check_polygons(geojson: Path, attributes: dict[str, Any]) -> None:
    if _fits(geojson, attributes):
        return
    said = {
        "torn": "was cut off since the run wrote it",
        "edited": "was changed since the run wrote it",
        "other": "is of another run than the zarr",
    }.get(polygons_state(geojson, attributes), "is not the file that the run wrote")
    message = f"{said}; run wsi-segment again, or move it away to use the maps alone"
    raise WsiError("bad-input", message, subject=str(geojson))


def read_polygons(path: Path) -> Iterator[SlidePolygon]:
    """Read the polygons of a GeoJSON that a run wrote.

    Raises
    ------
    WsiError
        ``bad-input`` where it can't be read.
    """
    try:
        for _, text in read_members(path):
            features = json.loads(text)["features"]
            shapes = shapely.get_geometry(shapely.from_geojson(text), range(len(features)))
            for feature, shape in zip(features, shapes, strict=True):
                properties = feature["properties"]
                name = properties["classification"]["name"]
                yield SlidePolygon(name, shape, properties["measurements"])
    except (OSError, EOFError, zlib.error, BadZipFile) as error:
        raise WsiError("bad-input", f"can't be read: {error}", subject=str(path)) from error
    except (LookupError, TypeError, ValueError, RecursionError, shapely.GEOSException) as error:
        message = f"is not as wsi-segment wrote it ({type(error).__name__}: {error})"
        raise WsiError("bad-input", message, subject=str(path)) from error
