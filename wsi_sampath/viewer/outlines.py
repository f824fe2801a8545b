"""Outlines of the nuclei of one square of the slide, packed for the browser."""

from __future__ import annotations

import numpy as np
import shapely

from wsi_sampath.viewer.nucleus_rows import NucleusRows

SQUARE = 2048
"""Side of a square in level-0 pixels."""


def packed_outlines(nuclei: NucleusRows, column: int, row: int) -> bytes:
    """Return the nuclei whose centre lies in a square.

    Parameters
    ----------
    nuclei
        The table.
    column, row
        Of the square, which begins at `SQUARE` times these.

    Returns
    -------
    bytes
        Little-endian: uint32 n, number of outlines; uint32 v, number of points; uint32 id[n];
        uint32 class[n] (1..k); uint32 start[n + 1], of an outline's points among all; float32 xy[2
        v] in level-0 pixels from the square's corner. Outlines are outer borders, and not closed by
        their first point once more. A nucleus in several pieces has an outline, and its id, for
        each.
    """
    corner = np.array([column * SQUARE, row * SQUARE], float)
    rows = nuclei.index.within((*corner.tolist(), SQUARE, SQUARE))
    pieces, owner = shapely.get_parts(nuclei.outlines(rows), return_index=True)
    points, ring = shapely.get_coordinates(shapely.get_exterior_ring(pieces), return_index=True)
    # The last point of a ring is its first one.
    is_last = np.append(ring[1:] != ring[:-1], True)[: len(ring)]
    points, ring = points[~is_last], ring[~is_last]
    starts = np.searchsorted(ring, np.arange(len(pieces) + 1))
    integers = [
        np.array([len(pieces), len(points)]),
        nuclei.index.ids[rows][owner],
        nuclei.index.labels[rows][owner],
        starts,
    ]
    xy = nuclei.to_slide(points) - corner
    return b"".join([np.concatenate(integers).astype("<u4").tobytes(), xy.astype("<f4").tobytes()])
