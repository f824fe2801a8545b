"""What a result says of one point of the slide."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import shapely

from wsi_sampath.outputs.result import Layer
from wsi_sampath.viewer.layer_tiles import LayerMaps
from wsi_sampath.viewer.level_places import level_places
from wsi_sampath.viewer.nucleus_rows import NucleusRows

_DECIMALS = 2
_SHARE_DECIMALS = 3


def place_at(maps: LayerMaps, nuclei: NucleusRows | None, x: float, y: float) -> dict[str, Any]:
    """Tell class, probabilities and nucleus of a point, from the finest level.

    Parameters
    ----------
    maps
        Of the result.
    nuclei
        Its table; None where it has none.
    x, y
        Level-0 pixels of the slide.

    Returns
    -------
    dict
        ``class`` (value, name, color), ``probabilities`` (by name, 0..1) and ``nucleus`` (its row,
        and ``outline``, the outer border of its largest piece in level-0 pixels); each None where
        there is none.

    Raises
    ------
    WsiError
        ``bad-input`` or ``unreadable`` where the result is damaged.
    """
    pixel = level_places(maps.result)[0].pixel_at(x, y)
    if pixel is None:
        return {"class": None, "probabilities": None, "nucleus": None}
    objects = None if nuclei is None else maps.of_kind("objects")
    shares = maps.of_kind("probabilities")
    value = _value(maps, maps.result.layers[0], pixel)
    return {
        "class": _class(maps, value),
        "probabilities": None if shares is None else _probabilities(maps, shares, pixel),
        "nucleus": (
            None
            if nuclei is None or objects is None
            else _nucleus(nuclei, _value(maps, objects, pixel))
        ),
    }


def _value(
    maps: LayerMaps, layer: Layer, pixel: tuple[int, int], channel: int | None = None
) -> int:
    return int(maps.read(layer, 0, (*pixel, 1, 1), channel)[0, 0])


def _class(maps: LayerMaps, value: int) -> dict[str, Any] | None:
    found = next((one for one in maps.result.classes if one.value == value), None)
    return None if found is None else asdict(found)


def _probabilities(
    maps: LayerMaps, layer: Layer, pixel: tuple[int, int]
) -> dict[str, float] | None:
    values = [_value(maps, layer, pixel, channel) for channel in range(len(layer.classes))]
    if not any(values):  # Nothing was analysed here.
        return None
    return {
        one.name: round(value / 255, _SHARE_DECIMALS)
        for one, value in zip(layer.classes, values, strict=True)
    }


def _nucleus(nuclei: NucleusRows, number: int) -> dict[str, Any] | None:
    rows = np.flatnonzero(nuclei.index.ids == number)
    if number == 0 or not len(rows):
        return None
    pieces = shapely.get_parts(nuclei.outlines(rows[:1]))
    largest = pieces[shapely.area(pieces).argmax()]
    points = nuclei.to_slide(shapely.get_coordinates(largest.exterior)[:-1])
    return {**nuclei.row(int(rows[0])), "outline": points.round(_DECIMALS).tolist()}
