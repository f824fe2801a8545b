"""Masks that somebody drew: an image over the whole slide, or polygons."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from wsi_sampath.errors import WsiError
from wsi_sampath.slides.drawn_tissue import is_drawn, paint_tissue, read_tissue_areas

BoolArray = npt.NDArray[np.bool_]

_ASPECT_TOLERANCE = 0.03


def load_mask(
    path: str | Path,
    *,
    slide_size: tuple[int, int],
    mask_size: tuple[int, int],
    bounds_offset: tuple[float, float] = (0.0, 0.0),
) -> BoolArray:
    """Read a mask that says what to analyse.

    Parameters
    ----------
    path
        An image over the whole slide, of any size, nonzero where to analyse (transparent counts
        as zero); or GeoJSON (`.geojson`, `.json`, either with `.gz`, or a `.zip` of them) as
        QuPath writes it: annotated areas in level-0 pixels, less those of `Ignore*`.
    slide_size
        Width and height of level 0.
    mask_size
        Width and height of the mask to return.
    bounds_offset
        Added to GeoJSON coordinates: QuPath counts from the corner of the slide's bounds.

    Returns
    -------
    bool (height, width) of `mask_size`
        A pixel of an image counts if any part of it is set, one of a polygon if its centre is
        inside.

    Raises
    ------
    WsiError
        `bad-input` if the file cannot be read, holds no polygon, or has another shape than the
        slide.
    """
    path = Path(path)
    if is_drawn(path):
        areas, _ = read_tissue_areas(path)
        return paint_tissue(
            areas, slide_size=slide_size, mask_size=mask_size, bounds_offset=bounds_offset
        )
    return _read_image(path, slide_size, mask_size)


def _bad_mask(path: Path, why: str) -> WsiError:
    return WsiError("bad-input", f"cannot use this tissue mask: {why}", subject=str(path))


def _read_image(path: Path, slide_size: tuple[int, int], mask_size: tuple[int, int]) -> BoolArray:
    try:
        with Image.open(path) as image:
            set_pixels = _nonzero(image)
    except Image.DecompressionBombError as error:
        raise _bad_mask(path, "too many pixels; about 8 um per pixel is enough") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise _bad_mask(path, f"not a readable image ({error})") from error
    height, width = set_pixels.shape
    wanted = slide_size[0] / slide_size[1]
    # Half a pixel either way may be rounding.
    slack = _ASPECT_TOLERANCE + 0.5 / min(height, width)
    if abs(width / height / wanted - 1) > slack:
        sizes = f"{width}x{height} for a slide of {slide_size[0]}x{slide_size[1]}"
        raise _bad_mask(path, f"it must cover the whole slide, but has another shape ({sizes})")
    box = Image.fromarray(set_pixels.astype(np.float32)).resize(mask_size, Image.Resampling.BOX)
    resized: BoolArray = np.asarray(box) > 0
    return resized


def _nonzero(image: Image.Image) -> BoolArray:
    if image.mode in ("P", "PA", "LA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
    values = np.asarray(image)
    if values.ndim == 2:
        grey: BoolArray = values != 0
        return grey
    coloured: BoolArray = values[..., :3].max(axis=-1) != 0
    if values.shape[2] == 4:
        coloured &= values[..., 3] > 0
    return coloured
