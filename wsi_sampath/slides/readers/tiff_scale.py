"""The scale of a TIFF in every place where writers state it, whichever reader opens it.

Places and spellings follow the OME-TIFF specification, TIFF 6.0 (tags 282, 283, 296), ImageJ's
``unit`` line, and the descriptions of Aperio, Philips, Leica and Ventana scanners.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import tifffile

from wsi_sampath.slides.lengths import read_number, um_per_unit
from wsi_sampath.slides.readers.base import tiff_file

OME, APERIO, TAGS = "OME-XML", "Aperio description", "TIFF resolution tags"
_MOST_PAGES = 200
_XMP = 700
_UM_PER_TAG_UNIT = {2: 25400.0, 3: 10000.0}
# Coarser than any slide scan: 72 or 300 dpi of a screen or printer, 1/1, a default of 10 per cm.
PLACEHOLDER_UM = 20.0
_NUMBER = r"\"?'?\s*([0-9]*[.,]?[0-9]+(?:[eE][+-]?[0-9]+)?)"
_IN_WORDS = re.compile(
    rf"\b(?:mpp|(?:um|\u00b5m|\u03bcm|microns?|micromet(?:er|re)s?) ?(?:/|per) ?p(?:i?x|ixel)s?)"
    rf"\"?\s*[=:]\s*{_NUMBER}",
    re.IGNORECASE,
)
_SIZE_IN_WORDS = re.compile(
    rf"\bpixel ?size\"?\s*[=:]\s*{_NUMBER}\s*(nm|um|mm|\u00b5m|\u03bcm|microns?)\b", re.IGNORECASE
)
_APERIO_FIELD = r"\|\s*{}\s*=\s*([^|\r\n]+)"
_SIZES = re.compile(r"(\d+)x(\d+)")
_NOT_CALIBRATED = ("'pixel'", "'reference frame'")
_UNICODE_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")


@dataclass(frozen=True)
class Statement:
    """One statement of um per level-0 pixel.

    Attributes
    ----------
    source
        Where it stands, in words that help the user find it.
    x, y
        Um per pixel; None where that axis is not stated.
    """

    source: str
    x: float | None
    y: float | None


@dataclass(frozen=True)
class Statements:
    """Everything that a file says about its scale.

    Attributes
    ----------
    found
        From the most to the least trusted.
    objective
        Magnification, None if not stated.
    doubts
        Sentences for the user about oddities of the statements that count.
    unusable
        Statements that are not measurements, in words.
    lost
        Those of them that were meant as measurements, but have an unknown unit.
    """

    found: tuple[Statement, ...] = ()
    objective: float | None = None
    doubts: tuple[str, ...] = ()
    unusable: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()


def tiff_statements(tiff: tifffile.TiffFile, size: tuple[int, int]) -> Statements:
    """Read everything that a TIFF says about the scale of its level 0.

    Parameters
    ----------
    tiff
        An open file.
    size
        (width, height) of level 0 as the reader found it: it decides which page, and which image of
        the OME-XML, is meant.
    """
    first: Any = tiff.pages[0]
    page = _page_of_size(tiff, size)
    note = str(first.description or "")
    own = note if page is None else str(page.description or "") or note
    parts = [
        _ome(note, size),
        _aperio(own, size),
        _philips(note, size),
        _leica(note, size),
        _ventana(tiff),
        _imagej(note, page),
        _words(own),
        _tags(page),
    ]
    return Statements(
        tuple(statement for part in parts for statement in part.found),
        next((part.objective for part in parts if part.objective is not None), None),
        tuple(doubt for part in parts for doubt in part.doubts),
        tuple(text for part in parts for text in part.unusable),
        tuple(text for part in parts for text in part.lost),
    )


def _page_of_size(tiff: tifffile.TiffFile, size: tuple[int, int]) -> Any:
    for number, page in enumerate(_pages(tiff)):
        if number >= _MOST_PAGES:
            return None
        if (page.imagewidth, page.imagelength) == size:
            return page
    return None


def _pages(tiff: tifffile.TiffFile) -> Iterator[Any]:
    for page in tiff.pages:
        whole: Any = page.aspage()
        yield whole
        # Some writers put the scan itself below a page that holds its thumbnail.
        yield from (sub.aspage() for sub in whole.pages or ())


# --- OME-XML -------------------------------------------------------------------------------------


def _ome(note: str, size: tuple[int, int]) -> Statements:
    if "<OME" not in note or "Pixels" not in note:
        return Statements()
    try:
        root = ElementTree.fromstring(note.strip("\0 \r\n\t"))
    except (ElementTree.ParseError, ValueError):
        return Statements(doubts=("its OME-XML is damaged: the scale in it is lost",))
    images = [image for image in root.iterfind(".//{*}Image") if _pixels(image) is not None]
    fitting = [image for image in images if _ome_size(image) == size]
    if not fitting:
        sizes = ", ".join(f"{w} x {h}" for w, h in map(_ome_size, images)) or "nothing"
        return Statements(doubts=(f"its OME-XML describes {sizes} px, not this image",))
    values = [_ome_values(image) for image in fitting]
    stated = next((value for value in values if value != (None, None)), None)
    found = () if stated is None else (Statement(OME, *stated),)
    doubts = _ome_contradictions(values)
    unusable = _ome_unusable(fitting[0])
    lost = () if any(unit in text for text in unusable for unit in _NOT_CALIBRATED) else unusable
    return Statements(found, _ome_objective(root, fitting[0]), doubts, unusable, lost)


def _pixels(image: ElementTree.Element) -> ElementTree.Element | None:
    return image.find("{*}Pixels")


def _ome_size(image: ElementTree.Element) -> tuple[int, int]:
    pixels = _pixels(image)
    sides = (None, None) if pixels is None else (pixels.get("SizeX"), pixels.get("SizeY"))
    width, height = (int(side) if side and side.isdecimal() else 0 for side in sides)
    return width, height


def _ome_values(image: ElementTree.Element) -> tuple[float | None, float | None]:
    pixels = _pixels(image)
    if pixels is None:
        return None, None
    x, y = (
        _length(pixels.get(f"PhysicalSize{axis}"), pixels.get(f"PhysicalSize{axis}Unit", "um"))
        for axis in "XY"
    )
    return x, y


def _ome_contradictions(values: list[tuple[float | None, float | None]]) -> tuple[str, ...]:
    stated = {value for value in values if value != (None, None)}
    if len(stated) < 2:
        return ()
    written = " and ".join(f"{x or y:.5g}" for x, y in sorted(stated, key=str))
    return (f"the OME-XML states {written} um per pixel for images of this one size",)


def _ome_unusable(image: ElementTree.Element) -> tuple[str, ...]:
    pixels = _pixels(image)
    size = None if pixels is None else pixels.get("PhysicalSizeX")
    if pixels is None or size is None or _ome_values(image) != (None, None):
        return ()
    unit = pixels.get("PhysicalSizeXUnit", "\u00b5m")
    return (f"the OME-XML says {size[:20]} {unit[:20]!r}, which is not a length",)


def _ome_objective(root: ElementTree.Element, image: ElementTree.Element) -> float | None:
    objectives = {objective.get("ID"): objective for objective in root.iterfind(".//{*}Objective")}
    used = image.find("{*}ObjectiveSettings")
    if used is not None and used.get("ID") in objectives:
        return _positive(objectives[used.get("ID")].get("NominalMagnification"))
    powers = {objective.get("NominalMagnification") for objective in objectives.values()}
    return _positive(powers.pop()) if len(powers) == 1 else None


# --- Scanners ------------------------------------------------------------------------------------


def _aperio(note: str, size: tuple[int, int]) -> Statements:
    if not note.startswith("Aperio"):
        return Statements()
    head = note.partition("|")[0]
    sizes = [(int(w), int(h)) for w, h in _SIZES.findall(head[:1000])]
    value = _positive(_aperio_field(note, "MPP"))
    doubts: tuple[str, ...] = ()
    if value is not None and sizes and size not in sizes:
        doubts = (
            f"its Aperio description, with the scale, is of an image of {sizes[0][0]} x "
            f"{sizes[0][1]} px, but this one has {size[0]} x {size[1]}: was it resized?",
        )
    found = () if value is None else (Statement(APERIO, value, value),)
    return Statements(found, _positive(_aperio_field(note, "AppMag")), doubts)


def _aperio_field(note: str, name: str) -> str | None:
    found = re.search(_APERIO_FIELD.format(name), note)
    return found[1] if found else None


def _philips(note: str, size: tuple[int, int]) -> Statements:
    """Read DICOM_PIXEL_SPACING: mm between rows, then between columns, as in DICOM PS3.3."""
    if "DICOM_PIXEL_SPACING" not in note:
        return Statements()
    pattern = r"DICOM_PIXEL_SPACING\"[^>]*>([^<]*)<"
    spacings = []
    for text in re.findall(pattern, note):
        values = [_positive(number) for number in re.findall(r"[0-9.eE+-]+", text)]
        if len(values) == 2 and None not in values:
            spacings.append(values)
    if not spacings:
        return Statements()
    # Every level has its own; the finest is level 0's.
    y, x = min(spacings, key=lambda pair: max(side or 0.0 for side in pair))
    return Statements((Statement("Philips metadata", _mm(x), _mm(y)),))


def _mm(value: float | None) -> float | None:
    return None if value is None else value * 1e3


def _leica(note: str, size: tuple[int, int]) -> Statements:
    """Read an SCN collection: the extent of a view in nm, over its pixels."""
    if "<scn" not in note:
        return Statements()
    try:
        root = ElementTree.fromstring(note.strip("\0 \r\n\t"))
    except (ElementTree.ParseError, ValueError):
        return Statements()
    for image in root.iterfind(".//{*}image"):
        pixels, view = image.find("{*}pixels"), image.find("{*}view")
        if pixels is None or view is None:
            continue
        if (pixels.get("sizeX"), pixels.get("sizeY")) == (str(size[0]), str(size[1])):
            nm = (_positive(view.get("sizeX")), _positive(view.get("sizeY")))
            x, y = (n / (1e3 * px) if n else None for n, px in zip(nm, size, strict=True))
            power = image.find(".//{*}objective")
            return Statements(
                (Statement("Leica metadata", x, y),),
                None if power is None else _positive(power.text),
            )
    return Statements()


def _ventana(tiff: tifffile.TiffFile) -> Statements:
    first: Any = tiff.pages[0]
    tag = first.tags.get(_XMP)
    text = tag.value if tag is not None else b""
    xmp = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
    if "iScan" not in xmp:
        return Statements()
    scale = re.search(r"\bScanRes\s*=\s*\"([^\"]*)\"", xmp)
    power = re.search(r"\bMagnification\s*=\s*\"([^\"]*)\"", xmp)
    value = _positive(scale[1]) if scale else None
    found = () if value is None else (Statement("Ventana metadata", value, value),)
    return Statements(found, _positive(power[1]) if power else None)


# --- Descriptions and tags -----------------------------------------------------------------------


def _imagej(note: str, page: Any) -> Statements:
    if not note.startswith("ImageJ=") or page is None:
        return Statements()
    unit = re.search(r"^unit=(.*)$", note, re.MULTILINE)
    if unit is None:
        return Statements()
    name = _UNICODE_ESCAPE.sub(lambda code: chr(int(code[1], 16)), unit[1].strip())
    um = um_per_unit(name)
    if um is None:
        return Statements(unusable=(f"ImageJ's unit is {name[:20]!r}, which is not a length",))
    x, y = (_per_pixel(page, tag, um) for tag in (282, 283))
    if _is_placeholder(x, y):
        return Statements(unusable=(f"ImageJ's {x or y:.4g} um per pixel is a screen's",))
    return _one(Statement("ImageJ description", x, y))


def _words(note: str) -> Statements:
    if note.startswith(("Aperio", "ImageJ=")) or "<OME" in note:
        return Statements()
    data = _as_json(note)
    if data is not None:
        x, y = (
            _length(data.get(f"PhysicalSize{a}"), str(data.get(f"PhysicalSize{a}Unit", "um")))
            for a in "XY"
        )
        if x is not None or y is not None:
            return _one(Statement("TIFF description", x, y))
    sized = _SIZE_IN_WORDS.search(note)
    if sized is not None:
        value = _length(sized[1], sized[2])
        return _one(Statement("TIFF description", value, value))
    found = _IN_WORDS.search(note)
    value = _positive(found[1]) if found else None
    return _one(Statement("TIFF description", value, value))


def _as_json(note: str) -> dict[str, Any] | None:
    if not note.startswith("{"):
        return None
    try:
        data = json.loads(note)
    except (ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None


def _tags(page: Any) -> Statements:
    if page is None or (page.is_imagej and "unit=" in page.description):
        return Statements()
    unit = int(page.tags.valueof(296, 2) or 0)
    x, y = (_per_pixel(page, tag, _UM_PER_TAG_UNIT.get(unit)) for tag in (282, 283))
    if _is_placeholder(x, y):
        dpi = 25400 / (x or y or 1.0)
        return Statements(
            unusable=(f"its TIFF tags say {dpi:.4g} dpi, a screen's or printer's resolution",)
        )
    return _one(Statement(TAGS, x, y))


def _per_pixel(page: Any, tag: int, um: float | None) -> float | None:
    value = page.tags.valueof(tag)
    above, below = value if isinstance(value, tuple) and len(value) == 2 else (value, 1)
    if um is None or not above or not below:
        return None
    # Computed in this order, the digits are those of OpenSlide.
    return _positive(um / (float(above) / float(below)))


def _is_placeholder(x: float | None, y: float | None) -> bool:
    return any(value is not None and value > PLACEHOLDER_UM for value in (x, y))


def _one(statement: Statement) -> Statements:
    nothing = statement.x is None and statement.y is None
    return Statements() if nothing else Statements((statement,))


def _length(text: object, unit: str) -> float | None:
    number, um = read_number(text), um_per_unit(unit)
    return None if number is None or um is None else _positive(number * um)


def _positive(value: object) -> float | None:
    number = read_number(value)
    return number if number is not None and number > 0 else None


def open_tiff(path: Path) -> tifffile.TiffFile | None:
    """Open a TIFF by tifffile, None for other formats."""
    try:
        return tiff_file(path)
    except (tifffile.TiffFileError, OSError, ValueError):
        return None
