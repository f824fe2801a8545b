"""How soft the edges in a picture are, in um: the sharp ones of tissue tell its focus."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]

# Coarser pictures hold no edge sharp enough to tell focus from sampling.
COARSEST_UM = 1.0
_FINE_UM, _APART_UM = 0.5, 0.9
_STRONGEST_EDGES = 0.05
# Of a lone edge, however sharp, the strongest pixels are mostly its skirts: too soft by far. In
# tissue, sharp or not, more than this share is at least half as steep as the steepest.
_LEAST_EDGES = 0.04
# Boxes with the spread of Gaussians of 2 and 4 um; blur hardly touches what lies between them.
_NARROW_UM, _WIDE_UM = 2 * 12**0.5, 4 * 12**0.5
_LEAST_CONTRAST = 1.0


def edge_softness(grey: FloatArray, *, um_x: float, um_y: float) -> float | None:
    """Estimate the blur of a picture from its strongest edges.

    The picture is softened twice, a little and more. A sharp edge loses much of its slope from the
    first to the second, one that is soft already loses little: for an ideal step the ratio of the
    slopes gives the sigma of the blur it had before (Zhuo and Sim 2011, with two blurs in place of
    one so that noise and the blocks of JPEG count less).

    Parameters
    ----------
    grey
        float32 (h, w), 0 to 255.
    um_x, um_y
        Um per pixel, at most `COARSEST_UM`.

    Returns
    -------
    float or None
        Sigma (um) of the Gaussian that has softened the edges; 0.4 to 1.1 in sharp scans. None
        where nothing larger than a few um stands out, as on glass and in empty mucus, or hardly
        more than one edge does: there is nothing to judge by.
    """
    if min(grey.shape) < 2 or _contrast(grey, um_x, um_y) < _LEAST_CONTRAST:
        return None
    fine = max(_FINE_UM, um_x, um_y)
    coarse = fine + _APART_UM
    slopes = _slopes(grey, coarse, um_x, um_y)
    if (slopes > np.quantile(slopes, 0.999) / 2).mean() < _LEAST_EDGES:
        return None
    weakest = int((1 - _STRONGEST_EDGES) * slopes.size)
    strong = slopes >= np.partition(slopes.ravel(), weakest)[weakest]
    after = float(slopes[strong].mean())
    before = float(_slopes(grey, fine, um_x, um_y)[strong].mean())
    ratio = max(before / after, 1.0001)
    return float(np.sqrt(max(coarse**2 - (ratio * fine) ** 2, 0.0) / (ratio**2 - 1)))


def _contrast(grey: FloatArray, um_x: float, um_y: float) -> float:
    from scipy import ndimage

    narrow, wide = (
        ndimage.uniform_filter(grey, (max(1, round(um / um_y)), max(1, round(um / um_x))))
        for um in (_NARROW_UM, _WIDE_UM)
    )
    return float((narrow - wide).std())


def _slopes(grey: FloatArray, sigma_um: float, um_x: float, um_y: float) -> FloatArray:
    """Return the steepness of the softened picture, per um, float32 (h, w)."""
    from scipy import ndimage

    soft = ndimage.gaussian_filter(grey, (sigma_um / um_y, sigma_um / um_x), truncate=3)
    down, right = np.gradient(soft)
    # np.hypot guards against overflow, which takes three times as long.
    slopes: FloatArray = np.sqrt((down / np.float32(um_y)) ** 2 + (right / np.float32(um_x)) ** 2)
    return slopes
