"""What is measured of nuclei, from the runs of their pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_sampath.outputs.polygons.runs import Ints

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class NucleusRuns:
    """All horizontal runs of n nuclei, row by row.

    Attributes
    ----------
    row, column, length
        (runs,) int64 first pixel and number of pixels.
    nucleus
        (runs,) which nucleus each belongs to, 0 to n - 1; each has one at least.
    """

    row: Ints
    column: Ints
    length: Ints
    nucleus: Ints

    @property
    def count(self) -> int:
        """Number of nuclei."""
        return int(self.nucleus.max()) + 1

    def total(self, values: Ints) -> Floats:
        """Return (n,) the sums over the runs of each nucleus; exact below 2**53."""
        weights = values.astype(np.float64)
        return np.bincount(self.nucleus, weights, self.count).astype(np.float64, copy=False)

    def first(self) -> tuple[Ints, Ints]:
        """Return (n,) row and (n,) column of the first pixel of each nucleus."""
        index = np.empty(self.count, np.int64)
        index[self.nucleus[::-1]] = np.arange(len(self.nucleus))[::-1]
        return self.row[index], self.column[index]


@dataclass(frozen=True)
class Moments:
    """Where nuclei lie and how far they spread.

    Attributes
    ----------
    pixels
        (n,) number of pixels.
    x, y
        (n,) centroid in pixels, from the corner of the first pixel.
    xx, yy, xy
        (n,) central second moments, px squared.
    """

    pixels: Floats
    x: Floats
    y: Floats
    xx: Floats
    yy: Floats
    xy: Floats

    def axes(self, um_x: float, um_y: float) -> tuple[Floats, Floats]:
        """Return (n,) major and (n,) minor axis of the ellipse of the same moments, um."""
        xx, yy, xy = self.xx * um_x**2, self.yy * um_y**2, self.xy * um_x * um_y
        spread = np.sqrt((xx - yy) ** 2 + 4 * xy**2)
        largest, least = (xx + yy + spread) / 2, np.maximum((xx + yy - spread) / 2, 0)
        return 4 * np.sqrt(largest), 4 * np.sqrt(least)


def moments_of(runs: NucleusRuns) -> Moments:
    """Measure centroids and second moments."""
    first_row, first_column = runs.first()
    # counted from each nucleus' first pixel, so that the place of a nucleus changes nothing
    y = runs.row - first_row[runs.nucleus]
    x = runs.column - first_column[runs.nucleus]
    length, last = runs.length, runs.length - 1
    in_x = length * x + length * last // 2
    pixels = runs.total(length)
    mean_x, mean_y = runs.total(in_x) / pixels, runs.total(length * y) / pixels
    in_xx = length * x**2 + x * length * last + length * last * (2 * length - 1) // 6
    return Moments(
        pixels,
        mean_x + 0.5,
        mean_y + 0.5,
        runs.total(in_xx) / pixels - mean_x**2,
        runs.total(length * y**2) / pixels - mean_y**2,
        runs.total(in_x * y) / pixels - mean_x * mean_y,
    )


def perimeters(runs: NucleusRuns, canvas: NDArray[np.uint32], um_x: float, um_y: float) -> Floats:
    """Measure perimeters by Crofton's formula along rows, columns and diagonals.

    Parameters
    ----------
    runs
        The nuclei.
    canvas
        (rows, columns) ids of the same nuclei; the last row and column are empty.
    um_x, um_y
        Size of a pixel.

    Returns
    -------
    (n,) um.

    Notes
    -----
    A perimeter is the integral, over all directions, of half the crossings of parallel lines times
    their distance. Each direction stands for the angles nearest to it.
    """
    pixels = runs.total(runs.length)
    pitch = canvas.shape[1]
    slope = np.arctan2(um_y, um_x)
    diagonal = np.pi / 4 * um_x * um_y / np.hypot(um_x, um_y)
    along_rows = runs.total(np.ones_like(runs.length)) * um_y * slope
    along_columns = (pixels - _neighbours(runs, canvas, pitch)) * um_x * (np.pi / 2 - slope)
    downward = pixels - _neighbours(runs, canvas, pitch + 1)
    upward = pixels - _neighbours(runs, canvas, pitch - 1)
    perimeter: Floats = along_rows + along_columns + (downward + upward) * diagonal
    return perimeter


def _neighbours(runs: NucleusRuns, canvas: NDArray[np.uint32], step: int) -> Floats:
    """Count each nucleus' pixels that have one of its own a number of pixels later."""
    flat = canvas.ravel()
    same = np.zeros(canvas.size, bool)
    np.equal(flat[:-step], flat[step:], out=same[:-step])
    return runs.total(sums_in_runs(runs, same.view(np.uint8).reshape(canvas.shape)))


def sums_in_runs(runs: NucleusRuns, values: NDArray[np.uint8]) -> Ints:
    """Return (runs,) sums of uint8 (rows, columns) values, each below 2**32."""
    begin = runs.row * values.shape[1] + runs.column
    # what runs over is the same at both ends
    before = np.zeros(values.size + 1, np.uint32)
    np.cumsum(values.ravel(), dtype=np.uint32, out=before[1:])
    sums: Ints = (before[begin + runs.length] - before[begin]).astype(np.int64)
    return sums
