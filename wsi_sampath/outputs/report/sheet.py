"""What all pictures share: title, legend, scale bar, outlines, letters that suit the width."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo
from scipy import ndimage

from wsi_sampath.files import replacing
from wsi_sampath.outputs.belonging import PICTURE_KEY

UInt8Array = npt.NDArray[np.uint8]
Plane = TypeVar("Plane", bound=npt.NDArray[Any])

INK, PAPER, QUIET = (32, 33, 36), (255, 255, 255), (104, 108, 115)
_BAR_SHARE = 0.22
_NARROWEST_PX = 360
_MOST_PX = 4_000_000
# JPEG holds no longer picture.
_LONGEST_PX = 65_500


@dataclass(frozen=True)
class Entry:
    """A line of the legend."""

    name: str
    area: str
    colour: tuple[int, int, int]


class Text:
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
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / "mpl-data" / "fonts" / "ttf"


def zoom_of(height: int, width: int) -> int:
    """Make room for legends and bars, within bounded memory even for a very tall picture."""
    most = min(math.isqrt(_MOST_PX // (height * width)), _LONGEST_PX // max(height, width))
    return max(1, min(-(-_NARROWEST_PX // width), most))


def enlarged(plane: Plane, zoom: int) -> Plane:
    """Return a plane (h, w, ...) with every pixel repeated `zoom` times along both axes."""
    return cast(Plane, plane.repeat(zoom, axis=0).repeat(zoom, axis=1))


def outline_of(labels: npt.NDArray[Any], thickness: int) -> npt.NDArray[np.bool_]:
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


def draw_scale_bar(picture: Image.Image, um_per_px: float, text: Text) -> None:
    """Draw the bar with its length on a pale plate, lower left."""
    length_um = round_length_um(picture.width * _BAR_SHARE * um_per_px)
    words = f"{length_um / 1000:g} mm" if length_um >= 1000 else f"{length_um:g} µm"
    bar, gap = round(length_um / um_per_px), text.size // 2
    wide, high = max(bar, text.width(words)) + 2 * gap, text.size * 2 + gap
    left, bottom = text.size, picture.height - text.size
    plate = Image.new("RGB", (wide, high), PAPER)
    draw = ImageDraw.Draw(plate)
    draw.text((wide / 2, gap // 2), words, fill=INK, font=text.plain, anchor="ma")
    thick = max(2, text.size // 4)
    x0, y1 = (wide - bar) // 2, high - gap
    draw.rectangle((x0, y1 - thick, x0 + bar - 1, y1 - 1), fill=INK)
    box = (left, max(0, bottom - high))
    under = picture.crop((*box, box[0] + wide, box[1] + high))
    picture.paste(Image.blend(under, plate, 0.82), box)


def save_sheet(sheet: Image.Image, path: Path, *, run_id: str = "", smallest: bool = True) -> None:
    """Write a picture as PNG; the file appears at once, complete.

    Parameters
    ----------
    sheet, path
        What and where.
    run_id
        Of the run that it shows, kept in the file so that it is known as ours; empty leaves it out.
    smallest
        Whether to take the time for the smallest file.
    """
    info = PngInfo()
    if run_id:
        info.add_text(PICTURE_KEY, run_id)
    packing = {"optimize": True} if smallest else {"compress_level": 2}
    with replacing(path) as growing:
        sheet.save(growing, format="PNG", pnginfo=info, **packing)


def number(value: float) -> str:
    """Three significant digits, never in exponents."""
    if value == 0:
        return "0"
    digits = int(np.clip(2 - np.floor(np.log10(value)), 0, 4))
    return f"{value:.{digits}f}"


def compose(picture: Image.Image, title: str, entries: Sequence[Entry], text: Text) -> Image.Image:
    """Put the title, of one line or more, above the picture and the legend below it."""
    rows = _legend_rows(entries, picture.width, text)
    line = round(text.size * 1.8)
    titles = title.splitlines()
    head = line * len(titles) + text.size // 2 if titles else 0
    foot = line * len(rows) + text.size if rows else 0
    sheet = Image.new("RGB", (picture.width, picture.height + head + foot), PAPER)
    sheet.paste(picture, (0, head))
    draw = ImageDraw.Draw(sheet)
    for number, words in enumerate(titles):
        words = _shortened(words, picture.width - text.size, text)
        place = (text.size // 2, text.size // 4 + line * (number + 0.5))
        font = text.plain if number else text.bold
        draw.text(place, words, fill=INK, font=font, anchor="lm")
    for index, row in enumerate(rows):
        y = head + picture.height + text.size // 2 + line * index + line // 2
        x = text.size // 2
        for entry in row:
            _draw_entry(draw, x, y, entry, text)
            x += _entry_width(entry, text)
    return sheet


def _shortened(words: str, width_px: int, text: Text) -> str:
    if text.width(words, bold=True) <= width_px:
        return words
    while words and text.width(words + "…", bold=True) > width_px:
        words = words[:-1]
    return words + "…"


def _legend_rows(entries: Sequence[Entry], width_px: int, text: Text) -> list[list[Entry]]:
    """Break the legend into rows that fit."""
    rows: list[list[Entry]] = []
    used = width_px
    for entry in entries:
        wide = _entry_width(entry, text)
        if used + wide > width_px - text.size // 2:
            rows.append([])
            used = text.size // 2
        rows[-1].append(entry)
        used += wide
    return rows


def _entry_width(entry: Entry, text: Text) -> int:
    return round(text.size * 4.2) + text.width(entry.name) + text.width(entry.area)


def _draw_entry(draw: ImageDraw.ImageDraw, x: int, y: int, entry: Entry, text: Text) -> None:
    side = text.size
    box = (x, y - side // 2, x + side, y + side // 2)
    draw.rounded_rectangle(box, radius=side // 4, fill=entry.colour, outline=QUIET)
    x += round(side * 1.5)
    draw.text((x, y), entry.name, fill=INK, font=text.plain, anchor="lm")
    x += text.width(entry.name) + round(side * 0.6)
    draw.text((x, y), entry.area, fill=QUIET, font=text.plain, anchor="lm")
