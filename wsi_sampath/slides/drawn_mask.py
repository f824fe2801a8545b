"""Masks that somebody drew: an image over the whole slide, or polygons."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from shapely.errors import ShapelyError
from shapely.geometry import Polygon, shape

from wsi_sampath.errors import WsiError
from wsi_sampath.slides.grid import Box
from wsi_sampath.slides.mask_image import read_tissue
from wsi_sampath.slides.rasterise import Placement, edges, fill

BoolArray = npt.NDArray[np.bool_]


def load_mask(
    path: str | Path,
    *,
    slide_size: tuple[int, int],
    mask_size: tuple[int, int],
    bounds_offset: tuple[float, float] = (0.0, 0.0),
) -> BoolArray:
    """Read a mask that says what to analyse, as `read_drawn` does, without its notes."""
    mask, _ = read_drawn(
        path, slide_size=slide_size, mask_size=mask_size, bounds_offset=bounds_offset
    )
    return mask


def read_drawn(
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
        (`.geojson`, `.json`, either with `.gz`) with polygons in level-0 pixels as QuPath writes
        it.
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
        Sentences for the user about what is doubtful in the file.

    Raises
    ------
    WsiError
        `bad-input` if the file cannot be read, holds no polygon, or has another shape than the
        slide.
    """
    path = Path(path)
    suffixes = "".join(path.suffixes[-2:]).lower()
    if any(suffix in suffixes for suffix in (".geojson", ".json")):
        return _rasterise(_read_polygons(path), slide_size, mask_size, bounds_offset), ()
    return read_tissue(path, slide_size=slide_size, mask_size=mask_size)


def _bad_mask(path: Path, why: str) -> WsiError:
    return WsiError("bad-input", f"cannot use this tissue mask: {why}", subject=str(path))


def _read_polygons(path: Path) -> list[Polygon]:
    try:
        raw = path.read_bytes()
        text = gzip.decompress(raw) if path.suffix.lower() == ".gz" else raw
        polygons = [part for geometry in _geometries(json.loads(text)) for part in _flat(geometry)]
    except (OSError, EOFError, ValueError) as error:
        raise _bad_mask(path, f"not readable as GeoJSON ({error})") from error
    except (ShapelyError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise _bad_mask(path, f"not valid GeoJSON ({error!r})") from error
    if not polygons:
        raise _bad_mask(path, "it holds no polygon")
    if not np.isfinite([one.bounds for one in polygons]).all():
        raise _bad_mask(path, "it holds a polygon without an end")
    return polygons


def _geometries(node: Any) -> Iterator[Any]:  # noqa: ANN401 - parsed JSON
    """Walk collections, features and bare lists of features down to geometries."""
    if isinstance(node, list):
        for item in node:
            yield from _geometries(item)
    elif node["type"] == "FeatureCollection":
        yield from _geometries(node["features"])
    elif node["type"] == "Feature":
        yield from _geometries(node["geometry"])
    else:
        yield shape(node)


def _flat(geometry: Any) -> list[Polygon]:  # noqa: ANN401 - any shapely geometry
    if isinstance(geometry, Polygon):
        return [] if geometry.is_empty else [geometry]
    return [part for child in getattr(geometry, "geoms", ()) for part in _flat(child)]


def _rasterise(
    polygons: list[Polygon],
    slide_size: tuple[int, int],
    mask_size: tuple[int, int],
    offset: tuple[float, float],
) -> BoolArray:
    width, height = mask_size
    placement = Placement(slide_size[0] / width, slide_size[1] / height, *offset)
    mask = np.zeros((height, width), np.bool_)
    for polygon in polygons:
        place, inside = fill(placement.to_pixels(edges(polygon)), Box(0, 0, width, height))
        mask[place] |= inside
    return mask
