"""Label plane to polygons: exact, without seams, from rows as they arrive."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from wsi_sampath.errors import WsiError
from wsi_sampath.outputs.polygons.arcs import Arcs, HalfArcs, halve_arcs, join_cracks
from wsi_sampath.outputs.polygons.components import BACKGROUND, Components, Linked, link_components
from wsi_sampath.outputs.polygons.cracks import Cracks, find_cracks
from wsi_sampath.outputs.polygons.rings import build_polygons
from wsi_sampath.outputs.polygons.runs import Band, Bytes, Labels, cut_band
from wsi_sampath.outputs.polygons.simplify import simplify_arcs
from wsi_sampath.outputs.polygons.tiling import Tiling, choose_tiles, one_tile, split_cracks

BAND_ROWS = 512
_MOST = 2**32 - 1


@dataclass(frozen=True)
class TracedPolygon:
    """One 4-connected region of equal labels.

    Attributes
    ----------
    label
        1 or more: a class, or the id of an object.
    polygon
        Valid polygon with holes in plane pixels, y down; pixel corners are integers, so the
        pixel in row r, column c covers (c, r) to (c + 1, r + 1).
    pixels
        Number of pixels of the region (of the plane, also if the polygon is simplified).
    mean_score
        Mean of the score over those pixels, 0 to 255.
    """

    label: int
    polygon: shapely.Polygon
    pixels: int
    mean_score: float


class PolygonTracer:
    """Trace a label plane that arrives as rows, top to bottom.

    Regions are 4-connected; holes are kept and islands in them are polygons of their own; label
    0 ("not analysed") gives none. A polygon is handed out as soon as its region can't grow any
    more. Rows are worked on in bands of a fixed height, so the result does not depend on how
    they are cut into calls. Memory holds one band and the borders of the regions still open.

    Parameters
    ----------
    width
        Width of the plane in pixels.
    largest_label
        Largest label that may occur: up to 255 the plane is uint8, beyond it uint32.
    simplify
        Largest distance in plane pixels by which borders may move; 0 is exact. Neighbours share
        the simplified border, and points on the frame of the plane do not move. An exact result
        does not depend on `band_rows`; a simplified one does, for points where a border crosses
        from band to band or from tile to tile stay.
    band_rows
        Rows worked on at a time.

    Raises
    ------
    WsiError
        `bad-input` for a size, tolerance, shape, type or label out of range.
    """

    def __init__(
        self, width: int, *, largest_label: int, simplify: float = 0.0, band_rows: int = BAND_ROWS
    ) -> None:
        if width < 1 or not 1 <= largest_label <= _MOST or band_rows < 1:
            raise WsiError("bad-input", f"can't trace {largest_label} labels on width {width}")
        if not (np.isfinite(simplify) and simplify >= 0):
            raise WsiError("bad-input", f"the tolerance must be 0 or more, not {simplify}")
        self._width = width
        self._largest_label = largest_label
        self._dtype = np.dtype(np.uint8 if largest_label <= 255 else np.uint32)
        self._simplify = simplify
        self._band_rows = band_rows
        self._row = 0
        self._labels: Labels = np.zeros((0, width), self._dtype)
        self._score = np.zeros((0, width), np.uint8)
        self._above: Labels = np.zeros(width, self._dtype)
        self._above_component = np.full(width, BACKGROUND, np.int64)
        self._components = Components.none(self._dtype)
        self._halves = HalfArcs.none()

    def append(self, labels: Labels, score: Bytes) -> list[TracedPolygon]:
        """Take the next rows and return the polygons that are final now.

        Parameters
        ----------
        labels
            (rows, width) uint8 or uint32, see `largest_label`; 0 not analysed.
        score
            (rows, width) uint8, whose mean over each region is wanted: probabilities times 255.

        Returns
        -------
        list of TracedPolygon
            In a fixed order; each region is returned once.
        """
        self._check(labels, score)
        waiting = np.concatenate([self._labels, labels])
        waiting_score = np.concatenate([self._score, score])
        full = len(waiting) // self._band_rows * self._band_rows
        done: list[TracedPolygon] = []
        for top in range(0, full, self._band_rows):
            rows = slice(top, top + self._band_rows)
            done += self._trace(waiting[rows], waiting_score[rows], closing=False)
        self._labels, self._score = waiting[full:].copy(), waiting_score[full:].copy()
        return done

    def finish(self) -> list[TracedPolygon]:
        """Return the polygons that are left; the plane ends here."""
        labels = np.concatenate([self._labels, np.zeros((1, self._width), self._dtype)])
        score = np.concatenate([self._score, np.zeros((1, self._width), np.uint8)])
        self._labels, self._score = labels[:0], score[:0]
        return self._trace(labels, score, closing=True)

    def state(self) -> dict[str, NDArray[Any]]:
        """Return everything the tracer knows as plain arrays, for `from_state` to resume from."""
        settings = [self._width, self._largest_label, self._simplify, self._band_rows, self._row]
        return {
            "settings": np.array(settings, np.float64),
            "rows.labels": self._labels,
            "rows.score": self._score,
            "above.labels": self._above,
            "above.component": self._above_component,
            **_columns("components", self._components),
            **_columns("halves", self._halves),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray[Any]]) -> PolygonTracer:
        """Return a tracer that continues where `state` was taken."""
        width, largest, simplify, band_rows, row = state["settings"].tolist()
        tracer = cls(
            int(width), largest_label=int(largest), simplify=simplify, band_rows=int(band_rows)
        )
        tracer._row = int(row)
        tracer._labels, tracer._score = state["rows.labels"], state["rows.score"]
        tracer._above = state["above.labels"]
        tracer._above_component = state["above.component"]
        tracer._components = Components(*_fields(Components, "components", state))
        tracer._halves = HalfArcs(*_fields(HalfArcs, "halves", state))
        return tracer

    def _check(self, labels: Labels, score: Bytes) -> None:
        if labels.ndim != 2 or labels.shape[1] != self._width or labels.shape != score.shape:
            wanted = f"(rows, {self._width})"
            message = f"labels {labels.shape} and score {score.shape} must both be {wanted}"
            raise WsiError("bad-input", message)
        if labels.dtype != self._dtype or score.dtype != np.uint8:
            message = f"labels {labels.dtype} and score {score.dtype} must be {self._dtype}, uint8"
            raise WsiError("bad-input", message)
        if labels.size and int(labels.max()) > self._largest_label:
            raise WsiError("bad-input", f"label {labels.max()} of {self._largest_label}")

    def _trace(self, labels: Labels, score: Bytes, *, closing: bool) -> list[TracedPolygon]:
        band = cut_band(self._above, labels)
        linked = link_components(band, self._above_component, self._components, score)
        arcs = self._find_arcs(band, linked, len(labels) - closing)
        earlier = self._halves.owned_by(linked.carried[self._halves.owner])
        halves = HalfArcs.joined(earlier, halve_arcs(arcs, self._row))
        is_open = linked.open_after(band)
        final = ~is_open[halves.owner]
        done = self._polygons(linked.components, halves.take(final))
        renamed = np.append(np.cumsum(is_open) - 1, BACKGROUND)
        remaining = halves.take(~final)
        self._halves = remaining.owned_by(renamed[remaining.owner])
        self._components = linked.components.take(is_open)
        self._above_component = renamed[linked.last_row(band)]
        self._above = labels[-1].copy()
        self._row += len(labels)
        return done

    def _find_arcs(self, band: Band, linked: Linked, height: int) -> Arcs:
        cracks = find_cracks(band, linked.of_run)
        if self._simplify == 0:
            return self._join(cracks, one_tile(self._width, height))
        tiling = choose_tiles(band, linked, self._width, height)
        arcs = self._join(split_cracks(cracks, tiling), tiling)
        return simplify_arcs(arcs, self._simplify, tiling)

    def _join(self, cracks: Cracks, tiling: Tiling) -> Arcs:
        fixed = tiling.on_frame(np.concatenate([cracks.start, cracks.end]))
        return join_cracks(cracks, self._width + 1, fixed)

    def _polygons(self, components: Components, halves: HalfArcs) -> list[TracedPolygon]:
        owners, polygons = build_polygons(halves, straighten=self._simplify == 0)
        labels, pixels = components.labels[owners].tolist(), components.pixels[owners]
        means = (components.scores[owners] / pixels).tolist()
        columns = zip(labels, polygons, pixels.tolist(), means, strict=True)
        return [TracedPolygon(*column) for column in columns]


def _columns(prefix: str, table: Components | HalfArcs) -> dict[str, NDArray[Any]]:
    return {f"{prefix}.{name}": getattr(table, name) for name in table.__dataclass_fields__}


def _fields(
    table: type[Components | HalfArcs], prefix: str, state: Mapping[str, NDArray[Any]]
) -> list[NDArray[Any]]:
    return [state[f"{prefix}.{name}"] for name in table.__dataclass_fields__]
