"""The classical way to find nuclei: haematoxylin, Otsu's threshold, a watershed on distances."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.color import rgb2hed
from skimage.feature import peak_local_max
from skimage.filters import gaussian, threshold_otsu
from skimage.morphology import remove_small_holes, remove_small_objects
from skimage.segmentation import watershed

from wsi_sampath.training.augment import Rgb

_SMOOTHING_PX = 1.0
_LEAST_PX = 30
_APART_PX = 6
"""Centres are at least so far apart, at 0.25 um per pixel."""


def classical_nuclei(image: Rgb) -> NDArray[np.int32]:
    """Find nuclei without a network.

    Parameters
    ----------
    image
        uint8 (height, width, 3) at 0.25 um per pixel.

    Returns
    -------
    int32 (height, width)
        0, or 1 to n.
    """
    haematoxylin = gaussian(rgb2hed(image)[..., 0], _SMOOTHING_PX)
    mask = haematoxylin > threshold_otsu(haematoxylin)
    mask = remove_small_objects(mask, max_size=_LEAST_PX - 1)
    mask = remove_small_holes(mask, max_size=_LEAST_PX)
    depth = gaussian(ndimage.distance_transform_edt(mask), _SMOOTHING_PX)
    peaks = peak_local_max(depth, min_distance=_APART_PX, labels=ndimage.label(mask)[0])
    seeds = np.zeros(mask.shape, np.int32)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    labels: NDArray[np.int32] = watershed(-depth, seeds, mask=mask).astype(np.int32)
    return labels
