"""Image files as people have them, in one form: upright pixels, and what else they state.

The one reader of images and masks. It decides what does not depend on what the pixels mean:
orientation, number of pages, depth, transparency, palette. What a mask's pixels mean is decided in
`mask_image`. Gamma and colour profiles change how a picture is shown, not what it holds, and are
ignored.
"""

from __future__ import annotations

import struct
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from wsi_sampath.errors import WsiError

_SWAPPING = (5, 6, 7, 8)
"""Orientations that swap width and height."""
_UPRIGHT = 1
_LOSSY_TIFF = {6, 7, 33003, 33005, 34892}
"""TIFF compressions that are JPEG, or may be a lossy JPEG 2000 or DNG."""
_NEW_SUBFILE_TYPE, _OLD_SUBFILE_TYPE = 254, 255
_COMPRESSION, _PHOTOMETRIC = 259, 262
_WHITE_IS_ZERO = 0
_WEBP_HEAD = 4096
_REDUCED = 1
"""Bit of NewSubfileType: a page that shows another one, smaller."""
_OLD_REDUCED = 2
_LEAST_OF_DEEP = 64
"""High byte that the brightest pixel of a true 16-bit picture reaches: below, 14 bits are used."""
# Damaged files: what Pillow's and tifffile's decoders raise on them.
_DECODING = (
    *(OSError, ValueError, SyntaxError, EOFError, KeyError, IndexError, TypeError),
    *(AttributeError, OverflowError, ZeroDivisionError, NotImplementedError, RuntimeError),
    *(AssertionError, MemoryError, struct.error, Image.DecompressionBombError),
)


@dataclass(frozen=True)
class Picture:
    """One image file, decoded and upright.

    Attributes
    ----------
    pixels
        (height, width) numbers of any type, 1-bit pictures as 0 and 255; or uint8
        (height, width, 3) colours.
    alpha
        uint8 (height, width), 255 opaque; None where it is the same everywhere.
    palette
        uint8 (n, 3): the colours that `pixels` are numbers of; None where it has none.
    kind, mode
        Format of the file, and of its pixels, as Pillow names them.
    lossy
        Whether the compression changes values, so that a mask has ringing at its edges.
    deep
        Whether the file holds more than 8 bits per channel, of which `pixels` has the upper 8.
    turned
        Whether the file had to be turned or mirrored, as its orientation tag says.
    inverted
        Whether the file says that 0 is white, so that its numbers were inverted.
    hidden
        Whether the picture is transparent all over.
    """

    pixels: NDArray[Any]
    alpha: NDArray[np.uint8] | None = None
    palette: NDArray[np.uint8] | None = None
    kind: str = ""
    mode: str = ""
    lossy: bool = False
    deep: bool = False
    turned: bool = False
    inverted: bool = False
    hidden: bool = False

    @property
    def plain(self) -> bool:
        """Whether the file itself holds these pixels and nothing else: it can be passed on."""
        as_usual = self.mode == "RGB" and self.kind in ("PNG", "JPEG", "MPO")
        return as_usual and self.alpha is None and not (self.turned or self.deep or self.hidden)

    @property
    def converted(self) -> str:
        """The colour space from which RGB was computed, or empty."""
        return self.mode if self.mode in ("CMYK", "LAB", "HSV") else ""


def read_picture(path: Path) -> Picture:
    """Decode an image file.

    Raises
    ------
    WsiError
        ``bad-input`` if it cannot be decoded, is too large, or has several pages.
    """
    if path.exists() and not path.is_file():
        raise _bad(path, "cannot be read: it is not a file")
    try:
        # Regions of BCSS are larger than Pillow's warning limit; its hard limit still applies.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                with Image.open(path) as opened:
                    return picture_of(opened, subject=str(path))
            except UnidentifiedImageError:
                return _from_tiff(path)
    except Image.DecompressionBombError as error:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 1_000_000
        raise _bad(path, f"cannot be read: it claims over {limit} million pixels") from error
    except MemoryError as error:
        raise _bad(path, "cannot be read: it does not fit into memory") from error
    except _DECODING as error:
        message = f"cannot be read: not a readable image ({_reason(error)})"
        raise _bad(path, message) from error


def picture_size(path: Path) -> tuple[int, int]:
    """Return width and height of an image file as `read_picture` gives it, without decoding it.

    Raises
    ------
    WsiError
        ``bad-input`` if it is not an image.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as opened:
                width, height = opened.size
                # Pillow has exchanged those of a TIFF already.
                swapped = opened.format != "TIFF" and _orientation(opened) in _SWAPPING
    except _DECODING as error:
        message = f"cannot be read: not a readable image ({_reason(error)})"
        raise _bad(path, message) from error
    return (height, width) if swapped else (width, height)


def picture_of(opened: Image.Image, *, subject: str = "") -> Picture:
    """Return what an opened image holds.

    Raises
    ------
    WsiError
        ``bad-input`` if it has several pages.
    """
    pages = _pages(opened)
    if pages > 1:
        message = f"holds {pages} pages or frames; save the one that is meant by itself"
        raise WsiError("bad-input", message, subject=subject)
    kind, lossy, deep = opened.format or "", _is_lossy(opened), _is_deep(opened)
    inverted = getattr(opened, "tag_v2", {}).get(_PHOTOMETRIC) == _WHITE_IS_ZERO
    turned = _orientation(opened) != _UPRIGHT
    opened.load()
    upright = ImageOps.exif_transpose(opened) if turned else opened
    pixels, alpha, palette = _planes(upright)
    hidden = alpha is not None and not alpha.any()
    if alpha is not None and alpha.min() == alpha.max():
        alpha = None
    return Picture(
        pixels,
        alpha,
        palette,
        kind,
        upright.mode,
        lossy=lossy,
        deep=deep,
        turned=turned,
        inverted=inverted,
        hidden=hidden,
    )


def rgb_of(picture: Picture, *, subject: str = "") -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Return a picture of tissue as uint8 (height, width, 3), and how it was converted.

    Colours of a palette are looked up, grey is repeated, transparent parts are laid on white.

    Raises
    ------
    WsiError
        ``bad-input`` for more than 8 bits that cannot be scaled with certainty, and for a picture
        that is transparent all over.
    """
    if picture.hidden:
        raise WsiError("bad-input", "is transparent all over; save it opaque", subject=subject)
    notes = []
    if picture.converted:
        notes.append(f"converted from {picture.converted} to RGB without a colour profile")
    rgb = _coloured(picture, subject)
    if picture.deep:
        _check_depth(rgb, subject)
        notes.append("brought from 16 to 8 bits per channel")
    if picture.alpha is not None:
        rgb = _on_white(rgb, picture.alpha)
        notes.append("transparent parts laid on white")
    return rgb, tuple(notes)


def _planes(
    image: Image.Image,
) -> tuple[NDArray[Any], NDArray[np.uint8] | None, NDArray[np.uint8] | None]:
    """Return pixels, alpha and palette."""
    alpha = _alpha(image)
    if image.mode in ("P", "PA"):
        palette = np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
        indices = np.asarray(image)
        return indices if indices.ndim == 2 else indices[..., 0], alpha, palette
    if image.mode == "La":
        image = image.convert("LA")
    if image.mode in ("1", "LA"):
        image = image.convert("L")
    if image.mode in ("L", "I", "F") or image.mode.startswith("I;16"):
        return np.asarray(image), alpha, None
    if image.mode == "RGBa":
        image = image.convert("RGBA")
    return np.asarray(image.convert("RGB")), alpha, None


def _alpha(image: Image.Image) -> NDArray[np.uint8] | None:
    if image.mode in ("RGBA", "RGBa", "LA", "La", "PA"):
        return np.asarray(image.getchannel("A" if image.mode.endswith("A") else "a"))
    if "transparency" in image.info and image.mode in ("1", "L", "P", "RGB"):
        return np.asarray(image.convert("RGBA").getchannel("A"))
    return None


def _pages(opened: Image.Image) -> int:
    """Return how many pictures a file holds that are not smaller copies of the first."""
    frames = getattr(opened, "n_frames", 1)
    if frames == 1 or opened.format == "MPO":
        # Cameras put previews behind a photograph and call it MPO.
        return 1
    if opened.format != "TIFF":
        return int(frames)
    others = [page for page in range(1, frames) if not _is_reduced(opened, page)]
    opened.seek(0)
    return 1 + len(others)


def _is_reduced(opened: Any, page: int) -> bool:  # noqa: ANN401 - Pillow's TIFF
    opened.seek(page)
    tags = opened.tag_v2
    return bool(int(tags.get(_NEW_SUBFILE_TYPE, 0)) & _REDUCED) or (
        tags.get(_OLD_SUBFILE_TYPE) == _OLD_REDUCED
    )


def _orientation(opened: Image.Image) -> int:
    try:
        found = opened.getexif().get(ExifTags.Base.Orientation, _UPRIGHT)
    except _DECODING:
        # Broken EXIF data say nothing of the pixels.
        return _UPRIGHT
    return found if found in range(_UPRIGHT, 9) else _UPRIGHT


def _is_lossy(opened: Image.Image) -> bool:
    if opened.format == "TIFF":
        return getattr(opened, "tag_v2", {}).get(_COMPRESSION) in _LOSSY_TIFF
    if opened.format == "WEBP":
        return not _is_lossless_webp(opened)
    return opened.format in ("JPEG", "MPO", "JPEG2000", "AVIF")


def _is_lossless_webp(opened: Any) -> bool:  # noqa: ANN401 - Pillow's WebP
    with Path(opened.filename).open("rb") as file:
        return b"VP8L" in file.read(_WEBP_HEAD)


def _is_deep(opened: Image.Image) -> bool:
    """Return whether Pillow will keep the upper 8 of 16 bits per channel."""
    if opened.mode.startswith("I"):
        return False
    return any(";16" in str(part.args) for part in getattr(opened, "tile", ()))


def _from_tiff(path: Path) -> Picture:
    """Read formats that Pillow does not know but tifffile does, such as 64-bit numbers."""
    with tifffile.TiffFile(path) as opened:
        pages = [page for page in opened.pages if not _subfile_type(page) & _REDUCED]
        if len(pages) > 1:
            raise _bad(path, f"holds {len(pages)} pages; save the one that is meant by itself")
        page = pages[0]
        if page.ndim != 2 or page.size > 2 * (Image.MAX_IMAGE_PIXELS or page.size):
            raise ValueError(f"its pixels are of the shape {page.shape}")
        values = page.asarray()
        if values.shape != page.shape or not values.size:
            raise ValueError("its pixels are missing")
        orientation = int(page.tags.valueof("Orientation", _UPRIGHT))
        photometric = int(page.photometric)
    if orientation != _UPRIGHT or photometric == _WHITE_IS_ZERO:
        raise ValueError("it is to be turned or inverted; save its numbers as they are shown")
    return Picture(values * np.uint8(255) if values.dtype == bool else values, kind="TIFF")


def _subfile_type(page: Any) -> int:  # noqa: ANN401 - tifffile's page
    return int(page.tags.valueof("NewSubfileType", 0))


def _coloured(picture: Picture, subject: str) -> NDArray[np.uint8]:
    pixels = picture.pixels
    if pixels.ndim == 3:
        return pixels
    if pixels.dtype != np.uint8:
        # Pillow would cut the rest off rather than scale.
        message = "is grey with more than 8 bits; save it as 8 bits (ImageJ: Image > Type > 8-bit)"
        raise WsiError("bad-input", message, subject=subject)
    if picture.palette is None:
        return np.repeat(pixels[..., None], 3, axis=-1)
    table = np.zeros((256, 3), np.uint8)
    table[: len(picture.palette)] = picture.palette
    found: NDArray[np.uint8] = table[pixels]
    return found


def _check_depth(rgb: NDArray[np.uint8], subject: str) -> None:
    if int(rgb.max(initial=0)) < _LEAST_OF_DEEP:
        message = (
            "has 16 bits per channel, of which only the lower ones seem to be used; save it as 8 "
            "bits per channel"
        )
        raise WsiError("bad-input", message, subject=subject)


def _on_white(rgb: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> NDArray[np.uint8]:
    share = alpha[..., None].astype(np.float32) / 255
    laid: NDArray[np.uint8] = (rgb * share + 255 * (1 - share)).round().astype(np.uint8)
    return laid


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _bad(path: Path, message: str) -> WsiError:
    return WsiError("bad-input", message, subject=str(path))
