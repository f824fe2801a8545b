"""What a report shows of nuclei: counts by class, their sizes, and a few fields of the slide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor

from wsi_sampath.outputs.result import Result

FIELD_UM = 100.0
_FIELDS = 3
_SHOWN_PX = 480
_COARSE_UM = 4.0


@dataclass(frozen=True)
class Field:
    """A small part of the slide at the resolution of the maps.

    Attributes
    ----------
    box
        x, y, width and height in px of the maps' level 0.
    rgb
        uint8 (height, width, 3).
    """

    box: tuple[int, int, int, int]
    rgb: NDArray[np.uint8]


def fields_to_show(result: Result) -> list[tuple[int, int, int, int]]:
    """Choose fields by how much of them is nuclei: the fullest, the middle, the emptiest.

    Returns
    -------
    list
        Boxes (x, y, width, height) in px of the maps' level 0; none where there is no nucleus.
    """
    finest, coarse_number = result.levels[0], result.level_near(_COARSE_UM)
    coarse = result.levels[coarse_number]
    is_nucleus = result.window("classes", coarse_number, (0, 0, coarse.width, coarse.height)) > 0
    side = max(1, round(FIELD_UM / coarse.um_x))
    rows, columns = -(-coarse.height // side), -(-coarse.width // side)
    padded = np.zeros((rows * side, columns * side), bool)
    padded[: coarse.height, : coarse.width] = is_nucleus
    share = padded.reshape(rows, side, columns, side).mean(axis=(1, 3)).ravel()
    order = np.argsort(-share, kind="stable")[: np.count_nonzero(share)]
    ranks = np.linspace(0, len(order) - 1, min(_FIELDS, len(order))).round().astype(int)
    px = min(round(FIELD_UM / finest.um_x), finest.width, finest.height)
    boxes = []
    for place in order[ranks].tolist():
        row, column = divmod(place, columns)
        x = min(round(column * side * coarse.um_x / finest.um_x), finest.width - px)
        y = min(round(row * side * coarse.um_y / finest.um_y), finest.height - px)
        boxes.append((x, y, px, px))
    return boxes


def draw_field(result: Result, field: Field) -> Image.Image:
    """Draw the borders of the nuclei into a field, each in the colour of its class."""
    ids = result.window("nuclei", 0, field.box)
    classes = result.window("classes", 0, field.box)
    times = max(1, _SHOWN_PX // max(ids.shape))
    ids, classes, rgb = (
        one.repeat(times, axis=0).repeat(times, axis=1) for one in (ids, classes, field.rgb)
    )
    colors = np.zeros((len(result.classes) + 1, 3), np.uint8)
    colors[1:] = [ImageColor.getrgb(one.color) for one in result.classes]
    border = _borders(ids)
    rgb[border] = colors[classes[border]]
    return Image.fromarray(rgb)


def rows_of_classes(result: Result) -> list[dict[str, Any]]:
    """Return count, density and mean area of the nuclei of each class."""
    run = result.attributes
    area = run["coverage"]["analysed_mm2"]
    return [
        {
            "class": one.name,
            "color": one.color,
            "count": (count := run["nuclei"][one.name]),
            "per_mm2": count / area if area else 0.0,
            "area_um2": 1e6 * run["area_mm2"][one.name] / count if count else 0.0,
        }
        for one in result.classes
    ]


def size_bins(run: dict[str, Any]) -> tuple[list[str], list[int]]:
    """Return the bins of the areas by name, such as "20-30", and the nuclei in each."""
    sizes = run["nucleus_areas"]
    edges: Sequence[float] = sizes["edges_um2"]
    pairs = zip(edges, edges[1:], strict=False)
    names = [f"{low:g}-{high:g}" for low, high in pairs] + [f"{edges[-1]:g} and more"]
    return names, np.sum([*sizes["nuclei"].values()], axis=0).tolist()


def _borders(ids: NDArray[Any]) -> NDArray[np.bool_]:
    """Return the pixels of nuclei that lie beside something else."""
    padded = np.pad(ids, 1, mode="edge")
    inner = padded[1:-1, 1:-1]
    beside = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    border: NDArray[np.bool_] = np.any([one != inner for one in beside], axis=0) & (inner > 0)
    return border
