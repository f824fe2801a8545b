"""A band of label rows as horizontal runs, and which run lies upon which.

Everything downstream works on runs and on overlaps of runs, so that the cost follows the length
of the borders and not the number of pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]
Labels = NDArray[np.unsignedinteger[Any]]


@dataclass(frozen=True)
class Band:
    """Rows of labels under the row above them, flattened and cut into runs of equal labels.

    A column of zeros on either side stands for the outside of the plane. Runs of zeros may
    therefore wrap from one row to the next, which is harmless: zero is never traced.

    Attributes
    ----------
    values
        ((rows + 1) * pitch,) labels, row 0 being the last row of the band before.
    pitch
        Width of the plane plus 2.
    starts
        (runs,) positions in `values` where a run begins; the first is 0.
    overlaps
        (overlaps,) positions in `values`; from each to the next neither the row nor the row
        below it changes label.
    upper, lower
        (overlaps,) the run at each overlap and the run below it.
    """

    values: Labels
    pitch: int
    starts: Ints
    overlaps: Ints
    upper: Ints
    lower: Ints

    @property
    def rows(self) -> int:
        """Number of rows, the row above not counted."""
        return len(self.values) // self.pitch - 1

    @property
    def run_labels(self) -> Labels:
        """(runs,) label of each run."""
        return self.values[self.starts]

    @property
    def run_lengths(self) -> Ints:
        """(runs,) pixels in each run; only meaningful where the label is not 0."""
        return np.diff(self.starts, append=len(self.values))


def cut_band(above: Labels, labels: Labels) -> Band:
    """Cut rows into runs.

    Parameters
    ----------
    above
        (width,) labels of the row above the band; zeros above the plane.
    labels
        (rows, width) labels, rows >= 1.
    """
    rows, width = labels.shape
    padded = np.zeros((rows + 1, width + 2), labels.dtype)
    padded[0, 1:-1] = above
    padded[1:, 1:-1] = labels
    values, pitch = padded.ravel(), width + 2
    changed = np.empty(len(values), bool)
    changed[0] = True
    np.not_equal(values[1:], values[:-1], out=changed[1:])
    starts = np.flatnonzero(changed)
    overlaps = np.flatnonzero(changed[:-pitch] | changed[pitch:])
    upper = np.searchsorted(starts, overlaps, side="right") - 1
    lower = np.searchsorted(starts, overlaps + pitch, side="right") - 1
    return Band(values, pitch, starts, overlaps, upper, lower)


def sum_runs(band: Band, score: Bytes, runs: Ints) -> Ints:
    """Sum `score` over some runs.

    Parameters
    ----------
    band
        The band that the runs belong to.
    score
        (rows, width) uint8, without the row above.
    runs
        Indices of runs that are neither zero nor in the row above.

    Returns
    -------
    (len(runs),) int64 sums.
    """
    if len(runs) == 0:
        return np.zeros(0, np.int64)
    row, column = np.divmod(band.starts[runs], band.pitch)
    begin = (row - 1) * score.shape[1] + column - 1
    bounds = np.stack([begin, begin + band.run_lengths[runs]], axis=1).ravel()
    if bounds[-1] == score.size:
        bounds = bounds[:-1]
    sums: Ints = np.add.reduceat(score.ravel(), bounds, dtype=np.int64)[::2]
    return sums
