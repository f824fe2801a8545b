"""A picture of a result: the slide under its class map, with scale bar, legend and areas."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageColor, ImageDraw, ImageFont
from scipy import ndimage

UInt8Array = npt.NDArray[np.uint8]
Colour = str | tuple[int, int, int]
Plane = TypeVar("Plane", bound=npt.NDArray[Any])

_FILL = 0.34
_INK, _PAPER, _QUIET = (32, 33, 36), (255, 255, 255), (104, 108, 115)
_BAR_SHARE = 0.22
_NARROWEST_PX = 360
_MOST_PX = 4_000_000
# JPEG holds no longer picture.
_LONGEST_PX = 65_500


def render_overlay(
    rgb: UInt8Array,
    labels: UInt8Array,
    *,
    class_names: Sequence[str],
    class_colors: Sequence[Colour],
    um_per_px: float,
    path: str | Path,
    title: str = "",
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
    picture = draw_overlay(rgb, labels, class_colors=class_colors, um_per_px=um_per_px)
    text = _Text(picture.width)
    areas = np.bincount(labels.ravel(), minlength=len(colours) + 1)[1:] * um_per_px**2 / 1e6
    entries = [
        _Entry(name, f"{_number(area)} mm²", colour)
        for name, colour, area in zip(class_names, colours, areas, strict=True)
    ]
    sheet = _compose(picture, title, entries, text)
    sheet.save(path, format="PNG", optimize=True)
    return Path(path)


def draw_overlay(
    rgb: UInt8Array, labels: UInt8Array, *, class_colors: Sequence[Colour], um_per_px: float
) -> Image.Image:
    """Draw the class map and a scale bar over the slide, without title and legend.

    Parameters
    ----------
    rgb, labels, class_colors, um_per_px
        As in `render_overlay`; a map of zeros leaves the slide as it is.

    Returns
    -------
    Image
        RGB, of the size of `rgb`, or a multiple of it where that is narrow and not very tall.
    """
    colours = [_read_colour(colour) for colour in class_colors]
    zoom = _zoom(*rgb.shape[:2])
    blended = _blend(_enlarged(rgb, zoom), _enlarged(labels, zoom), colours)
    picture = Image.fromarray(blended)
    _draw_scale_bar(picture, um_per_px / zoom, _Text(picture.width))
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
    zoom = _zoom(*rgb.shape[:2])
    large = _enlarged(rgb, zoom)
    text = _Text(large.shape[1])
    head, gap = text.size * 2, text.size // 2
    step = large.shape[1] + gap
    sheet = Image.new("RGB", (step * len(panels) - gap, large.shape[0] + head), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, (caption, labelled) in enumerate(panels.items()):
        panel = large
        if labelled is not None:
            labels, colors = labelled
            panel = _blend(large, _enlarged(labels, zoom), [_read_colour(one) for one in colors])
        sheet.paste(Image.fromarray(panel), (number * step, head))
        draw.text((number * step, head / 2), caption, fill=_QUIET, font=text.plain, anchor="lm")
    colours = map(_read_colour, class_colors)
    entries = [_Entry(name, "", color) for name, color in zip(class_names, colours, strict=True)]
    return _compose(sheet, title, entries, text)


@dataclass(frozen=True)
class _Entry:
    """A line of the legend."""

    name: str
    area: str
    colour: tuple[int, int, int]


class _Text:
    """Fonts and distances that suit the width of the picture."""

    def __init__(self, width_px: int) -> None:
        self.size = int(np.clip(width_px / 55, 13, 40))
        folder = _fonts()
        self.plain = ImageFont.truetype(str(folder / "DejaVuSans.ttf"), self.size)
        self.bold = ImageFont.truetype(str(folder / "DejaVuSans-Bold.ttf"), self.size)

    def width(self, words: str, *, bold: bool = False) -> int:
        """Width of a line of text in pixels."""
        return int(np.ceil((self.bold if bold else self.plain).getlength(words)))


def _fonts() -> Path:
    """Return the folder of matplotlib's fonts; matplotlib itself takes its time to import."""
    found = find_spec("matplotlib")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib")
    return Path(found.origin).parent / "mpl-data" / "fonts" / "ttf"


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


def _zoom(height: int, width: int) -> int:
    """Make room for legends and bars, within bounded memory even for a very tall picture."""
    most = min(math.isqrt(_MOST_PX // (height * width)), _LONGEST_PX // max(height, width))
    return max(1, min(-(-_NARROWEST_PX // width), most))


def _enlarged(plane: Plane, zoom: int) -> Plane:
    return cast(Plane, plane.repeat(zoom, axis=0).repeat(zoom, axis=1))


def _blend(
    rgb: UInt8Array, labels: npt.NDArray[Any], colours: Sequence[tuple[int, int, int]]
) -> UInt8Array:
    """Tint the classes and draw their outlines."""
    table = np.array([(0, 0, 0), *colours], np.float32)
    blended = rgb.copy()
    inside = labels > 0
    tint = table[labels[inside]]
    blended[inside] = (rgb[inside] * (1 - _FILL) + tint * _FILL).round().astype(np.uint8)
    outline = _outline(labels, max(1, round(rgb.shape[1] / 900)))
    # Darker than the tint, or a pale class would have no visible edge.
    blended[outline] = (table[labels[outline]] * 0.8).round().astype(np.uint8)
    return blended


def _outline(labels: npt.NDArray[Any], thickness: int) -> npt.NDArray[np.bool_]:
    """Pixels of a class within `thickness` pixels of another class or of nothing."""
    size = 2 * thickness + 1
    low = ndimage.minimum_filter(labels, size, mode="nearest")
    high = ndimage.maximum_filter(labels, size, mode="nearest")
    edge: npt.NDArray[np.bool_] = (low != high) & (labels > 0)
    return edge


def round_length_um(longest_um: float) -> float:
    """Return the largest of 1, 2 or 5 times a power of ten that is not above `longest_um`."""
    power = 10.0 ** np.floor(np.log10(longest_um) + 1e-9)
    step = max(factor for factor in (1, 2, 5) if factor * power <= longest_um * (1 + 1e-9))
    return float(step * power)


def _draw_scale_bar(picture: Image.Image, um_per_px: float, text: _Text) -> None:
    """Draw the bar with its length on a pale plate, lower left."""
    length_um = round_length_um(picture.width * _BAR_SHARE * um_per_px)
    words = f"{length_um / 1000:g} mm" if length_um >= 1000 else f"{length_um:g} µm"
    bar, gap = round(length_um / um_per_px), text.size // 2
    wide, high = max(bar, text.width(words)) + 2 * gap, text.size * 2 + gap
    left, bottom = text.size, picture.height - text.size
    plate = Image.new("RGB", (wide, high), _PAPER)
    draw = ImageDraw.Draw(plate)
    draw.text((wide / 2, gap // 2), words, fill=_INK, font=text.plain, anchor="ma")
    thick = max(2, text.size // 4)
    x0, y1 = (wide - bar) // 2, high - gap
    draw.rectangle((x0, y1 - thick, x0 + bar - 1, y1 - 1), fill=_INK)
    box = (left, max(0, bottom - high))
    under = picture.crop((*box, box[0] + wide, box[1] + high))
    picture.paste(Image.blend(under, plate, 0.82), box)


def _number(value: float) -> str:
    """Three significant digits, never in exponents."""
    if value == 0:
        return "0"
    digits = int(np.clip(2 - np.floor(np.log10(value)), 0, 4))
    return f"{value:.{digits}f}"


def _compose(
    picture: Image.Image, title: str, entries: Sequence[_Entry], text: _Text
) -> Image.Image:
    """Put the title above and the legend below the picture."""
    rows = _legend_rows(entries, picture.width, text)
    line = round(text.size * 1.8)
    head = line + text.size // 2 if title else 0
    foot = line * len(rows) + text.size if rows else 0
    sheet = Image.new("RGB", (picture.width, picture.height + head + foot), _PAPER)
    sheet.paste(picture, (0, head))
    draw = ImageDraw.Draw(sheet)
    if title:
        words = _shortened(title, picture.width - text.size, text)
        draw.text((text.size // 2, head / 2), words, fill=_INK, font=text.bold, anchor="lm")
    for index, row in enumerate(rows):
        y = head + picture.height + text.size // 2 + line * index + line // 2
        x = text.size // 2
        for entry in row:
            _draw_entry(draw, x, y, entry, text)
            x += _entry_width(entry, text)
    return sheet


def _shortened(words: str, width_px: int, text: _Text) -> str:
    if text.width(words, bold=True) <= width_px:
        return words
    while words and text.width(words + "…", bold=True) > width_px:
        words = words[:-1]
    return words + "…"


def _legend_rows(entries: Sequence[_Entry], width_px: int, text: _Text) -> list[list[_Entry]]:
    """Break the legend into rows that fit."""
    rows: list[list[_Entry]] = []
    used = width_px
    for entry in entries:
        wide = _entry_width(entry, text)
        if used + wide > width_px - text.size // 2:
            rows.append([])
            used = text.size // 2
        rows[-1].append(entry)
        used += wide
    return rows


def _entry_width(entry: _Entry, text: _Text) -> int:
    return round(text.size * 4.2) + text.width(entry.name) + text.width(entry.area)


def _draw_entry(draw: ImageDraw.ImageDraw, x: int, y: int, entry: _Entry, text: _Text) -> None:
    side = text.size
    box = (x, y - side // 2, x + side, y + side // 2)
    draw.rounded_rectangle(box, radius=side // 4, fill=entry.colour, outline=_QUIET)
    x += round(side * 1.5)
    draw.text((x, y), entry.name, fill=_INK, font=text.plain, anchor="lm")
    x += text.width(entry.name) + round(side * 0.6)
    draw.text((x, y), entry.area, fill=_QUIET, font=text.plain, anchor="lm")
