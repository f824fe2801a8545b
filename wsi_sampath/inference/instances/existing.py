"""Nuclei that were outlined before, met again as the rows of the plane go by."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import shapely
from numpy.typing import NDArray

from wsi_sampath.inference.durable.ledger import Arrays
from wsi_sampath.inference.instances.pieces import Flags, Ints, Values
from wsi_sampath.inference.instances.terrain import Maps
from wsi_sampath.outputs.nuclei.patch import NucleusPatch
from wsi_sampath.slides.grid import Box
from wsi_sampath.slides.regions.rasterise import Segments, edges, fill_each

LARGEST_PX = 4096


class ExistingNuclei:
    """Given outlines in place of found ones, with ids by their lowest row.

    The pixels of a nucleus are those with their centres inside of the outline, or the one that
    holds its middle. Those of which nothing was analysed are left out. Held in memory are the rows
    from the highest nucleus that is still open.

    Parameters
    ----------
    outlines
        Polygons or MultiPolygons, in pixels of the plane. Those whose centroids lie beside it, or
        that are wider or higher than `LARGEST_PX`, are left out.
    height, width
        Size of the plane.
    channels
        Of the values.
    """

    def __init__(
        self, outlines: NDArray[np.object_], height: int, width: int, *, channels: int
    ) -> None:
        polygons, outline = shapely.get_parts(outlines, return_index=True)
        segments, polygon = edges(polygons)
        owner = outline[polygon]
        tops, bottoms, is_small = _extents(segments, owner, len(outlines), height)
        kept = np.flatnonzero(is_small & _are_on(outlines, height, width))
        order = kept[np.lexsort((kept, bottoms[kept]))]
        rank = np.full(len(outlines), -1)
        rank[order] = np.arange(len(order))
        by_rank = np.argsort(rank[owner], kind="stable")
        by_rank = by_rank[np.searchsorted(rank[owner][by_rank], 0) :]
        self._segments, self._owner = segments[by_rank], rank[owner][by_rank]
        self._bottoms = bottoms[order]
        # The highest row that this nucleus or a later one begins in.
        self._tops = np.minimum.accumulate(np.append(tops[order], height)[::-1])[::-1]
        self._width = width
        self._y = self._done = 0
        # The last one says what was analysed.
        self._values = np.zeros((channels + 1, 0, width), np.uint8)
        self.count = 0

    @property
    def settled(self) -> int:
        """See `NucleusSource`."""
        return min(self._y, int(self._tops[self._done]))

    def append(self, maps: Maps, values: Values, analysed: Values) -> list[NucleusPatch]:
        """See `NucleusSource`; the maps are not looked at."""
        values = np.concatenate([values, analysed[None]])
        self._values = np.concatenate([self._values, values], axis=1)
        self._y += values.shape[1]
        last = int(np.searchsorted(self._bottoms, self._y, side="right"))
        patches = self._patches(self._done, last)
        first, self._done = self._y - self._values.shape[1], last
        self._values = self._values[:, self.settled - first :].copy()
        return patches

    def finish(self) -> list[NucleusPatch]:
        """See `NucleusSource`."""
        return []

    def state(self) -> tuple[dict[str, Any], Arrays]:
        """See `NucleusSource`."""
        notes = {"y": self._y, "done": self._done, "count": self.count}
        return notes, {"values": self._values}

    def resumed(self, notes: dict[str, Any], arrays: Arrays) -> Self:
        """Go on where `state` was taken, of the same outlines."""
        self._y, self._done, self._values = notes["y"], notes["done"], arrays["values"]
        self.count = notes["count"]
        return self

    def _patches(self, first: int, last: int) -> list[NucleusPatch]:
        """Return the nuclei of these ranks."""
        begin, end = np.searchsorted(self._owner, [first, last])
        if begin == end:
            return []
        height = self._values.shape[1]
        top = self._y - height
        box = Box(0, top, self._width, height)
        owner = self._owner[begin:end]
        pixels, inside = fill_each(self._segments[begin:end], owner - first, box)
        y, x = np.divmod(pixels, self._width)
        y, x, inside = self._with_specks(y, x, inside, first, last, top)
        ends = np.searchsorted(inside, np.arange(last - first + 1))
        patches = []
        for one in map(slice, ends[:-1].tolist(), ends[1:].tolist()):
            if self._values[-1, y[one], x[one]].any():
                self.count += 1
                patches.append(self._patch(y[one], x[one], self.count, top))
        return patches

    def _patch(self, y: Ints, x: Ints, number: int, top: int) -> NucleusPatch:
        row, column = int(y.min()), int(x.min())
        labels = np.zeros((int(y.max()) - row + 1, int(x.max()) - column + 1), np.uint32)
        labels[y - row, x - column] = number
        values = np.zeros((len(self._values) - 1, *labels.shape), np.uint8)
        values[:, y - row, x - column] = self._values[:-1, y, x]
        return NucleusPatch(row + top, column, labels, values)

    def _with_specks(
        self, y: Ints, x: Ints, inside: Ints, first: int, last: int, top: int
    ) -> tuple[Ints, Ints, Ints]:
        """Add a pixel for each outline that holds no pixel's centre."""
        missing = np.setdiff1d(np.arange(last - first), inside)
        begins, ends = (
            np.searchsorted(self._owner, missing + first, side=side) for side in ("left", "right")
        )
        corners = [self._segments[a:b, :2].mean(axis=0) for a, b in zip(begins, ends, strict=True)]
        places = np.floor(np.array(corners).reshape(-1, 2)).astype(np.int64)
        column = places[:, 0].clip(0, self._width - 1)
        row = (places[:, 1] - top).clip(0, self._values.shape[1] - 1)
        owner = np.concatenate([inside, missing])
        order = np.argsort(owner, kind="stable")
        return (
            np.concatenate([y, row])[order],
            np.concatenate([x, column])[order],
            owner[order],
        )


def _are_on(outlines: NDArray[np.object_], height: int, width: int) -> Flags:
    """Return which outlines have their centroids on the plane."""
    middles = shapely.get_coordinates(shapely.centroid(outlines))
    on_plane: Flags = ((middles >= 0) & (middles < [width, height])).all(axis=1)
    return on_plane


def _extents(segments: Segments, owner: Ints, n: int, height: int) -> tuple[Ints, Ints, Flags]:
    """Return first row and row below of each outline, and which are small enough for a nucleus."""
    low, high = np.full((2, n), np.inf), np.full((2, n), -np.inf)
    for axis in (0, 1):
        np.minimum.at(low[axis], owner, segments[:, axis])
        np.maximum.at(high[axis], owner, segments[:, axis])
    tops = np.floor(low[1]).clip(0, height - 1).astype(np.int64)
    bottoms = np.ceil(high[1]).clip(1, height).astype(np.int64)
    return tops, np.maximum(bottoms, tops + 1), (high - low).max(axis=0) <= LARGEST_PX
