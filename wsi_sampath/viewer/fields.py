"""Areas and counts of a visible field."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
        (name, color, ``area_mm2``, ``percent`` of what was analysed, ``count``); ``nuclei`` and
        ``per_mm2``; ``approximate``, where areas are counted on a coarser level. With a table,
        areas and counts are those of the nuclei whose centre lies in the field. Without one counts
        are None, and so are areas of nuclei on a coarser level, where small things vanish.

    Raises
    ------
    WsiError
        ``bad-input`` where the map is damaged.
    """
    result = maps.result
    inside = _on_slide(field, slide_size(result))
    part = _part_of(level_places(result), inside)
    areas, analysed = _mapped(maps, part)
    counts: Sequence[int | None] = [None] * len(areas)
    if nuclei is not None:
        areas, counts = _listed(nuclei, inside, len(areas))
    total = None if nuclei is None else sum(one or 0 for one in counts)
    return {
        "analysed_mm2": analysed,
        "classes": [
            {
                "name": one.name,
                "color": one.color,
                "area_mm2": area,
                "percent": _ratio(area, analysed, 100),
                "count": count,
            }
            for one, area, count in zip(result.classes, areas, counts, strict=True)
        ],
        "nuclei": total,
        "per_mm2": _ratio(total, analysed),
        "approximate": part.level > 0,
    }


@dataclass(frozen=True)
class _Part:
    """A box of one level, and how much of each of its pixels lies in the field."""

    level: int
    box: Box
    weights: Floats


def _on_slide(field: Field, size: tuple[float, float]) -> Field:
    x, y, width, height = field
    left, top = min(max(x, 0.0), size[0]), min(max(y, 0.0), size[1])
    right, bottom = min(max(x + width, left), size[0]), min(max(y + height, top), size[1])
    return left, top, right - left, bottom - top


def _part_of(places: tuple[LevelPlace, ...], field: Field) -> _Part:
    """Return what a field is on the finest level of which it has few enough pixels."""
    for level, at in enumerate(places):
        x, across = _covered(field[0], field[2], at.origin[0], at.scale[0], at.width)
        y, down = _covered(field[1], field[3], at.origin[1], at.scale[1], at.height)
        if len(across) * len(down) <= MOST_PX or level == len(places) - 1:
            break
    return _Part(level, (x, y, len(across), len(down)), np.outer(down, across))


def _covered(
    start: float, length: float, origin: float, scale: float, size: int
) -> tuple[int, Floats]:
    """Return the first pixel that a side of a field touches, and the share of each in it."""
    low = np.clip((start - origin) / scale, 0, size)
    high = np.clip((start + length - origin) / scale, low, size)
    first, last = int(low), int(np.ceil(high))
    pixels = np.arange(first, last)
    return first, np.minimum(pixels + 1, high) - np.maximum(pixels, low)


def _mapped(maps: LayerMaps, part: _Part) -> tuple[Sequence[float | None], float | None]:
    """Return the area of each class, and that of what was analysed, in mm2, by the maps."""
    result, at = maps.result, maps.result.levels[part.level]
    n_classes = len(result.classes)
    if not part.weights.size:
        return [0.0] * n_classes, 0.0
    mm2 = at.um_x * at.um_y / 1e6
    if "nuclei" in result.attributes and part.level > 0:
        return [None] * n_classes, _analysed(maps, part, mm2)
    labels = maps.read(result.layers[0], part.level, part.box)
    pixels = np.bincount(labels.ravel(), part.weights.ravel(), minlength=n_classes + 1)[1:]
    areas: list[float] = (pixels * mm2).tolist()
    if "nuclei" in result.attributes:
        return areas, _analysed(maps, part, mm2)
    return areas, sum(areas)


def _analysed(maps: LayerMaps, part: _Part, mm2: float) -> float | None:
    """Return where maps of nuclei were made: beside nuclei they are 255, and elsewhere 0."""
    layer = maps.of_kind("probabilities")
    if layer is None:
        return None
    channels = range(len(layer.classes))
    found = np.logical_or.reduce(
        [maps.read(layer, part.level, part.box, channel) > 0 for channel in channels]
    )
    return float(part.weights[found].sum() * mm2)


def _listed(nuclei: NucleusRows, field: Field, n_classes: int) -> tuple[list[float], list[int]]:
    """Return area in mm2 and number of the nuclei of each class whose centre lies in a field."""
    rows = nuclei.index.within(field)
    labels = nuclei.index.labels[rows]
    areas = np.bincount(labels, nuclei.index.areas[rows], minlength=n_classes + 1)[1:] / 1e6
    counts = np.bincount(labels, minlength=n_classes + 1)[1:]
    return areas.tolist(), counts.tolist()


def _ratio(part: float | None, whole: float | None, times: int = 1) -> float | None:
    if part is None or whole is None:
        return None
    return times * part / whole if whole else 0.0
