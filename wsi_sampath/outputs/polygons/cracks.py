"""Straight pieces of the borders between components, from the runs of a band.

A crack is the border between two neighbouring pixels. Cracks are joined as long as nothing
branches or turns, so the ends of a `Cracks` segment are exactly the lattice points where a
border turns, where three or four labels meet, or where the band ends.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_sampath.outputs.polygons.runs import Band, Ints

RIGHT, DOWN = 0, 1


@dataclass(frozen=True)
class Cracks:
    """Undirected straight segments, stored left to right or top to bottom.

    Directions are 0: +x, 1: +y, 2: -x, 3: -y. "Left" is seen when travelling along x, y axes
    drawn the mathematical way (y up), so that a counter-clockwise ring has its inside left.

    Attributes
    ----------
    start, end
        (n, 2) int64 x, y of the ends; y counts from the top of the band.
    direction
        (n,) `RIGHT` or `DOWN`.
    left, right
        (n,) component on either side, `BACKGROUND` for label 0.
    """

    start: Ints
    end: Ints
    direction: Ints
    left: Ints
    right: Ints


def find_cracks(band: Band, component_of_run: Ints) -> Cracks:
    """Find all border segments of a band, its upper frame included, its lower frame not.

    Parameters
    ----------
    band
        The band, cut into runs.
    component_of_run
        (runs,) component of each run.
    """
    level, upright = _level(band, component_of_run), _upright(band, component_of_run)
    return Cracks(
        *(
            np.concatenate([getattr(level, name), getattr(upright, name)])
            for name in Cracks.__dataclass_fields__
        )
    )


def _level(band: Band, component_of_run: Ints) -> Cracks:
    differ = np.flatnonzero(band.values[band.overlaps] != band.values[band.overlaps + band.pitch])
    y, begin = np.divmod(band.overlaps[differ], band.pitch)
    end = np.append(band.overlaps, len(band.values) - band.pitch)[differ + 1] % band.pitch
    return Cracks(
        start=np.stack([begin - 1, y], axis=1),
        end=np.stack([end - 1, y], axis=1),
        direction=np.full(len(differ), RIGHT, np.int64),
        left=component_of_run[band.lower[differ]],
        right=component_of_run[band.upper[differ]],
    )


def _upright(band: Band, component_of_run: Ints) -> Cracks:
    first = int(np.searchsorted(band.starts, band.pitch))
    runs = np.arange(max(first, 1), len(band.starts))
    row, column = np.divmod(band.starts[runs], band.pitch)
    # radix sort is linear, and only there for 16 bits
    narrow = column.astype(np.uint16) if band.pitch < 2**16 else column
    by_column = np.argsort(narrow, kind="stable")
    runs, row, column = runs[by_column], row[by_column], column[by_column]
    top = np.flatnonzero(~_goes_on(band, band.starts[runs], row))
    bottom = np.append(top[1:], len(runs)) - 1 if len(top) else top
    return Cracks(
        start=np.stack([column[top] - 1, row[top] - 1], axis=1),
        end=np.stack([column[top] - 1, row[bottom]], axis=1),
        direction=np.full(len(top), DOWN, np.int64),
        left=component_of_run[runs[top] - 1],
        right=component_of_run[runs[top]],
    )


def _goes_on(band: Band, at: Ints, row: Ints) -> NDArray[np.bool_]:
    """Tell which upright cracks go straight on from the row above, with no branch between."""
    values, pitch = band.values, band.pitch
    same = (values[at] == values[at - pitch]) & (values[at - 1] == values[at - 1 - pitch])
    goes_on: NDArray[np.bool_] = same & (row >= 2)
    return goes_on
