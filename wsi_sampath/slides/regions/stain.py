"""The stain of a slide, judged by colour: H&E, or something that the network never saw."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wsi_sampath.slides.regions.glass import glass_colour, is_dark_field, optical_density

_STAINED = 0.12
_LEAST_STAINED_PX = 50
# Measured on H&E of nine sources: at least two thirds of the stained pixels absorb green most, and
# under 1 % are brown; on Ki-67 with haematoxylin 0.1 % and 6 %. Grey scans have no colour at all.
_LEAST_GREEN_MOST, _MOST_BROWN, _MOST_GREY = 0.4, 0.04, 0.8
_GREY_RANGE = 4


def stain_doubt(rgb: NDArray[np.uint8], tissue: NDArray[np.bool_] | None = None) -> str | None:
    """Return what an image looks like if not like bright-field H&E.

    Haematoxylin and eosin both absorb green most (Ruifrok and Johnston 2001); the brown of
    diaminobenzidine and pale blue counterstains do not.

    Parameters
    ----------
    rgb
        uint8 (h, w, 3), at 2 to 10 um per pixel.
    tissue
        bool (h, w): where to look for stain; None is everywhere.

    Returns
    -------
    str or None
        Completes "it looks like ..."; None where it looks like H&E, or where there is too little
        stain to judge.
    """
    if is_dark_field(rgb):
        return "fluorescence or another image on a dark background"
    density = optical_density(rgb, glass_colour(rgb))
    stained = density.max(0) > _STAINED
    if tissue is not None:
        stained &= tissue
    if np.count_nonzero(stained) < _LEAST_STAINED_PX:
        return None
    pixels = rgb[stained].astype(np.int16)
    if (np.ptp(pixels, axis=1) <= _GREY_RANGE).mean() > _MOST_GREY:
        return "a grey image"
    red, green, blue = density[:, stained]
    brown = (blue > green + 0.02) & (blue > red + 0.1)
    if brown.mean() > _MOST_BROWN:
        return "immunohistochemistry (brown)"
    if ((green > red) & (green > blue)).mean() < _LEAST_GREEN_MOST:
        return "another stain"
    return None
