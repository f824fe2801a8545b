"""What the samples of a TIFF page mean, and how they become 8-bit RGB."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsi_sampath.slides.readers.base import RefusedError, Rgb, TileError, flatten
from wsi_sampath.slides.readers.metadata import WHITE

Kind = Literal["rgb", "grey", "palette", "cmyk", "ycbcr"]
Alpha = Literal["none", "straight", "premultiplied"]
Raw = NDArray[Any]

_COLOURS = {"rgb": 3, "grey": 1, "palette": 1, "cmyk": 4, "ycbcr": 3}
# Numbers of the TIFF tags PhotometricInterpretation and ExtraSamples.
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _SEPARATED, _YCBCR = 0, 1, 2, 3, 5, 6
_STRANGE = {4: "a transparency mask", 8: "CIELab", 9: "ICCLab", 10: "ITULab"}
_PREMULTIPLIED, _STRAIGHT = 1, 2
_JPEG, _JPEG2000 = (6, 7), (33003, 33005, 34712)
_USUAL_BITS = (8, 10, 12, 14, 16)
# Glass is bright and tissue is not black: a grey picture darker than this is not a stained section.
_DARK = 64


@dataclass(frozen=True, eq=False)
class Samples:
    """How samples become RGB.

    Attributes
    ----------
    kind
        The kind of the samples.
    bits
        Bits of a sample, or those of them that are used.
    alpha
        The kind of the sample after the colours; further ones are left out.
    white_is_zero
        Whether grey is stored as a negative.
    palette
        uint8 (n, 3) for `kind` palette.
    assembled
        Whether it is only a guess that three grey planes are RGB.
    unnamed
        Number of samples after the colours that the file does not describe.
    order
        Which samples are red, green and blue.
    """

    kind: Kind
    bits: int
    alpha: Alpha = "none"
    white_is_zero: bool = False
    palette: NDArray[np.uint8] | None = None
    assembled: bool = False
    unnamed: int = 0
    order: tuple[int, int, int] = (0, 1, 2)

    @property
    def n_colours(self) -> int:
        """Samples that are colours."""
        return _COLOURS[self.kind]

    @property
    def is_plain(self) -> bool:
        """Whether this is 8-bit RGB, which every reader turns into the same pixels."""
        usual = (self.kind, self.bits, self.alpha, self.unnamed) == ("rgb", 8, "none", 0)
        return usual and self.order == (0, 1, 2)

    def is_like(self, other: Samples) -> bool:
        """Return whether two levels may belong to one picture."""
        return (self.kind, self.alpha, self.white_is_zero, self.unnamed) == (
            other.kind,
            other.alpha,
            other.white_is_zero,
            other.unnamed,
        )

    def rgb(self, raw: Raw) -> Rgb:
        """Turn (h, w, samples) into uint8 (h, w, 3).

        Raises
        ------
        TileError
            Where samples are larger than `bits` allow.
        """
        if self.is_plain:
            plain: Rgb = np.ascontiguousarray(raw[..., :3])
            return plain
        colours = self._colours(raw)
        if self.alpha == "none":
            return colours
        alpha = self._to_8_bits(raw[..., self.n_colours : self.n_colours + 1])
        if self.alpha == "premultiplied":
            mixed: Rgb = np.minimum(colours + (255 - alpha.astype(np.uint16)), 255).astype(np.uint8)
            return mixed
        return flatten(np.concatenate([colours, alpha], -1), WHITE)

    def _colours(self, raw: Raw) -> Rgb:
        colours = raw[..., : self.n_colours]
        if self.kind == "rgb" and self.order != (0, 1, 2):
            colours = colours[..., self.order]
        if self.palette is not None:
            return self.palette[np.minimum(colours[..., 0], len(self.palette) - 1)]
        colours = self._to_8_bits(colours)
        if self.kind == "grey":
            colours = np.repeat(255 - colours if self.white_is_zero else colours, 3, -1)
        if self.kind == "cmyk":
            ink = 255 - colours.astype(np.uint16)
            colours = ((ink[..., :3] * ink[..., 3:] + 127) // 255).astype(np.uint8)
        if self.kind == "ycbcr":
            image = Image.fromarray(np.ascontiguousarray(colours), "YCbCr")
            colours = np.asarray(image.convert("RGB"))
        return np.ascontiguousarray(colours)

    def _to_8_bits(self, values: Raw) -> NDArray[np.uint8]:
        if self.bits == 8 and values.dtype == np.uint8:
            return values
        most = (1 << self.bits) - 1
        if int(values.max(initial=0)) > most:
            raise TileError(f"samples are larger than the {self.bits} bits that others use")
        scaled = (values.astype(np.uint32) * 510 + most) // (2 * most)
        return scaled.astype(np.uint8)


def samples_of(planes: Sequence[Any]) -> Samples:
    """Read from the tags of a page, or of three grey ones, what its samples are.

    Raises
    ------
    RefusedError
        Where they cannot be turned into RGB, saying what they are.
    """
    page = planes[0]
    _check_numbers(page)
    bits = int(page.bitspersample)
    if len(planes) == 3:
        return Samples("rgb", bits, assembled=True)
    kind = _kind(page)
    guessed = kind == "rgb" and page.photometric == _BLACK_IS_ZERO
    extra = int(page.samplesperpixel) - _COLOURS[kind]
    if extra < 0:
        raise RefusedError(f"it has {page.samplesperpixel} samples where {kind} needs more")
    stated = [int(kind) for kind in page.extrasamples or ()]
    alpha: Alpha = "none"
    if extra and stated[:1] == [_STRAIGHT]:
        alpha = "straight"
    if extra and stated[:1] == [_PREMULTIPLIED]:
        alpha = "premultiplied"
    return Samples(
        kind,
        bits,
        alpha,
        white_is_zero=page.photometric == _WHITE_IS_ZERO,
        palette=_palette(page) if kind == "palette" else None,
        assembled=guessed,
        unnamed=extra - (alpha != "none"),
    )


def _check_numbers(page: Any) -> None:
    bits = page.bitspersample
    if isinstance(bits, tuple) or page.dtype is None:
        raise RefusedError(f"its samples have {bits} bits, not all the same number")
    if bits < 8 and page.photometric != _PALETTE:
        raise RefusedError(f"its samples have {bits} bit{'s' * (bits > 1)}: a mask, not a picture")
    if page.dtype.kind == "f":
        raise RefusedError(f"its samples are {bits}-bit floating-point numbers, not 8-bit colours")
    if page.dtype.kind != "u" or page.dtype.itemsize > 2:
        raise RefusedError(f"its samples are {page.dtype} numbers, not 8-bit colours")


def _kind(page: Any) -> Kind:
    photometric, samples = int(page.photometric), int(page.samplesperpixel)
    jpeg = page.compression in _JPEG
    if photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO):
        if samples in (1, 2) or page.extrasamples and page.extrasamples[0] != 0:
            return "grey"
        if samples == 3 and photometric == _BLACK_IS_ZERO:
            return "rgb"
        raise RefusedError(f"it holds {samples} grey channels, not red, green, blue")
    if photometric == _RGB:
        return "rgb"
    if photometric == _PALETTE and samples == 1:
        return "palette"
    if photometric == _SEPARATED:
        if jpeg or samples != 4 or page.bitspersample != 8 or page.tags.valueof(332, 1) != 1:
            raise RefusedError("its colours are printing inks (CMYK in JPEG, or others), not RGB")
        return "cmyk"
    if photometric == _YCBCR:
        if jpeg or page.compression in _JPEG2000:
            return "rgb"
        if tuple(page.tags.valueof(530, (2, 2))) != (1, 1):
            raise TileError("YCbCr with fewer colours than grey values is not read directly")
        if page.bitspersample == 8 and samples == 3:
            return "ycbcr"
    what = _STRANGE.get(photometric, f"photometric interpretation {photometric}")
    raise RefusedError(f"its colours are {what}, not RGB")


def _palette(page: Any) -> NDArray[np.uint8]:
    colours = np.asarray(page.colormap)
    # Some writers store 8-bit colours where 16-bit ones belong.
    eight = colours if colours.max(initial=0) < 256 else colours >> 8
    return np.ascontiguousarray(eight.T.astype(np.uint8))


def settle(samples: Samples, tiles: Sequence[Raw]) -> tuple[Samples, tuple[str, ...]]:
    """Decide by some tiles what the tags leave open.

    Parameters
    ----------
    samples
        As stated by the tags.
    tiles
        (h, w, samples) each, of places with much detail, and of others.

    Returns
    -------
    (Samples, tuple of str)
        The samples as decided, and what the user should know about them.

    Raises
    ------
    RefusedError
        Where one grey channel, or three without names, are dark as fluorescence is.
    """
    if samples.is_plain and not samples.assembled:
        return samples, ()
    samples, warnings = _used_bits(samples, tiles)
    samples, more = _meaning_of_alpha(samples, tiles)
    warnings += more
    if samples.unnamed:
        warnings += (
            f"it has {samples.n_colours + samples.unnamed + (samples.alpha != 'none')} samples "
            f"per pixel; those after the first {samples.n_colours} are left out",
        )
    if samples.kind == "cmyk":
        warnings += ("its colours are printing inks (CMYK), turned into RGB without a profile",)
    if samples.kind == "grey" or samples.assembled:
        brightness = np.mean([samples.rgb(tile).mean() for tile in tiles]) if tiles else 255
        if brightness < _DARK:
            raise RefusedError(
                "its grey channels are dark as in fluorescence; this is not a stained section"
            )
    if samples.kind == "grey":
        warnings += ("it is grey: one channel, not the colours of a stained section",)
    return samples, warnings


def _used_bits(samples: Samples, tiles: Sequence[Raw]) -> tuple[Samples, tuple[str, ...]]:
    if samples.bits <= 8 or samples.kind == "palette":
        return samples, ()
    most = max((int(tile[..., : samples.n_colours].max(initial=0)) for tile in tiles), default=0)
    needed = most.bit_length()
    used = next(bits for bits in _USUAL_BITS if bits >= needed)
    if used >= samples.bits or most == 0:
        return samples, ()
    return replace(samples, bits=used), (
        f"its samples have {samples.bits} bits, of which {used} are used: they are scaled to the "
        f"brightness of {used}-bit samples",
    )


def _meaning_of_alpha(samples: Samples, tiles: Sequence[Raw]) -> tuple[Samples, tuple[str, ...]]:
    """Use an alpha channel only where it carries information."""
    if samples.alpha == "none" or not tiles:
        return samples, ()
    opaque = (1 << samples.bits) - 1
    n = samples.n_colours
    values = np.concatenate([np.unique(tile[..., n]) for tile in tiles])
    if values.min() != values.max() or values.max() >= opaque:
        return samples, ()
    if not any(np.ptp(tile[..., :n], axis=(0, 1)).any() for tile in tiles):
        return samples, ("it is transparent all over: there is nothing to see in it",)
    return replace(samples, alpha="none"), (
        f"its alpha channel is {values.max()} of {opaque} all over; it is left out of account",
    )
