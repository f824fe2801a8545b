"""A picture of a result: the slide under its class map, with scale bar, legend and areas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageColor, ImageDraw

from wsi_sampath.outputs.report.region import REGION_ENTRY, FloatArray, draw_region
from wsi_sampath.outputs.report.sheet import (
    PAPER,
    QUIET,
    Entry,
    Text,
    UInt8Array,
    compose,
    draw_scale_bar,
    enlarged,
    number,
    outline_of,
    save_sheet,
    zoom_of,
)

Colour = str | tuple[int, int, int]

_FILL = 0.34


def render_overlay(
    rgb: UInt8Array,
    labels: UInt8Array,
    *,
    class_names: Sequence[str],
    class_colors: Sequence[Colour],
    um_per_px: float,
    path: str | Path,
    title: str = "",
    figures: Sequence[str] = (),
    region: FloatArray | None = None,
    run_id: str = "",
) -> Path:
    """Draw the class map over the slide and write it as PNG.

    Parameters
    ----------
    rgb
        The slide, uint8 (h, w, 3).
    labels
        Classes, uint8 (h, w): 0 not analysed and left as it is, 1..k the classes in order.
    class_names, class_colors
        One of each per class; colours as "#rrggbb" or (r, g, b).
    um_per_px
        Microns per pixel of both.
    path
        The PNG to write.
    title
        A line above the picture.
    figures
        What stands beside each class in the legend; none is its area in the picture.
    region
        Left, top, right and bottom of the part that was asked for, as shares of the slide.
    run_id
        Of the run that it shows; see `save_sheet`.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    ValueError
        If the sizes differ, a label has no class, or a colour cannot be read.
    """
    colours = _checked(rgb, labels, class_names, class_colors, um_per_px)
    picture = draw_overlay(
        rgb, labels, class_colors=class_colors, um_per_px=um_per_px, region=region
    )
    text = Text(picture.width)
    areas = np.bincount(labels.ravel(), minlength=len(colours) + 1)[1:] * um_per_px**2 / 1e6
    figures = figures or [f"{number(area)} mm²" for area in areas]
    entries = [*map(Entry, class_names, figures, colours)]
    if region is not None:
        entries.append(REGION_ENTRY)
    sheet = compose(picture, title, entries, text)
    save_sheet(sheet, Path(path), run_id=run_id)
    return Path(path)


def draw_overlay(
    rgb: UInt8Array,
    labels: UInt8Array,
    *,
    class_colors: Sequence[Colour],
    um_per_px: float,
    region: FloatArray | None = None,
) -> Image.Image:
    """Draw the class map, the region and a scale bar over the slide, without title and legend.

    Parameters
    ----------
    rgb, labels, class_colors, um_per_px, region
        As in `render_overlay`; a map of zeros leaves the slide as it is.

    Returns
    -------
    Image
        RGB, of the size of `rgb`, or a multiple of it where that is narrow and not very tall.
    """
    colours = [_read_colour(colour) for colour in class_colors]
    zoom = zoom_of(*rgb.shape[:2])
    blended = _blend(enlarged(rgb, zoom), enlarged(labels, zoom), colours)
    picture = Image.fromarray(blended)
    if region is not None:
        draw_region(picture, region)
    draw_scale_bar(picture, um_per_px / zoom, Text(picture.width))
    return picture


def draw_panels(
    rgb: UInt8Array,
    panels: Mapping[str, tuple[npt.NDArray[Any], Sequence[Colour]] | None],
    *,
    title: str,
    class_names: Sequence[str],
    class_colors: Sequence[Colour],
) -> Image.Image:
    """Draw a picture several times side by side, each with other labels, over one legend.

    Parameters
    ----------
    rgb
        uint8 (h, w, 3).
    panels
        By their captions: labels (h, w) of 0 or 1..n with their n colours, or None for the bare
        picture.
    title
        A line above.
    class_names, class_colors
        Of the legend.
    """
    zoom = zoom_of(*rgb.shape[:2])
    large = enlarged(rgb, zoom)
    text = Text(large.shape[1])
    head, gap = text.size * 2, text.size // 2
    step = large.shape[1] + gap
    sheet = Image.new("RGB", (step * len(panels) - gap, large.shape[0] + head), PAPER)
    draw = ImageDraw.Draw(sheet)
    for place, (caption, labelled) in enumerate(panels.items()):
        panel = large
        if labelled is not None:
            labels, colors = labelled
            panel = _blend(large, enlarged(labels, zoom), [_read_colour(one) for one in colors])
        sheet.paste(Image.fromarray(panel), (place * step, head))
        draw.text((place * step, head / 2), caption, fill=QUIET, font=text.plain, anchor="lm")
    colours = map(_read_colour, class_colors)
    entries = [Entry(name, "", color) for name, color in zip(class_names, colours, strict=True)]
    return compose(sheet, title, entries, text)


def _checked(
    rgb: UInt8Array,
    labels: UInt8Array,
    names: Sequence[str],
    colours: Sequence[Colour],
    um_per_px: float,
) -> list[tuple[int, int, int]]:
    """Check the arguments of `render_overlay` and read its colours."""
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.shape[:2] != labels.shape or not labels.size:
        raise ValueError(f"picture {rgb.shape} and labels {labels.shape} do not match")
    if len(names) != len(colours):
        raise ValueError(f"{len(names)} class names for {len(colours)} colours")
    if int(labels.max()) > len(names):
        raise ValueError(f"label {labels.max()} has no class; there are {len(names)}")
    if not um_per_px > 0:
        raise ValueError(f"um_per_px must be positive, not {um_per_px}")
    return [_read_colour(colour) for colour in colours]


def _read_colour(colour: Colour) -> tuple[int, int, int]:
    values = ImageColor.getrgb(colour) if isinstance(colour, str) else colour
    return values[0], values[1], values[2]


def _blend(
    rgb: UInt8Array, labels: npt.NDArray[Any], colours: Sequence[tuple[int, int, int]]
) -> UInt8Array:
    """Tint the classes and draw their outlines."""
    if not labels.any():
        return rgb.copy()
    table = np.array([(0, 0, 0), *colours], np.float32)
    # Looked up byte by byte: to blend millions of pixels as floats takes ten times as long.
    values = np.arange(256, dtype=np.uint8)
    tinted = (values * (1 - _FILL) + table[..., None] * _FILL).round().astype(np.uint8)
    tinted[0] = values
    blended = np.empty_like(rgb)
    places = labels.astype(np.intp) * 256
    for channel in range(3):
        blended[..., channel] = tinted[:, channel].ravel()[places + rgb[..., channel]]
    outline = outline_of(labels, max(1, round(rgb.shape[1] / 900)))
    # Darker than the tint, or a pale class would have no visible edge.
    blended[outline] = (table[labels[outline]] * 0.8).round().astype(np.uint8)
    return blended
