"""Tissue found by the colours of a low-resolution image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import ndimage
from skimage import filters

from wsi_sampath.slides.regions.glass import (
    LEAST_GLASS,
    BoolArray,
    FloatArray,
    UInt8Array,
    even_places,
    glass_colour,
    is_dark_field,
    optical_density,
)

Method = Literal["otsu", "none"]

_SMOOTH_UM = 6.0
_MARGIN_UM = 8.0
# Decadic optical density. Bare glass stays below 0.015 after smoothing, the palest stroma and
# mucin reach 0.03. Otsu's threshold alone splits bare glass, and gives up the pale half of a dark
# slide: a part of it is taken, within bounds, of which the lower one follows the glass's noise.
_LOWEST_CUTS, _HIGHEST_CUT = (0.015, 0.022), 0.035
_OTSU_SHARE, _NOISE_FACTOR = 0.4, 5.0
_ALL_TISSUE = 0.08
_BLACK, _NEUTRAL = 60, 18
_PEN_REACH_UM = 48.0


@dataclass(frozen=True)
class StainedTissue:
    """Tissue as it was found.

    Attributes
    ----------
    mask
        bool (h, w).
    marked
        bool (h, w): black borders and marker strokes with their rims; empty on a dark-field image.
    threshold
        Of the optical density; None where none was needed, since nothing or everything is tissue.
    """

    mask: BoolArray
    marked: BoolArray
    threshold: float | None = None


def tissue_mask(
    rgb: UInt8Array,
    *,
    mpp_x: float,
    mpp_y: float,
    method: Method = "otsu",
    min_area_um2: float = 8_000.0,
    max_hole_um2: float = 10_000.0,
) -> BoolArray:
    """Return the mask that `stained_tissue` finds, or everything for the method ``none``."""
    _check(rgb)
    if method == "none":
        return np.ones(rgb.shape[:2], np.bool_)
    found = stained_tissue(
        rgb, mpp_x=mpp_x, mpp_y=mpp_y, min_area_um2=min_area_um2, max_hole_um2=max_hole_um2
    )
    return found.mask


def stained_tissue(
    rgb: UInt8Array,
    *,
    mpp_x: float,
    mpp_y: float,
    min_area_um2: float = 8_000.0,
    max_hole_um2: float = 10_000.0,
    threshold: float | None = None,
) -> StainedTissue:
    """Find stained tissue on a bright-field image.

    Stain is distinguished from grey dirt, black borders and markers by the colour of its density,
    on which Otsu's threshold is taken, within bounds: bare glass gives an empty mask, an image
    full of tissue a full one, and a dark-field (fluorescence) image an empty one. Blue, green,
    red and black marker strokes are not tissue, nor is the tissue that they hide.

    Parameters
    ----------
    rgb
        uint8 (h, w, 3), best at about 8 microns per pixel.
    mpp_x, mpp_y
        Microns per pixel of this image.
    min_area_um2
        Smaller pieces are dropped.
    max_hole_um2
        Smaller holes are filled, unless a marker makes them; larger ones are glass.
    threshold
        Optical density above which stain is tissue; None chooses it by the image.

    Returns
    -------
    StainedTissue
        With a margin of about one 8-um pixel, so that the edges of tissue are inside. Gaps
        narrower than about four such pixels count as tissue.

    Raises
    ------
    ValueError
        If the image is not uint8 (h, w, 3).
    """
    _check(rgb)
    nothing = np.zeros(rgb.shape[:2], np.bool_)
    if not rgb.size:
        return StainedTissue(~nothing, nothing)
    flat = even_places(rgb)
    glass = glass_colour(rgb, flat)
    if is_dark_field(rgb):
        return StainedTissue(nothing, nothing)
    pixel_um2, pixel_um = mpp_x * mpp_y, float(np.sqrt(mpp_x * mpp_y))
    density = optical_density(rgb, glass)
    marked = _artefacts(rgb, density, pixel_um)
    # Black is dense enough to bleed into its neighbours when smoothed.
    density[:, marked] = 0
    stain = _stain(density, (_SMOOTH_UM / mpp_y, _SMOOTH_UM / mpp_x))
    cut = threshold
    if cut is None:
        cut = _cut(stain[~marked], _glass_noise(stain, flat & ~marked))
    mask = (stain > cut) & ~marked
    mask = _tidy(mask, marked, pixel_um, min_area_um2 / pixel_um2, max_hole_um2 / pixel_um2)
    return StainedTissue(mask, marked, cut if cut > 0 else None)


def _check(rgb: UInt8Array) -> None:
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
        raise ValueError(f"expected uint8 (h, w, 3), not {rgb.dtype} {rgb.shape}")


def _stain(density: FloatArray, sigma: tuple[float, float]) -> FloatArray:
    """Colour of the optical density plus a little of its strength, smoothed."""
    smooth = np.stack([ndimage.gaussian_filter(plane, sigma) for plane in density])
    colour = smooth.max(0) - smooth.min(0)
    mixed: FloatArray = colour + 0.3 * smooth.min(0)
    return mixed


def _glass_noise(stain: FloatArray, glass: BoolArray) -> float:
    """Return the density that nearly all glass stays below; infinite without visible glass."""
    return float(np.percentile(stain[glass], 99)) if glass.mean() >= LEAST_GLASS else np.inf


def _cut(stain: FloatArray, noise: float) -> float:
    """Choose the threshold; negative, so that everything passes, where all is stained."""
    if not stain.size or float(np.percentile(stain, 0.5)) > _ALL_TISSUE:
        return -1.0
    lowest = float(np.clip(_NOISE_FACTOR * noise, *_LOWEST_CUTS))
    share = _OTSU_SHARE * filters.threshold_otsu(stain)
    return float(np.clip(share, lowest, _HIGHEST_CUT))


def _artefacts(rgb: UInt8Array, density: FloatArray, pixel_um: float) -> BoolArray:
    """Find black borders and marker strokes, with the fainter rims that touch them."""
    red, green, blue = density
    low, high = rgb.min(2), rgb.max(2)
    black = (high < _BLACK) & (high - low < _NEUTRAL)
    # Haematoxylin and eosin both absorb green most; marker dyes in blue and green absorb red.
    bluish = (red - green > 0.22) & (red > 0.45)
    reddish = (red < 0.16) & (green > 0.5) & (blue > 0.5)
    solid = max(1, round(16 / pixel_um))
    # A core must be solid: single dark nuclei and brown grains are tissue.
    core = _opened(black | bluish | reddish, solid)
    if not core.any():
        return core
    reach = ndimage.binary_dilation(core, iterations=max(1, round(_PEN_REACH_UM / pixel_um)))
    grey = (high - low < _NEUTRAL) & (green > 0.1)
    faint = (red - green > 0.06) | grey | black
    rim = ndimage.binary_dilation(core, iterations=max(1, round(_MARGIN_UM / pixel_um)))
    found: BoolArray = (reach & faint) | (rim & ~_is_eosin(density)) | core
    return found


def _is_eosin(density: FloatArray) -> BoolArray:
    """Return the pixels that absorb green clearly most, as all stained tissue does."""
    red, green, blue = density
    found: BoolArray = (green > red + 0.03) & (green > blue + 0.03)
    return found


def _opened(mask: BoolArray, radius: int) -> BoolArray:
    # Beyond the frame counts as set, or a border along the frame would be opened away.
    padded = np.pad(mask, radius, mode="edge")
    opened = ndimage.binary_opening(padded, _disk(radius))
    inner: BoolArray = opened[radius:-radius, radius:-radius]
    return inner


def _tidy(
    mask: BoolArray, marked: BoolArray, pixel_um: float, min_area_px: float, max_hole_px: float
) -> BoolArray:
    """Close gaps, drop specks, fill holes, and widen by a margin."""
    margin = max(1, round(_MARGIN_UM / pixel_um))
    brush = _disk(margin)
    padded = np.pad(mask, margin, mode="edge")
    closed = ndimage.binary_closing(padded, brush)[margin:-margin, margin:-margin]
    mask = _without_small(closed, min_area_px)
    mask = mask | _small_holes(mask, brush, max_hole_px)
    tidy: BoolArray = ndimage.binary_dilation(mask, brush) & ~marked
    return tidy


def _without_small(mask: BoolArray, area_px: float) -> BoolArray:
    labels, count = ndimage.label(mask, np.ones((3, 3)))
    keep = np.bincount(labels.ravel(), minlength=count + 1) >= area_px
    keep[0] = False
    kept: BoolArray = keep[labels]
    return kept


def _small_holes(mask: BoolArray, brush: BoolArray, area_px: float) -> BoolArray:
    """Return the holes under this area; a gap that reaches the frame is not a hole."""
    labels, count = ndimage.label(~mask)
    # Smoothing has let the tissue around a hole grow into it, by about the brush.
    true = ndimage.grey_dilation(labels, footprint=brush)
    hole = np.bincount(true.ravel(), minlength=count + 1) < area_px
    hole[0] = False
    for side in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        hole[side] = False
    holes: BoolArray = hole[labels]
    return holes


def _disk(radius: int) -> BoolArray:
    """Return a filled circle, bool (2 radius + 1, 2 radius + 1).

    That of scikit-image comes with the whole of its morphology, a tenth of a second to import.
    """
    along = np.arange(-radius, radius + 1) ** 2
    inside: BoolArray = along[:, None] + along <= radius**2
    return inside
