"""A picture of what a run will look at: the slide, its tissue and the tiles, before it runs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from wsi_sampath.outputs.report.region import REGION_ENTRY, draw_region, line_width
from wsi_sampath.outputs.report.sheet import (
    Entry,
    Text,
    UInt8Array,
    compose,
    draw_scale_bar,
    enlarged,
    number,
    outline_of,
    zoom_of,
)

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]

TISSUE, TILES, UNKNOWN = (0, 128, 84), (20, 82, 204), (214, 40, 40)
# Smaller or more boxes are one grey surface: only the border of what they cover is drawn then.
_SMALLEST_BOX_PX, _MOST_BOXES = 12, 2_500
_HATCH_PX = 8


@dataclass(frozen=True)
class PlannedArea:
    """What a run will look at; all places are shares of the slide, 0 to 1 along each axis.

    Attributes
    ----------
    tissue, unknown
        bool (h, w) over the whole slide, of any size: tissue, and what cannot be decoded.
    tiles
        float64 (n, 4): left, top, right and bottom of every tile that will be analysed.
    region
        The same of the region; None where the whole slide is asked for.
    tissue_mm2
        How much tissue there is.
    all_tiles
        Number of tiles that the grid has.
    """

    tissue: BoolArray
    unknown: BoolArray | None
    tiles: FloatArray
    region: FloatArray | None
    tissue_mm2: float
    all_tiles: int


def draw_preview(
    rgb: UInt8Array, area: PlannedArea | None, *, title: str, um_per_px: float | None
) -> Image.Image:
    """Draw a slide with what will be analysed of it.

    Parameters
    ----------
    rgb
        The slide, uint8 (h, w, 3).
    area
        What to draw into it; None draws the slide alone.
    title
        Lines above the picture.
    um_per_px
        Microns per pixel of `rgb`, for the scale bar; None where they are unknown.

    Returns
    -------
    Image
        RGB, with caption and legend.
    """
    zoom = zoom_of(*rgb.shape[:2])
    rgb = enlarged(rgb, zoom)
    if area is not None:
        rgb = _with_masks(rgb, area)
    picture = Image.fromarray(rgb)
    if area is not None:
        _draw_boxes(picture, area)
    text = Text(picture.width)
    if um_per_px is not None:
        draw_scale_bar(picture, um_per_px / zoom, text)
    return compose(picture, title, [] if area is None else _legend(area), text)


def covered(boxes: FloatArray, height: int, width: int) -> BoolArray:
    """Return the pixels of a picture that boxes (n, 4), in shares of it, cover: bool (h, w)."""
    left, top, right, bottom = _pixels(boxes, height, width).T
    # Steps at the corners add up to the number of boxes over each pixel.
    steps = np.zeros((height + 1, width + 1), np.int32)
    for rows, columns, step in (
        (top, left, 1),
        (bottom, right, 1),
        (top, right, -1),
        (bottom, left, -1),
    ):
        np.add.at(steps, (rows, columns), step)
    found: BoolArray = steps.cumsum(0).cumsum(1)[:height, :width] > 0
    return found


def _pixels(boxes: FloatArray, height: int, width: int) -> npt.NDArray[np.int64]:
    return (boxes * (width, height, width, height)).round().astype(np.int64)


def _with_masks(rgb: UInt8Array, area: PlannedArea) -> UInt8Array:
    """Outline the tissue, and hatch what cannot be decoded."""
    height, width = rgb.shape[:2]
    painted = rgb.copy()
    tissue = _sampled(area.tissue, height, width).astype(np.uint8)
    painted[outline_of(tissue, line_width(width))] = TISSUE
    if area.unknown is not None and area.unknown.any():
        rows, columns = np.ogrid[:height, :width]
        stripes = (rows + columns) // _HATCH_PX % 2 == 0
        painted[_sampled(area.unknown, height, width) & stripes] = UNKNOWN
    return painted


def _sampled(mask: BoolArray, height: int, width: int) -> BoolArray:
    rows = (np.arange(height) + 0.5) * mask.shape[0] / height
    columns = (np.arange(width) + 0.5) * mask.shape[1] / width
    return mask[np.ix_(rows.astype(int), columns.astype(int))]


def _draw_boxes(picture: Image.Image, area: PlannedArea) -> None:
    width, height = picture.size
    boxes = _pixels(area.tiles, height, width)
    draw = ImageDraw.Draw(picture)
    if _are_legible(boxes):
        for left, top, right, bottom in boxes.tolist():
            draw.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=TILES)
    else:
        pixels = np.array(picture)
        union = covered(area.tiles, height, width).astype(np.uint8)
        pixels[outline_of(union, line_width(width))] = TILES
        picture.paste(Image.fromarray(pixels))
    if area.region is not None:
        draw_region(picture, area.region)


def _are_legible(boxes: npt.NDArray[np.int64]) -> bool:
    if not len(boxes) or len(boxes) > _MOST_BOXES:
        return False
    sides = boxes[:, 2:] - boxes[:, :2]
    return bool(np.median(sides.min(axis=1)) >= _SMALLEST_BOX_PX)


def _legend(area: PlannedArea) -> list[Entry]:
    entries = [
        Entry("tissue", f"{number(area.tissue_mm2)} mm²", TISSUE),
        Entry("tiles", f"{len(area.tiles):,} of {area.all_tiles:,}", TILES),
    ]
    if area.region is not None:
        entries.append(REGION_ENTRY)
    if area.unknown is not None and area.unknown.any():
        share = 100 * float(area.unknown.mean())
        entries.append(Entry("cannot be decoded", f"{max(share, 0.01):.2g} %", UNKNOWN))
    return entries
