"""What a watershed needs to know of each pixel, in four bytes, from maps that come in strips.

A pixel's code is 0 outside the foreground. Else it has the bit `FOREGROUND`, the bit `SEED` where
a nucleus may begin, and below them the smoothed boundary distance in 65,536 levels. A Gaussian
reaches three sigmas far and mirrors the plane at its edges, as published.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from wsi_sampath.inference.instances.settings import NucleusSettings

Maps = NDArray[np.float32]
Codes = NDArray[np.uint32]

TOP_LEVEL = 0xFFFF
SEED = 1 << 16
FOREGROUND = 1 << 17
_TRUNCATE = 3.0


class TerrainStream:
    """Codes of a plane whose maps come from the top, in strips of any height.

    Every code equals that of the whole plane bit for bit: a row is smoothed once the rows below it
    that the Gaussian reaches are there.

    Parameters
    ----------
    settings
        The thresholds.
    width
        Columns of the plane.
    waiting
        float32 (3, rows, columns): the maps that `waiting` of another stream held; None at the top.
    n_done
        How many of these rows have been answered, as `n_done` of the other said.
    """

    def __init__(
        self, settings: NucleusSettings, width: int, waiting: Maps | None = None, n_done: int = 0
    ) -> None:
        self._settings = settings
        self._reach = reach_px(settings)
        self.waiting = np.zeros((3, 0, width), np.float32) if waiting is None else waiting
        self.n_done = n_done

    def append(self, maps: Maps) -> Codes:
        """Return the codes of the rows that are certain now, from where the last call ended.

        Parameters
        ----------
        maps
            float32 (3, rows, columns), finite, 0 to 1: foreground, distance to the centre, distance
            to the boundary. Where nothing was analysed, the foreground is 0.
        """
        self.waiting = np.concatenate([self.waiting, maps], axis=1)
        return self._answer(self.waiting.shape[1] - self._reach)

    def finish(self) -> Codes:
        """Return the codes of the last rows."""
        return self._answer(self.waiting.shape[1])

    def _answer(self, end: int) -> Codes:
        begin, width = self.n_done, self.waiting.shape[2]
        if end <= begin:
            return np.zeros((0, width), np.uint32)
        codes = _codes(self.waiting, slice(begin, end), self._settings)
        first = max(0, end - self._reach)
        self.waiting, self.n_done = self.waiting[:, first:].copy(), end - first
        return codes


def terrain(maps: Maps, settings: NucleusSettings) -> Codes:
    """Return the codes of a whole plane, uint32 (rows, columns); `maps` as for `TerrainStream`."""
    return _codes(maps, slice(0, maps.shape[1]), settings)


def smooth(image: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Smooth as published."""
    smoothed: NDArray[np.float32] = gaussian_filter(image, sigma, mode="mirror", truncate=_TRUNCATE)
    return smoothed


def reach_px(settings: NucleusSettings) -> int:
    """Return how many rows above and below a row decide about it."""
    largest = max(settings.foreground_smoothing_px, settings.distance_smoothing_px)
    return int(_TRUNCATE * largest + 0.5)


def _codes(maps: Maps, rows: slice, settings: NucleusSettings) -> Codes:
    foreground = smooth(maps[0], settings.foreground_smoothing_px)[rows]
    mask = foreground > settings.foreground_threshold
    if not mask.any():
        return np.zeros(mask.shape, np.uint32)
    center = smooth(maps[1], settings.distance_smoothing_px)[rows]
    boundary = smooth(maps[2], settings.distance_smoothing_px)[rows]
    is_seed = (center < settings.center_distance_threshold) & (
        boundary < settings.boundary_distance_threshold
    )
    # Levels of a fixed range: those between the plane's extremes would depend on all of it.
    codes = np.rint(np.clip(boundary, 0, 1) * TOP_LEVEL).astype(np.uint32)
    codes |= np.where(is_seed, np.uint32(FOREGROUND | SEED), np.uint32(FOREGROUND))
    codes[~mask] = 0
    return codes
