"""Nuclei without a network, to compare with: haematoxylin, Otsu's threshold, distance watershed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.color import rgb2hed
from skimage.feature import peak_local_max
from skimage.filters import gaussian, threshold_otsu
from skimage.morphology import remove_small_holes, remove_small_objects
from skimage.segmentation import watershed

_BLUR_UM = 0.25
_LEAST_UM2 = 8.0
"""Smaller pieces are no nuclei, and smaller holes are filled: a lymphocyte has 25 um2."""
_APART_UM = 1.5
"""Centres of nuclei are farther apart than this."""


def classical_nuclei(image: NDArray[np.uint8], mpp: float) -> NDArray[np.int32]:
    """Find the nuclei of an H&E image.

    Parameters
    ----------
    image
        uint8 (height, width, 3), RGB.
    mpp
        Microns per pixel.

    Returns
    -------
    int32 (height, width): 0, or 1..n.
    """
    stain = gaussian(rgb2hed(image)[..., 0], _BLUR_UM / mpp)
    if stain.min() == stain.max():
        return np.zeros(stain.shape, np.int32)
    least_px = max(1, round(_LEAST_UM2 / mpp**2))
    mask = ndimage.binary_opening(stain > threshold_otsu(stain), iterations=round(0.5 / mpp))
    mask = remove_small_objects(remove_small_holes(mask, max_size=least_px), max_size=least_px)
    depth = gaussian(ndimage.distance_transform_edt(mask), 0.5 / mpp)
    pieces, _ = ndimage.label(mask)
    peaks = peak_local_max(depth, min_distance=max(1, round(_APART_UM / mpp)), labels=pieces)
    seeds = np.zeros(mask.shape, np.int32)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    labels: NDArray[np.int32] = watershed(-depth, seeds, mask=mask)
    return labels
