"""What a report shows of nuclei: counts by class, their sizes, and a few fields of the slide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor

from wsi_sampath.outputs.report.region import region_shown
from wsi_sampath.outputs.report.sheet import enlarged, outline_of
from wsi_sampath.outputs.result import Result

FIELD_UM = 100.0
_FIELDS = 3
_SHOWN_PX, _LINE_PX = 480, 2
_COARSE_UM, _COARSEST_UM = 4.0, 16.0
_ANALYSED = 0.8


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


@dataclass(frozen=True)
class _Grid:
    """Squares of `px` px: where their columns and rows begin, in px of the maps' level 0."""

    px: int
    columns: NDArray[np.int64]
    rows: NDArray[np.int64]


def fields_to_show(result: Result) -> list[tuple[int, int, int, int]]:
    """Choose fields by how much of them is nuclei: the fullest, the middle, the emptiest.

    They lie in the region, and where there are such, in places that were analysed as good as
    everywhere: beside its border nuclei have no outlines, which looks as if they were missed.

    Returns
    -------
    list
        Boxes (x, y, width, height) in px of the maps' level 0; none where there is no nucleus.
    """
    finest = result.levels[0]
    left, top, right, bottom = _window(result)
    px = min(max(1, round(FIELD_UM / finest.um_x)), right - left, bottom - top)
    grid = _Grid(px, _starts(left, right, px), _starts(top, bottom, px))
    share = _share(result, "classes", _COARSE_UM, grid)
    is_whole = _analysed(result, grid) >= _ANALYSED
    if share[is_whole].any():
        share[~is_whole] = 0
    order = np.argsort(-share, axis=None, kind="stable")[: np.count_nonzero(share)]
    ranks = np.linspace(0, len(order) - 1, min(_FIELDS, len(order))).round().astype(int)
    places = [divmod(place, len(grid.columns)) for place in order[ranks].tolist()]
    return [(int(grid.columns[column]), int(grid.rows[row]), px, px) for row, column in places]


def width_um(result: Result, fields: Sequence[Field]) -> float:
    """Return how wide fields are: `FIELD_UM`, or less where slide or region are smaller."""
    um_x = result.levels[0].um_x
    return min([FIELD_UM, *(float(round(field.box[2] * um_x)) for field in fields)])


def draw_field(result: Result, field: Field) -> Image.Image:
    """Draw the borders of the nuclei into a field, each in the colour of its class."""
    ids = result.window("nuclei", 0, field.box)
    classes = result.window("classes", 0, field.box)
    times = max(1, _SHOWN_PX // max(ids.shape))
    ids, classes, rgb = (enlarged(one, times) for one in (ids, classes, field.rgb))
    colors = np.zeros((len(result.classes) + 1, 3), np.uint8)
    colors[1:] = [ImageColor.getrgb(one.color) for one in result.classes]
    border = outline_of(ids, max(_LINE_PX, round(max(ids.shape) / _SHOWN_PX * _LINE_PX)))
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


def _window(result: Result) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of what was asked for, in px of the maps' level 0."""
    finest, region = result.levels[0], region_shown(result.attributes)
    if region is None:
        return 0, 0, finest.width, finest.height
    run = result.attributes
    um = np.array(run["slide_size"]) * (run["mpp"]["x"], run["mpp"]["y"])
    px = (region.reshape(2, 2) * um / (finest.um_x, finest.um_y)).round().astype(int)
    most = np.array([finest.width, finest.height])
    low = np.minimum(px[0], most - 1)
    high = np.clip(px[1], low + 1, most)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def _starts(low: int, high: int, px: int) -> NDArray[np.int64]:
    """Return where squares begin along an axis; the last one ends where the window does."""
    return np.unique(np.minimum(np.arange(low, high, px), high - px))


def _analysed(result: Result, grid: _Grid) -> NDArray[np.float64]:
    """Return the share of each square that was analysed; 1 where no maps say so."""
    if not any(layer.name == "maps" for layer in result.layers):
        return np.ones((len(grid.rows), len(grid.columns)))
    return _share(result, "maps", _COARSEST_UM, grid)


def _share(result: Result, layer: str, um: float, grid: _Grid) -> NDArray[np.float64]:
    """Return the share of each square, float64 (rows, columns), in which a layer is not 0."""
    number = result.level_near(um)
    finest, level = result.levels[0], result.levels[number]
    plane = result.window(layer, number, (0, 0, level.width, level.height))
    # Of the maps, the distances are near 1 outside of nuclei: all are 0 where none was analysed.
    is_set = plane.reshape(-1, level.height, level.width).max(axis=0) > 0
    left, right = _ends(grid.columns, grid.px, finest.um_x / level.um_x, level.width)
    top, bottom = _ends(grid.rows, grid.px, finest.um_y / level.um_y, level.height)
    found = np.empty((len(grid.rows), len(grid.columns)))
    for row, (first, last) in enumerate(zip(top, bottom, strict=True)):
        sums = np.append(0, is_set[first:last].sum(axis=0).cumsum())
        found[row] = (sums[right] - sums[left]) / ((last - first) * (right - left))
    return found


def _ends(
    starts: NDArray[np.int64], px: int, times: float, limit: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return first and past-the-last pixel of squares at a coarser level, one at least."""
    first = np.minimum((starts * times).round().astype(np.int64), limit - 1)
    last = ((starts + px) * times).round().astype(np.int64)
    return first, np.clip(last, first + 1, limit)
