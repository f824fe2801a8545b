"""Many small patches on one canvas, so that all of them are worked on at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_sampath.outputs.nuclei.patch import NucleusPatch
from wsi_sampath.outputs.polygons.runs import Ints

CANVAS_PX = 1 << 19
_WIDTH = 1024


@dataclass(frozen=True)
class Canvas:
    """Patches side by side on shelves, a pixel apart.

    Attributes
    ----------
    labels
        uint32 (rows, width); the last row and the last column are empty.
    values
        uint8 (channels, rows, width).
    tops
        (shelves,) first row of each shelf.
    keys, patches
        (n,) where each patch begins, as shelf times width plus column, ascending, and its index.
    shift
        int64 (n, 2) x, y on the plane less those on the canvas, by index of the patch.
    """

    labels: NDArray[np.uint32]
    values: NDArray[np.uint8]
    tops: Ints
    keys: Ints
    patches: Ints
    shift: Ints

    def patch_at(self, rows: Ints, columns: Ints) -> Ints:
        """Return the index of the patch at each of some pixels, which must not lie between two."""
        shelf = np.searchsorted(self.tops, rows, side="right") - 1
        key = shelf * self.labels.shape[1] + columns
        index: Ints = self.patches[np.searchsorted(self.keys, key, side="right") - 1]
        return index


def canvas_batches(patches: Sequence[NucleusPatch]) -> Iterator[Sequence[NucleusPatch]]:
    """Cut patches into batches, each of about the size of a canvas or a single larger patch."""
    first = size = 0
    for index, one in enumerate(patches):
        if size > 0 and size + one.labels.size > CANVAS_PX:
            yield patches[first:index]
            first, size = index, 0
        size += one.labels.size
    if first < len(patches):
        yield patches[first:]


def paste(patches: Sequence[NucleusPatch]) -> Canvas:
    """Put patches, of which there is one at least, on a canvas."""
    heights = np.array([one.labels.shape[0] for one in patches])
    widths = np.array([one.labels.shape[1] for one in patches])
    width = max(_WIDTH, int(widths.max()) + 1)
    order = np.argsort(-heights, kind="stable")
    shelf, column = _shelves(widths[order].tolist(), width)
    opening = np.flatnonzero(np.diff(shelf, prepend=-1))
    ends = np.cumsum(heights[order[opening]] + 1)
    tops = np.concatenate([[0], ends[:-1]])
    corner = np.empty((len(patches), 2), np.int64)
    corner[order] = np.stack([column, tops[shelf]], axis=1)
    labels = np.zeros((int(ends[-1]), width), np.uint32)
    values = np.zeros((len(patches[0].values), *labels.shape), np.uint8)
    for one, (x, y) in zip(patches, corner.tolist(), strict=True):
        rows, columns = one.labels.shape
        labels[y : y + rows, x : x + columns] = one.labels
        values[:, y : y + rows, x : x + columns] = one.values
    shift = np.array([(one.x, one.y) for one in patches]) - corner
    return Canvas(labels, values, tops, shelf * width + column, order, shift)


def _shelves(widths: list[int], width: int) -> tuple[Ints, Ints]:
    """Return shelf and first column of each patch, shelf after shelf."""
    shelf, column = [], []
    number = x = 0
    for one in widths:
        if x + one + 1 > width:
            number, x = number + 1, 0
        shelf.append(number)
        column.append(x)
        x += one + 1
    return np.array(shelf), np.array(column)
