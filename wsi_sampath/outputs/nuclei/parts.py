"""Which pixels of a canvas make up which part of which nucleus."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_sampath.outputs.nuclei.canvas import Canvas
from wsi_sampath.outputs.nuclei.measure import NucleusRuns
from wsi_sampath.outputs.nuclei.outlines import Outlines
from wsi_sampath.outputs.nuclei.trace import trace_rings
from wsi_sampath.outputs.polygons.components import BACKGROUND, Components, link_components
from wsi_sampath.outputs.polygons.cracks import find_cracks
from wsi_sampath.outputs.polygons.ragged import offsets_of
from wsi_sampath.outputs.polygons.runs import Band, Ints, cut_band


@dataclass(frozen=True)
class Parts:
    """The nuclei of a canvas and their 4-connected parts.

    Attributes
    ----------
    ids
        uint32 (n,) by patch, then by id.
    patch
        (n,) index of the patch of each nucleus.
    runs
        Their pixels.
    band
        The canvas, cut into runs.
    of_run
        (runs of the band,) part at each, or `BACKGROUND`.
    rank
        (parts,) place of each part in the order of nuclei, then of first pixels.
    nucleus
        (parts,) nucleus of each part in that order.
    """

    ids: NDArray[np.uint32]
    patch: Ints
    runs: NucleusRuns
    band: Band
    of_run: Ints
    rank: Ints
    nucleus: Ints

    def outlines(self, shift: Ints) -> Outlines:
        """Outline the nuclei; `shift` is (n, 2), what leads from the canvas to the plane."""
        band = self.band
        rings = trace_rings(find_cracks(band, self.of_run), self.rank, (band.rows + 1, band.pitch))
        nucleus_of_ring = self.nucleus[rings.part]
        moved = rings.points + np.repeat(shift[nucleus_of_ring], np.diff(rings.offsets), axis=0)
        return Outlines(
            moved.astype(np.int32),
            rings.offsets,
            offsets_of(np.bincount(rings.part, minlength=len(self.rank))),
            offsets_of(np.bincount(self.nucleus, minlength=len(self.ids))),
        )


def find_parts(canvas: Canvas) -> Parts:
    """Find all nuclei of a canvas and the parts that they consist of."""
    rows, width = canvas.labels.shape
    band = cut_band(np.zeros(width, np.uint32), canvas.labels)
    above = np.full(width, BACKGROUND, np.int64)
    nothing = Components.none(canvas.labels.dtype)
    of_run = link_components(band, above, nothing, canvas.values[0]).of_run
    inside = np.flatnonzero(of_run != BACKGROUND)
    row, column = np.divmod(band.starts[inside], band.pitch)
    row, column = row - 1, column - 1
    first = _first_of_each(of_run[inside])
    patch = canvas.patch_at(row[first], column[first])
    label = band.run_labels[inside[first]]
    keys, nucleus = np.unique((patch << 32) | label.astype(np.int64), return_inverse=True)
    order = np.lexsort((first, nucleus))
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    runs = NucleusRuns(row, column, band.run_lengths[inside], nucleus[of_run[inside]])
    ids = (keys & 0xFFFFFFFF).astype(np.uint32)
    return Parts(ids, keys >> 32, runs, band, of_run, rank, nucleus[order])


def _first_of_each(part: Ints) -> Ints:
    first = np.empty(int(part.max(initial=-1)) + 1, np.int64)
    first[part[::-1]] = np.arange(len(part))[::-1]
    return first
