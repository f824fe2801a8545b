"""Polygons to pixels, exactly: a pixel is inside if its centre is, whatever the window."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from wsi_sampath.slides.grid import Box

Segments = NDArray[np.float64]
"""(n, 4) float64: x0, y0, x1, y1 of directed edges."""


@dataclass(frozen=True)
class Placement:
    """The position of a plane's pixels in the coordinates of polygons.

    Attributes
    ----------
    zoom_x, zoom_y
        Polygon units per pixel.
    offset_x, offset_y
        Added to polygon coordinates before they are divided by the zoom.
    """

    zoom_x: float = 1.0
    zoom_y: float = 1.0
    offset_x: float = 0.0
    offset_y: float = 0.0

    def to_pixels(self, segments: Segments) -> Segments:
        """Return edges in pixels of the plane, whose first pixel has its centre at (0.5, 0.5)."""
        offset = np.array([self.offset_x, self.offset_y] * 2)
        pixels: Segments = (segments + offset) / np.array([self.zoom_x, self.zoom_y] * 2)
        return pixels

    def to_units(self, box: Box) -> tuple[float, float, float, float]:
        """Return the bounds (x0, y0, x1, y1) of a box of pixels in polygon units."""
        x0, x1 = ((x * self.zoom_x) - self.offset_x for x in (box.x, box.x + box.width))
        y0, y1 = ((y * self.zoom_y) - self.offset_y for y in (box.y, box.y + box.height))
        return x0, y0, x1, y1


def edges(polygons: NDArray[np.object_]) -> tuple[Segments, NDArray[np.int64]]:
    """Return all edges of the rings of polygons, including holes, and the owner of each."""
    rings, polygon = shapely.get_rings(polygons, return_index=True)
    coordinates, ring = shapely.get_coordinates(rings, return_index=True)
    same = ring[:-1] == ring[1:]
    joined: Segments = np.hstack([coordinates[:-1], coordinates[1:]])[same]
    return joined, polygon[ring[:-1][same]]


def fill(segments: Segments, box: Box) -> tuple[tuple[slice, slice], NDArray[np.bool_]]:
    """Find the pixels whose centres are inside, by the even-odd rule.

    Parameters
    ----------
    segments
        All edges, in pixels of the plane. A centre on a left or upper edge is inside, on a right or
        lower one outside, so that neighbours share no pixel.
    box
        Part of the plane to look at.

    Returns
    -------
    place
        Rows and columns of `box` outside which nothing is set.
    inside
        bool, of the size of `place`.
    """
    rows, columns = _span(segments, box)
    inside = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.uint8)
    if inside.size:
        _, row, x = _crossings(segments, box.y + rows.start, len(inside))
        # An edge to the left of the box still decides what is inside it.
        column = np.ceil(x - 0.5) - (box.x + columns.start)
        column = column.clip(0, inside.shape[1]).astype(np.int64)
        seen = column < inside.shape[1]
        np.bitwise_xor.at(inside, (row[seen], column[seen]), 1)
        np.bitwise_xor.accumulate(inside, axis=1, out=inside)
    return (rows, columns), inside.view(np.bool_)


def fill_each(
    segments: Segments, owner: NDArray[np.int64], box: Box
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find the pixels inside each of many shapes, as `fill` does for one.

    Parameters
    ----------
    segments
        All edges, in pixels of the plane.
    owner
        The shape that each edge belongs to, from 0.
    box
        Part of the plane to look at.

    Returns
    -------
    pixel, owner
        Every pixel inside a shape, counted along the rows of `box`, and that shape; shapes
        ascend, so assigning labels in this order paints later ones over earlier ones.
    """
    edge, row, x = _crossings(segments, box.y, box.height)
    column = np.ceil(x - 0.5).clip(box.x, box.x + box.width).astype(np.int64) - box.x
    # A closed outline crosses each row an even number of times, so these are pairs.
    line = np.sort((owner[edge] * box.height + row) * (box.width + 1) + column)
    line, column = np.divmod(line, box.width + 1)
    lengths = column[1::2] - column[::2]
    shape, row = np.divmod(line[::2], box.height)
    first = row * box.width + column[::2] - (np.cumsum(lengths) - lengths)
    return np.repeat(first, lengths) + np.arange(lengths.sum()), np.repeat(shape, lengths)


def _span(segments: Segments, box: Box) -> tuple[slice, slice]:
    if not len(segments):
        return slice(0, 0), slice(0, 0)
    xs, ys = segments[:, 0::2], segments[:, 1::2]
    return _clipped(ys, box.y, box.height), _clipped(xs, box.x, box.width)


def _clipped(values: NDArray[np.float64], start: int, length: int) -> slice:
    low = min(max(np.floor(values.min()) - start, 0), length)
    return slice(int(low), int(min(max(np.ceil(values.max()) - start, low), length)))


def _crossings(
    segments: Segments, first: int, height: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return edge, row and x of every crossing of an edge with the middle of a row."""
    x0, y0, x1, y1 = segments.T
    span = first, first + height
    low = np.ceil(np.minimum(y0, y1) - 0.5).clip(*span).astype(np.int64)
    counts = np.ceil(np.maximum(y0, y1) - 0.5).clip(*span).astype(np.int64) - low
    edge = np.repeat(np.arange(len(segments)), counts)
    ends = np.cumsum(counts)
    row = np.arange(len(edge)) - np.repeat(ends - counts, counts) + low[edge]
    slope = (row + 0.5 - y0[edge]) / (y1[edge] - y0[edge])
    return edge, row - first, x0[edge] + slope * (x1[edge] - x0[edge])
