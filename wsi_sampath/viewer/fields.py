"""Areas and counts of a visible field."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_sampath.viewer.layer_tiles import Box, LayerMaps
from wsi_sampath.viewer.level_places import LevelPlace, level_places, slide_size
from wsi_sampath.viewer.nucleus_rows import NucleusRows

MOST_PX = 1 << 20
"""Most pixels of a map that one field is counted from; a coarser level is taken instead."""
Floats = NDArray[np.float64]
Field = tuple[float, float, float, float]


def field_table(maps: LayerMaps, nuclei: NucleusRows | None, field: Field) -> dict[str, Any]:
    """Tell areas and counts of the part of a slide that a field covers.

    Parameters
    ----------
    maps
        Of the result.
    nuclei
        Its table; None where it has none.
    field
        x, y, width and height in level-0 pixels; what lies beyond the slide counts nothing.

    Returns
    -------
    dict
        ``analysed_mm2`` (None where the result does not tell: nuclei without maps); ``classes``
        (name, color, ``area_mm2``, ``percent`` of what was analysed, ``count`` of nuclei whose
        centre lies in the field, or None without a table); ``nuclei`` and ``per_mm2``;
        ``approximate``, where areas are those of a coarser level.

    Raises
    ------
    WsiError
        ``bad-input`` where the map is damaged.
    """
    result = maps.result
    inside = _on_slide(field, slide_size(result))
    level, box, weights = _level_for(level_places(result), inside)
    areas, analysed = _areas(maps, level, box, weights)
    counts = None if nuclei is None else _counts(nuclei, inside, len(result.classes))
    total = None if counts is None else sum(counts)
    return {
        "analysed_mm2": analysed,
        "classes": [
            {
                "name": one.name,
                "color": one.color,
                "area_mm2": areas[one.value - 1],
                "percent": None
                if analysed is None
                else _ratio(100 * areas[one.value - 1], analysed),
                "count": None if counts is None else counts[one.value - 1],
            }
            for one in result.classes
        ],
        "nuclei": total,
        "per_mm2": None if total is None else _ratio(total, analysed),
        "approximate": level > 0,
    }


def _on_slide(field: Field, size: tuple[float, float]) -> Field:
    x, y, width, height = field
    left, top = min(max(x, 0.0), size[0]), min(max(y, 0.0), size[1])
    right, bottom = min(max(x + width, left), size[0]), min(max(y + height, top), size[1])
    return left, top, right - left, bottom - top


def _level_for(places: tuple[LevelPlace, ...], field: Field) -> tuple[int, Box, Floats]:
    """Return the finest level of few enough pixels, the box there, and how much of each counts."""
    for level, at in enumerate(places):
        x, across = _covered(field[0], field[2], at.origin[0], at.scale[0], at.width)
        y, down = _covered(field[1], field[3], at.origin[1], at.scale[1], at.height)
        if len(across) * len(down) <= MOST_PX or level == len(places) - 1:
            break
    return level, (x, y, len(across), len(down)), np.outer(down, across)


def _covered(
    start: float, length: float, origin: float, scale: float, size: int
) -> tuple[int, Floats]:
    """Return the first pixel that a side of a field touches, and the share of each in it."""
    low = np.clip((start - origin) / scale, 0, size)
    high = np.clip((start + length - origin) / scale, low, size)
    first, last = int(low), int(np.ceil(high))
    pixels = np.arange(first, last)
    return first, np.minimum(pixels + 1, high) - np.maximum(pixels, low)


def _areas(
    maps: LayerMaps, level: int, box: Box, weights: Floats
) -> tuple[list[float], float | None]:
    """Return the area of each class, and that of what was analysed, in mm2."""
    result, at = maps.result, maps.result.levels[level]
    n_classes = len(result.classes)
    if not weights.size:
        return [0.0] * n_classes, 0.0
    labels = maps.read(result.layers[0], level, box)
    pixels = np.bincount(labels.ravel(), weights.ravel(), minlength=n_classes + 1)[1:]
    mm2 = at.um_x * at.um_y / 1e6
    areas: list[float] = (pixels * mm2).tolist()
    if "nuclei" not in result.attributes:
        return areas, sum(areas)
    analysed = _is_analysed(maps, level, box)
    return areas, None if analysed is None else float(weights[analysed].sum() * mm2)


def _is_analysed(maps: LayerMaps, level: int, box: Box) -> NDArray[np.bool_] | None:
    """Return where maps of nuclei were made: beside nuclei they are 255, and elsewhere 0."""
    layer = maps.of_kind("probabilities")
    if layer is None:
        return None
    channels = range(len(layer.classes))
    found: NDArray[np.bool_] = np.logical_or.reduce(
        [maps.read(layer, level, box, channel) > 0 for channel in channels]
    )
    return found


def _counts(nuclei: NucleusRows, field: Field, n_classes: int) -> list[int]:
    labels = nuclei.index.labels[nuclei.index.within(field)]
    counts: list[int] = np.bincount(labels, minlength=n_classes + 1)[1:].tolist()
    return counts


def _ratio(part: float, whole: float | None) -> float | None:
    if whole is None:
        return None
    return part / whole if whole else 0.0
