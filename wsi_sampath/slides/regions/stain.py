"""The stain of a slide, judged by colour: H&E, or something that the network never saw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_sampath.slides.regions.glass import glass_colour, is_dark_field, optical_density

# Decadic optical density of a channel, from which on a pixel counts as stained.
STAINED = 0.12
_LEAST_STAINED_PX = 50
# Measured on H&E of nine sources: at least two thirds of the stained pixels absorb green most, and
# under 1 % are brown; on Ki-67 with haematoxylin 0.1 % and 6 %. Grey scans have no colour at all.
_LEAST_GREEN_MOST, _MOST_BROWN, _MOST_GREY = 0.4, 0.04, 0.8
_GREY_RANGE = 4


@dataclass(frozen=True)
class Stain:
    """What the stained pixels of an image look like.

    Attributes
    ----------
    green_most
        Share of the stained pixels that absorb green most, as haematoxylin and eosin both do
        (Ruifrok and Johnston 2001); None where there is too little stain to judge.
    brown
        Share of them that is brown, as of diaminobenzidine; None likewise.
    doubt
        Completes "it looks like ..."; None where it looks like H&E, or cannot be judged.
    """

    green_most: float | None = None
    brown: float | None = None
    doubt: str | None = None


def stain_of(rgb: NDArray[np.uint8], tissue: NDArray[np.bool_] | None = None) -> Stain:
    """Judge by colour whether an image looks like bright-field H&E.

    Parameters
    ----------
    rgb
        uint8 (h, w, 3), at 2 to 10 um per pixel.
    tissue
        bool (h, w): where to look for stain; None is everywhere.
    """
    if is_dark_field(rgb):
        return Stain(doubt="fluorescence or another image on a dark background")
    density = optical_density(rgb, glass_colour(rgb))
    stained = density.max(0) > STAINED
    if tissue is not None:
        stained &= tissue
    if np.count_nonzero(stained) < _LEAST_STAINED_PX:
        return Stain()
    red, green, blue = density[:, stained]
    green_most = float(((green > red) & (green > blue)).mean())
    brown = float(((blue > green + 0.02) & (blue > red + 0.1)).mean())
    pixels = rgb[stained].astype(np.int16)
    if (np.ptp(pixels, axis=1) <= _GREY_RANGE).mean() > _MOST_GREY:
        return Stain(green_most, brown, "a grey image")
    if brown > _MOST_BROWN:
        return Stain(green_most, brown, "immunohistochemistry (brown)")
    if green_most < _LEAST_GREEN_MOST:
        return Stain(green_most, brown, "another stain")
    return Stain(green_most, brown)
