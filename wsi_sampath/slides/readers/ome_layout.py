"""The pictures of an OME-TIFF, and which of their channels are red, green and blue."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from xml.etree import ElementTree

import tifffile

from wsi_sampath.slides.lengths import read_number, um_per_unit
from wsi_sampath.slides.readers.base import BROKEN_TIFF
from wsi_sampath.slides.readers.tiff_layout import Picture, full_pages, picture_of_page, role_of

Element = ElementTree.Element
_COLOURS = {0xFF0000: "red", 0x00FF00: "green", 0x0000FF: "blue"}
_NAMES = {"r": "red", "g": "green", "b": "blue"}
_RGB = ("red", "green", "blue")
_UNNAMED = "its three grey channels have no names; they are taken as red, green and blue"
_FLUORESCENCE = ("Fluor", "EmissionWavelength", "ExcitationWavelength")


@dataclass(frozen=True)
class Channel:
    """A channel as the OME metadata describe it; `colour` is red, green, blue, or empty."""

    name: str
    colour: str
    glows: bool


def ome_pictures(tiff: tifffile.TiffFile) -> tuple[Picture, ...] | None:
    """Take every OME image as a picture, followed by the pages that OME does not mention.

    Returns
    -------
    tuple of Picture, or None
        None where the OME metadata cannot be used.
    """
    try:
        images = ElementTree.fromstring(tiff.ome_metadata or "").findall("{*}Image")
        series = [series for series in tiff.series if series.kind == "ome"]
        if not series and len(images) == 1:
            pages = tuple(full_pages(tiff))
            return _interleaved(images[0], pages) or _without_places(images[0], pages)
        if not series or len(images) != len(series):
            return None
        found = [_picture(*both, tiff) for both in enumerate(zip(images, series, strict=True))]
    except (*BROKEN_TIFF, ElementTree.ParseError):
        return None
    known = {page.offset for ome in series for level in ome.levels for page in level.pages if page}
    rest = (page for page in full_pages(tiff) if page.offset not in known)
    found += [picture_of_page(len(found) + i, page) for i, page in enumerate(rest)]
    return tuple(found)


def _picture(number: int, both: tuple[Element, Any], tiff: tifffile.TiffFile) -> Picture:
    image, series = both
    name = (image.get("Name") or "").strip()
    pixels = image.find("{*}Pixels")
    channels = (
        [] if pixels is None else [_channel(element) for element in pixels.iterfind("{*}Channel")]
    )
    planes, focus = _planes(series)
    copies = tuple(_planes(level)[0] for level in series.levels[1:])
    picture = Picture(
        number,
        name,
        planes,
        tuple(copy for copy in copies if len(copy) == len(planes) and None not in copy),
        mpp=None if pixels is None else ome_mpp(pixels),
        ome=True,
        warnings=focus,
        role=role_of(name),
        of_stack=len(series.pages) > len(planes),
    )
    if any(page is None or page.parent is not tiff for page in planes):
        return replace(picture, planes=_any_page(tiff, planes), refusal="parts are in other files")
    return in_order(picture, channels)


def _without_places(image: Element, pages: tuple[Any, ...]) -> tuple[Picture, ...] | None:
    """Take the pages for the channels of an image that does not say where its channels are."""
    pixels = image.find("{*}Pixels")
    sizes = {(page.imagewidth, page.imagelength, page.samplesperpixel) for page in pages}
    if pixels is None or len(sizes) > 1 or pixels.get("SizeC") != str(len(pages)):
        return None
    channels = [_channel(element) for element in pixels.iterfind("{*}Channel")]
    copies = [page.pages or () for page in pages]
    reduced = tuple(tuple(page.aspage() for page in level) for level in zip(*copies, strict=False))
    name = (image.get("Name") or "").strip()
    picture = Picture(0, name, pages, reduced, mpp=ome_mpp(pixels), ome=True, role=role_of(name))
    return (in_order(picture, channels),)


def _interleaved(image: Element, pages: tuple[Any, ...]) -> tuple[Picture, ...] | None:
    """Take one page whose samples are the channels, though the XML has a page for each."""
    pixels, page = image.find("{*}Pixels"), pages[0]
    size = (str(page.imagewidth), str(page.imagelength), str(page.samplesperpixel))
    if pixels is None or page.samplesperpixel < 3:
        return None
    if tuple(pixels.get(f"Size{axis}") for axis in "XYC") != size:
        return None
    channels = [_channel(element) for element in pixels.iterfind("{*}Channel")]
    copies = tuple((reduced.aspage(),) for reduced in page.pages or ())
    name = (image.get("Name") or "").strip()
    picture = Picture(0, name, (page,), copies, mpp=ome_mpp(pixels), ome=True, role=role_of(name))
    rest = tuple(picture_of_page(i, other) for i, other in enumerate(pages[1:], 1))
    return (in_order(picture, channels), *rest)


def _any_page(tiff: tifffile.TiffFile, planes: Sequence[Any]) -> tuple[Any, ...]:
    first: Any = tiff.pages[0]
    return tuple(page for page in planes if page is not None)[:1] or (first.aspage(),)


def _planes(series: Any) -> tuple[tuple[Any, ...], tuple[str, ...]]:
    """Pick the pages of one plane of a stack, one page per channel."""
    leading = len(series.shape) - len(series.keyframe.shape)
    shape, axes = series.shape[:leading], series.axes[:leading]
    if math.prod(shape) != len(series.pages):
        return (series.keyframe.aspage(),), ()
    place = [size // 2 if axis == "Z" else 0 for axis, size in zip(axes, shape, strict=True)]
    channels = [
        range(n) if axis == "C" else (p,) for axis, n, p in zip(axes, shape, place, strict=True)
    ]
    picked = [0]
    for size, wanted in zip(shape, channels, strict=True):
        picked = [index * size + channel for index in picked for channel in wanted]
    pages = tuple(None if series.pages[i] is None else series.pages[i].aspage() for i in picked)
    others = {a: n for a, n in zip(axes, shape, strict=True) if a != "C" and n > 1}
    if not others:
        return pages, ()
    which = ", ".join(
        f"{a} {p} of {others[a]}" for a, p in zip(axes, place, strict=True) if a in others
    )
    return pages, (f"it is a stack, of which one plane is analysed ({which}, counted from 0)",)


def _channel(element: Element) -> Channel:
    name = (element.get("Name") or "").strip()
    word = re.sub(r"[^a-z]+|channel", "", name.lower())
    named = _NAMES.get(word, word if word in _RGB else "")
    generic = not word or word in ("c", "ch")
    colour = int(element.get("Color") or "0") >> 8 & 0xFFFFFF
    glows = any(element.get(key) for key in _FLUORESCENCE) or "luorescence" in (
        f"{element.get('ContrastMethod')}{element.get('IlluminationType')}"
        f"{element.get('AcquisitionMode')}"
    )
    return Channel(
        "" if generic else name, named or (_COLOURS.get(colour, "") if generic else ""), glows
    )


def in_order(picture: Picture, channels: Sequence[Channel]) -> Picture:
    """Put red, green and blue in order, or say why the channels are something else.

    Parameters
    ----------
    picture
        With one page for each channel.
    channels
        What is known of the channels, possibly nothing.
    """
    planes, n = picture.planes, len(picture.planes)
    samples = int(planes[0].samplesperpixel)
    names = ", ".join(channel.name or "unnamed" for channel in channels)
    if any(channel.glows for channel in channels):
        return replace(picture, refusal=f"it holds fluorescence ({names}), not a stained section")
    colours = [channel.colour for channel in channels]
    complete = all(colours.count(colour) == 1 for colour in _RGB)
    order = [colours.index(colour) for colour in _RGB] if complete else [0, 1, 2]
    if n == 1:
        return _samples_in_order(picture, channels, names, order if complete else None)
    if samples > 1:
        return replace(picture, refusal=f"it holds {n} pictures in the place of channels")
    described = any(channel.name or channel.colour for channel in channels)
    if (described and not (complete and len(channels) == n)) or (n != 3 and not complete):
        named = f" ({names})" if names else ""
        return replace(picture, refusal=f"it holds {n} grey channels{named}, not red, green, blue")
    return replace(
        picture,
        planes=tuple(planes[i] for i in order),
        reduced=tuple(tuple(copy[i] for i in order) for copy in picture.reduced),
        warnings=picture.warnings if complete else (*picture.warnings, _UNNAMED),
    )


def _samples_in_order(
    picture: Picture, channels: Sequence[Channel], names: str, order: list[int] | None
) -> Picture:
    """Put the samples of one page in order, where every sample has a name."""
    samples = int(picture.planes[0].samplesperpixel)
    if len(channels) != samples or samples < 3:
        return picture
    if order is not None:
        return replace(picture, order=(order[0], order[1], order[2]))
    if any(channel.name for channel in channels):
        note = f"its samples are named {names}; they are taken as red, green and blue"
        return replace(picture, warnings=(*picture.warnings, note))
    return picture


def ome_mpp(pixels: Element) -> tuple[float, float] | None:
    """Read (x, y) in um per pixel from an OME ``Pixels`` element."""
    x, y = (_um(pixels, axis) for axis in "XY")
    return (x, y) if 0 < x < math.inf and 0 < y < math.inf else None


def _um(pixels: Element, axis: str) -> float:
    size = read_number(pixels.get(f"PhysicalSize{axis}"))
    unit = um_per_unit(pixels.get(f"PhysicalSize{axis}Unit", "um"))
    return math.nan if size is None or unit is None else size * unit
