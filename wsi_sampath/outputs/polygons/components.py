"""4-connected components that stay open from one band of rows to the next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from wsi_sampath.outputs.polygons.runs import Band, Bytes, Ints, Labels, sum_runs

BACKGROUND = -1


@dataclass(frozen=True)
class Components:
    """What is known of each component so far.

    Attributes
    ----------
    labels
        (n,) label of each component.
    pixels, scores
        (n,) int64 number of pixels and sum of the score over them.
    """

    labels: Labels
    pixels: Ints
    scores: Ints

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, chosen: NDArray[np.bool_]) -> Components:
        """Return the chosen components, in the same order."""
        return Components(self.labels[chosen], self.pixels[chosen], self.scores[chosen])

    @classmethod
    def none(cls, dtype: np.dtype[Any]) -> Components:
        """Return an empty table for labels of a dtype."""
        return cls(np.zeros(0, dtype), np.zeros(0, np.int64), np.zeros(0, np.int64))


@dataclass(frozen=True)
class Linked:
    """The components after a band.

    Attributes
    ----------
    components
        Old and new components together, merged where the band connects them.
    carried
        (old,) where each component of before is now.
    of_run
        (runs,) component of each run of the band, `BACKGROUND` for label 0.
    """

    components: Components
    carried: Ints
    of_run: Ints

    def open_after(self, band: Band) -> NDArray[np.bool_]:
        """(components,) True where a component touches the last row of the band."""
        last = np.searchsorted(band.starts, len(band.values) - band.pitch, side="right") - 1
        touching = self.of_run[last:]
        is_open = np.zeros(len(self.components), bool)
        is_open[touching[touching != BACKGROUND]] = True
        return is_open

    def last_row(self, band: Band) -> Ints:
        """(width,) component of each pixel of the band's last row."""
        first = len(band.values) - band.pitch + 1
        run = np.searchsorted(band.starts, np.arange(first, len(band.values) - 1), side="right")
        return self.of_run[run - 1]


def link_components(band: Band, above: Ints, before: Components, score: Bytes) -> Linked:
    """Continue the open components through a band.

    Parameters
    ----------
    band
        The band, cut into runs.
    above
        (width,) open component of each pixel of the row above, `BACKGROUND` for label 0.
    before
        The open components.
    score
        (rows, width) uint8 score of each pixel of the band.
    """
    labels = band.run_labels
    node, fresh = _number_runs(band, above, labels, len(before))
    touch = (labels[band.upper] == labels[band.lower]) & (labels[band.upper] != 0)
    upper, lower = node[band.upper[touch]], node[band.lower[touch]]
    nodes = len(before) + len(fresh)
    edges = coo_array((np.ones(len(upper), bool), (upper, lower)), shape=(nodes, nodes))
    count, joined = connected_components(edges, directed=False)
    joined = joined.astype(np.int64)

    def gather(old: Ints, new: Ints) -> Ints:
        # float64 sums of integers are exact below 2**53
        weights = np.concatenate([old, new]).astype(np.float64)
        return np.bincount(joined, weights=weights, minlength=count).astype(np.int64)

    merged = np.zeros(count, labels.dtype)
    merged[joined] = np.concatenate([before.labels, labels[fresh]])
    components = Components(
        merged,
        gather(before.pixels, band.run_lengths[fresh]),
        gather(before.scores, sum_runs(band, score, fresh)),
    )
    of_run = np.where(labels == 0, BACKGROUND, np.append(joined, BACKGROUND)[node])
    return Linked(components, joined[: len(before)], of_run)


def _number_runs(band: Band, above: Ints, labels: Labels, old: int) -> tuple[Ints, Ints]:
    """Give each run its node in the graph; runs of the row above are the old components."""
    foreground = np.flatnonzero(labels)
    in_band = band.starts[foreground] >= band.pitch
    fresh, carried = foreground[in_band], foreground[~in_band]
    node = np.full(len(labels), BACKGROUND, np.int64)
    node[carried] = above[band.starts[carried] - 1]
    node[fresh] = old + np.arange(len(fresh))
    return node, fresh
