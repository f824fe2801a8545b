"""A quick look at a slide: focus, marker strokes, colours."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wsi_sampath.slides.quality.focus import COARSEST_UM, edge_softness
from wsi_sampath.slides.quality.marks import pen_shares
from wsi_sampath.slides.quality.places import Places, read_places
from wsi_sampath.slides.quality.quality import SOFT_UM, Quality
from wsi_sampath.slides.regions.find import Tissue
from wsi_sampath.slides.regions.glass import glass_colour, is_dark_field, optical_density
from wsi_sampath.slides.regions.stain import STAINED
from wsi_sampath.slides.slide import Slide

_LEAST_STAINED = 0.05
# Colours are looked at in every fourth pixel of every fourth row.
_STEP = 4


def look(slide: Slide, tissue: Tissue) -> Quality:
    """Judge the quality of a slide by its overview and by a few places at full detail.

    The answer depends on slide and tissue alone. What cannot be decoded is counted, and fails
    nothing.

    Parameters
    ----------
    slide
        The open slide.
    tissue
        What `find_tissue` found on it.
    """
    seen, stain = tissue.seen, tissue.stain
    pen = beside = None
    if seen is not None and not is_dark_field(seen.image):
        pen, beside = pen_shares(seen)
    everywhere = tissue.mask.all() and seen is not None and seen.tissue.any()
    places = read_places(slide, seen.tissue if seen and everywhere else tissue.mask)
    stained, saturation, clipped = _colours(places.pictures)
    softness = _softness(places, stained)
    judged = None if softness is None else [one for one in softness if one is not None]
    return Quality(
        places=int(stained.sum()),
        unstained=int((~stained).sum()),
        unread=places.unread,
        judged=None if judged is None else len(judged),
        blurred=float(np.mean(np.array(judged) > SOFT_UM)) if judged else None,
        softness_um=float(np.median(judged)) if judged else None,
        pen=pen,
        tissue_beside_pen=beside,
        saturation=saturation,
        clipped=clipped,
        green_most=stain.green_most,
        brown=stain.brown,
        looks_like=stain.doubt,
    )


def _softness(places: Places, stained: NDArray[np.bool_]) -> list[float | None] | None:
    """Return the softness of edges of every place with stain; None where all are too coarse."""
    if max(places.um_x, places.um_y) > COARSEST_UM:
        return None
    return [
        edge_softness(_grey(picture), um_x=places.um_x, um_y=places.um_y)
        for picture in places.pictures[stained]
    ]


def _grey(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    grey: NDArray[np.float32] = rgb[..., 0].astype(np.float32)
    grey += rgb[..., 1]
    grey += rgb[..., 2]
    return grey / np.float32(3)


def _colours(
    pictures: NDArray[np.uint8],
) -> tuple[NDArray[np.bool_], float | None, float | None]:
    """Look at the colours of pictures, uint8 (n, h, w, 3).

    Returns
    -------
    bool (n)
        Which of them hold stain.
    float or None
        Median saturation of the stained pixels, and the share of them that is clipped; None where
        there are none, and on a dark background.
    """
    rgb = pictures[:, ::_STEP, ::_STEP].reshape(-1, -(-pictures.shape[2] // _STEP), 3)
    if not rgb.size or is_dark_field(rgb):
        return np.ones(len(pictures), np.bool_), None, None
    stained = optical_density(rgb, glass_colour(rgb)).max(0) > STAINED
    with_stain = stained.reshape(len(pictures), -1).mean(1) >= _LEAST_STAINED
    pixels = rgb[stained]
    if not len(pixels):
        return with_stain, None, None
    low, high = pixels.min(1), pixels.max(1)
    # As skimage.color.rgb2hsv has it, in bytes.
    saturation = (high - low) / np.maximum(high, 1)
    clipped = (low == 0) | (high == 255)
    return with_stain, float(np.median(saturation)), float(clipped.mean())
