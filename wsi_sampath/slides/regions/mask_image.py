"""What the pixels of a mask mean: one rule for the tissue to analyse and for labelled patches.

A mask holds *numbers* (grey, 1-bit, 16-bit, or the numbers of a palette) or *colours*. Of numbers
there are three kinds: 0 and 1; black and white, which may have soft edges and is cut at 128; and
labels, of which each number counts by itself. JPEG keeps no labels, only black and white.
Transparent pixels count as 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsi_sampath.errors import WsiError
from wsi_sampath.slides.pictures import Picture, read_picture

Numbers = NDArray[np.uint16]
Colours = NDArray[np.uint8]
BoolArray = NDArray[np.bool_]
Kind = Literal["empty", "ones", "black-white", "labels", "colours"]

TURNED = "turned upright, as its orientation tag says"
CUT = "compressed with losses, so cut into black and white at 128"
MIDDLE = 128
"""The value at which black ends and white begins."""
WHITE = 255
_LARGEST = 65535
_DEEP_WHITE = 65280
"""The least value of white in 16 bits: 255 of 8 bits, shifted."""
_GREY_TOLERANCE = 8
"""How far lossy compression moves the channels of a grey mask, and white."""
_RINGING = 16
"""How bright lossy compression makes black areas."""
_LEAST_AREAS = 0.05
"""Share of a mask's greys that lie in even areas: of soft edges none do, of labels most."""
_SHAPED_BY_PALETTE = ("GIF", "BMP")
"""Formats that hold greys as a palette in any order, which says nothing."""
_NAMED = 3
_REFUSED_ASPECT, _DOUBTFUL_ASPECT = 0.03, 0.01


@dataclass(frozen=True)
class Mask:
    """The pixels of a mask.

    Attributes
    ----------
    numbers
        uint16 (height, width), or None if the mask is coloured.
    colours
        uint8 (height, width, 3), or None for plain greys.
    lossy
        Whether compression has changed its values.
    turned
        Whether it was turned or mirrored, as its orientation tag says.
    notes
        How it was converted to be read.
    numbering
        A doubt about its numbers where they are used, or empty.
    """

    numbers: Numbers | None
    colours: Colours | None = None
    lossy: bool = False
    turned: bool = False
    notes: tuple[str, ...] = ()
    numbering: str = ""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        pixels = self.painted() if self.numbers is None else self.numbers
        return pixels.shape[1], pixels.shape[0]

    def painted(self, *, subject: str = "") -> Colours:
        """Return what the mask looks like, uint8 (height, width, 3).

        Raises
        ------
        WsiError
            ``bad-input`` for numbers that are not colours.
        """
        if self.colours is not None:
            return self.colours
        numbers = np.zeros((0, 0), np.uint16) if self.numbers is None else self.numbers
        numbers = eight_bits(numbers)
        if int(numbers.max(initial=0)) > WHITE:
            message = "mask holds 16-bit numbers, not colours"
            raise WsiError("bad-input", message, subject=subject)
        return np.repeat(numbers.astype(np.uint8)[..., None], 3, axis=-1)


def read_mask(path: Path) -> Mask:
    """Read the pixels of a mask file.

    Raises
    ------
    WsiError
        ``bad-input`` if it cannot be decoded, or its pixels have no meaning.
    """
    return mask_of(read_picture(path), subject=str(path))


def mask_of(picture: Picture, *, subject: str = "") -> Mask:
    """Return the numbers or colours of a mask.

    Raises
    ------
    WsiError
        ``bad-input`` for masks that are transparent all over or hold black on a transparent ground,
        for labels in 16-bit colours, and for numbers outside 0..65535.
    """
    if picture.deep and int(picture.pixels.max(initial=0)) < MIDDLE:
        message = "mask has 16 bits per channel; save it as 8 bits, or labels as grey"
        raise WsiError("bad-input", message, subject=subject)
    notes = []
    if picture.converted:
        notes.append(f"converted from {picture.converted} to RGB without a colour profile")
    if picture.inverted:
        notes.append("the file says that 0 is white, so its numbers are inverted")
    if picture.alpha is not None:
        notes.append("transparent parts counted as black (0)")
    pixels = _visible(picture, subject)
    numbers, colours, numbering = _values(picture, pixels, subject)
    return Mask(numbers, colours, picture.lossy, picture.turned, tuple(notes), numbering)


def mask_kind(mask: Mask) -> tuple[Kind, str]:
    """Return the kind of a mask and, for labels, the evidence."""
    if mask.numbers is None:
        return "colours", "colours"
    numbers = eight_bits(mask.numbers)
    noise = _RINGING if mask.lossy else 0
    largest = int(numbers.max(initial=0))
    if largest <= noise:
        return "empty", ""
    if largest == 1:
        return "ones", ""
    if not MIDDLE - 1 < largest <= WHITE:
        return "labels", f"labels up to {largest}"
    areas = _grey_areas(numbers, noise, largest - _GREY_TOLERANCE)
    if areas:
        return "labels", f"areas of {several(areas)}, not only black and white"
    return "black-white", ""


def black_and_white(numbers: Numbers) -> Numbers:
    """Return a black-and-white mask cut in the middle, as 0 and 255."""
    return np.where(eight_bits(numbers) >= MIDDLE, np.uint16(WHITE), np.uint16(0))


def eight_bits(numbers: Numbers) -> Numbers:
    """Return black and white of 16 bits as that of 8 bits, and other numbers unchanged."""
    largest = int(numbers.max(initial=0))
    if largest < _DEEP_WHITE or _grey_areas(numbers, 0, largest - 257 * _GREY_TOLERANCE):
        return numbers
    return (numbers >> 8).astype(np.uint16)


def several(names: list[str]) -> str:
    """Return a few of the names, and how many more there are."""
    shown = ", ".join(names[:_NAMED])
    return shown if len(names) <= _NAMED else f"{shown} and {len(names) - _NAMED} more"


def read_tissue(
    path: Path, *, slide_size: tuple[int, int], mask_size: tuple[int, int]
) -> tuple[BoolArray, tuple[str, ...]]:
    """Read an image over the whole slide of what to analyse: all that is not 0 (black).

    Parameters
    ----------
    path
        An image of any size.
    slide_size
        Width and height of level 0.
    mask_size
        Width and height of the mask to return.

    Returns
    -------
    mask
        bool (height, width) of `mask_size`, set where any part of a pixel is to be analysed.
    notes
        What the user should know about how it was read.

    Raises
    ------
    WsiError
        ``bad-input`` if the file cannot be read, or its shape differs from the slide's.
    """
    try:
        mask = read_mask(path)
        doubts = _check_shape(mask.size, slide_size)
        inside, reasons = _inside(mask)
    except WsiError as error:
        message = f"cannot use this tissue mask: {error.message}"
        raise WsiError("bad-input", message, subject=str(path)) from error
    if inside.all():
        reasons = (*reasons, "no part of it is black, so the whole slide is analysed")
    turned = (TURNED,) if mask.turned else ()
    sentences = (*turned, *mask.notes, *doubts, *reasons)
    notes = tuple(f"tissue mask {path.name}: {sentence}" for sentence in sentences)
    box = Image.fromarray(inside.astype(np.float32)).resize(mask_size, Image.Resampling.BOX)
    resized: BoolArray = np.asarray(box) > 0
    return resized, notes


def _inside(mask: Mask) -> tuple[BoolArray, tuple[str, ...]]:
    """Return where a mask is not 0, by its kind, and what is doubtful about that."""
    kind, why = mask_kind(mask)
    numbering = (mask.numbering,) if mask.numbering else ()
    if mask.numbers is None:
        return _coloured_inside(mask)
    if kind == "black-white":
        cut = (CUT,) if mask.lossy else ()
        return black_and_white(mask.numbers) > 0, (*numbering, *cut)
    if kind == "empty":
        return np.zeros(mask.numbers.shape, np.bool_), numbering
    if mask.lossy:
        message = f"it holds {why}, and lossy compression does not keep labels; save it as PNG"
        raise WsiError("bad-input", message)
    numbers = [number for number in np.flatnonzero(np.bincount(mask.numbers.ravel())) if number]
    if len(numbers) > 1:
        shown = several([str(number) for number in numbers])
        numbering = (*numbering, f"it holds the numbers {shown}: all but 0 is analysed")
    inside: BoolArray = mask.numbers > 0
    return inside, numbering


def _coloured_inside(mask: Mask) -> tuple[BoolArray, tuple[str, ...]]:
    brightest = mask.painted().max(axis=-1)
    if mask.lossy:
        inside: BoolArray = brightest >= max(int(brightest.max(initial=0)) // 2, _RINGING)
        return inside, ("it is coloured and compressed with losses: what is bright is analysed",)
    inside = brightest > 0
    return inside, ("it is coloured: all that is not black is analysed",)


def _check_shape(size: tuple[int, int], slide_size: tuple[int, int]) -> tuple[str, ...]:
    """Refuse a mask whose shape differs from the slide's; warn where it may be rounding."""
    off = size[0] / size[1] / (slide_size[0] / slide_size[1]) - 1
    # Half a pixel either way may be rounding.
    rounding = 0.5 / min(size)
    sizes = f"{size[0]}x{size[1]} for a slide of {slide_size[0]}x{slide_size[1]}"
    if abs(off) > _REFUSED_ASPECT + rounding:
        raise WsiError(
            "bad-input", f"it must cover the whole slide, but has another shape ({sizes})"
        )
    if abs(off) > _DOUBTFUL_ASPECT + rounding:
        return (f"its shape is {100 * abs(off):.1f} % off that of the slide ({sizes})",)
    return ()


def _visible(picture: Picture, subject: str) -> NDArray[Any]:
    """Return the pixels with 0 where they are transparent."""
    pixels = picture.pixels
    if picture.hidden:
        if (pixels != pixels[:1, :1]).any():
            message = "mask is transparent all over; save it opaque"
            raise WsiError("bad-input", message, subject=subject)
        # Nothing is drawn, as on the mask of a picture without any of its objects.
        return np.zeros_like(pixels)
    if picture.alpha is None:
        return pixels
    opaque = is_opaque(picture.alpha)
    if not pixels[opaque].any():
        message = "mask is black (0) on a transparent ground; save it opaque, white on black"
        raise WsiError("bad-input", message, subject=subject)
    visible = pixels.copy()
    visible[~opaque] = 0
    return visible


def is_opaque(alpha: NDArray[np.uint8]) -> BoolArray:
    """Return where a mask is more opaque than transparent."""
    opaque: BoolArray = 2 * alpha.astype(np.uint16) > alpha.max(initial=0)
    return opaque


def _values(
    picture: Picture, pixels: NDArray[Any], subject: str
) -> tuple[Numbers | None, Colours | None, str]:
    """Return numbers, colours, and what is doubtful about the numbers."""
    if pixels.ndim == 3:
        return _grey(pixels), pixels, ""
    numbers = _whole(pixels, subject)
    if picture.palette is None:
        return numbers, None, ""
    return _indexed(picture, numbers)


def _grey(rgb: Colours) -> Numbers | None:
    """Return the greys of a picture whose channels are equal, or nearly so."""
    spread = rgb.max(axis=-1) - rgb.min(axis=-1)
    if int(spread.max(initial=0)) > _GREY_TOLERANCE:
        return None
    return rgb[..., 1].astype(np.uint16)


def _whole(values: NDArray[Any], subject: str) -> Numbers:
    """Return whole numbers; shares of 1 become shares of white."""
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            raise WsiError("bad-input", "mask holds numbers that are not finite", subject=subject)
        values = _from_fractions(values)
    low, high = (values.min(), values.max()) if values.size else (0, 0)
    if low < 0 or high > _LARGEST:
        raise WsiError("bad-input", "mask holds numbers outside 0..65535", subject=subject)
    whole = values.astype(np.uint16)
    if values.dtype.kind == "f" and (whole != values).any():
        message = "mask holds fractions, which are not labels; save it as whole numbers"
        raise WsiError("bad-input", message, subject=subject)
    return whole


def _from_fractions(values: NDArray[Any]) -> NDArray[Any]:
    whole: NDArray[Any] = np.rint(values)
    if (whole == values).all() or values.min() < 0:
        return values
    if values.max() <= 1:
        shares: NDArray[Any] = np.rint(values * WHITE)
        return shares
    # Soft edges of an enlarged black-and-white mask.
    return whole if MIDDLE <= values.max() <= WHITE + 0.5 else values


def _indexed(picture: Picture, numbers: Numbers) -> tuple[Numbers, Colours, str]:
    """Read a palette: its numbers count, unless the format needs a palette for greys."""
    table = np.zeros((256, 3), np.uint8)
    if picture.palette is not None:
        table[: len(picture.palette)] = picture.palette
    colours = table[picture.pixels]
    if picture.alpha is not None:
        colours[~is_opaque(picture.alpha)] = 0
    used = np.flatnonzero(np.bincount(picture.pixels.ravel(), minlength=256))
    grey = bool((np.ptp(table[used].astype(np.int16), axis=-1) == 0).all())
    if grey and picture.kind in _SHAPED_BY_PALETTE:
        return colours[..., 1].astype(np.uint16), colours, ""
    return numbers, colours, _numbering(table, used)


def _numbering(table: Colours, used: NDArray[np.intp]) -> str:
    """Return a doubt where the colours of a palette seem to contradict its numbers."""
    brightness = table.astype(np.int32).sum(axis=-1)
    others = used[used > 0]
    if not others.size or brightness[0] <= brightness[others].min():
        return ""
    name = "#" + "".join(f"{channel:02x}" for channel in table[0])
    return f"its numbers count, not the colours of its palette, so {name} is 0"


def _grey_areas(numbers: Numbers, black: int, white: int) -> list[str]:
    """Return the numbers between black and white that fill areas, unlike those of soft edges."""
    inner = numbers[1:-1, 1:-1]
    grey = (inner > black) & (inner < white)
    even = grey.copy()
    for beside in (numbers[:-2, 1:-1], numbers[2:, 1:-1], numbers[1:-1, :-2], numbers[1:-1, 2:]):
        even &= inner == beside
    if np.count_nonzero(even) <= _LEAST_AREAS * np.count_nonzero(grey):
        return []
    return [str(value) for value in np.unique(inner[even])]
