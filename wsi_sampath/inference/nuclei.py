"""Nuclei of a slide: what is kept of the maps, and the files that maps and nuclei go into.

What the network says is rounded to 255ths before it is blended, and again after. So the blended
maps are those of a single tile bit for bit wherever tiles agree, and the maps that decide about the
nuclei are those that are stored.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsi_sampath.inference.blend import Plane, Rows, to_bytes
from wsi_sampath.inference.durable.ledger import Arrays, Strip, under
from wsi_sampath.inference.existing_outlines import to_plane
from wsi_sampath.inference.instances.existing import ExistingNuclei
from wsi_sampath.inference.instances.pending import PendingNuclei, PlacedIds
from wsi_sampath.inference.instances.source import NucleusSource
from wsi_sampath.inference.instances.stream import NucleusStream
from wsi_sampath.inference.nucleus_files import NucleusFiles, open_nucleus_files
from wsi_sampath.inference.plan import Run, RunPlan
from wsi_sampath.inference.prompted.source import asked_nuclei
from wsi_sampath.inference.stains import stain_densities
from wsi_sampath.inference.stored_maps import (
    CLASS_MAP,
    NUCLEI,
    count_labels,
    open_pyramid,
    plane_to_slide,
    widened,
)
from wsi_sampath.outputs.nuclei.channels import NUCLEUS_CHANNELS
from wsi_sampath.outputs.nuclei.patch import NucleusPatch, channels_of
from wsi_sampath.outputs.omezarr.bands import CHUNK
from wsi_sampath.outputs.omezarr.images import ROOT
from wsi_sampath.outputs.omezarr.pyramid import PyramidWriter

_N_MAPS = len(NUCLEUS_CHANNELS)
_STAINS = 2
# Densities are kept in hundredths, so that 2.55 is the highest.
_PER_DENSITY = 100 / 255
_SOURCE, _PENDING = "source.", "pending."


@dataclass(frozen=True)
class NucleusReading:
    """Maps of nuclei read as what is stored of them.

    The planes are ``maps``, uint8 (3, rows, columns), round(255 p) of `NUCLEUS_CHANNELS`;
    ``values``, uint8 (n, rows, columns): hundredths of the optical density of haematoxylin and of
    eosin, then round(255 p) of each class where there are several; ``analysed``, uint8 (rows,
    columns), 1 or 0.

    Parameters
    ----------
    n_classes
        Number of classes, k.
    """

    n_classes: int

    @property
    def n_maps(self) -> int:
        """See `Reading`."""
        return _N_MAPS + self.n_values

    @property
    def n_values(self) -> int:
        """Channels of ``values``."""
        return _STAINS + (self.n_classes if self.n_classes > 1 else 0)

    @property
    def planes(self) -> tuple[Plane, ...]:
        """See `Reading`."""
        return (
            Plane("maps", lead=(_N_MAPS,)),
            Plane("values", lead=(self.n_values,)),
            Plane("analysed"),
        )

    def blended(self, tiles: Tensor, maps: Tensor) -> Tensor:
        """See `Reading`."""
        stains = stain_densities(tiles, maps.shape[-1]).mul(_PER_DENSITY).clamp_max(1)
        found = [maps[:, :_N_MAPS], stains]
        if self.n_classes > 1:
            # The first map of the class decoder is that of no nucleus.
            found.append(maps[:, _N_MAPS + 1 : _N_MAPS + 1 + self.n_classes])
        return torch.cat(found, dim=1).mul_(255).round_().div_(255)

    def __call__(self, sums: Tensor, weights: Tensor, analysed: Tensor) -> tuple[Tensor, ...]:
        """See `Reading`."""
        values = to_bytes(sums / weights).mul_(analysed)
        return values[:_N_MAPS], values[_N_MAPS:], analysed.to(torch.uint8)


@dataclass
class NucleusLayer:
    """Maps and nuclei of a slide, row after row.

    Parameters
    ----------
    plan
        The run's plan.
    class_names
        Names of the classes 1..k.
    pyramid
        Takes the maps, the nuclei and their classes.
    source
        Finds the nuclei.
    objects
        Takes the nuclei one by one.
    """

    plan: RunPlan
    class_names: tuple[str, ...]
    pyramid: PyramidWriter
    source: NucleusSource
    objects: NucleusFiles
    seconds: dict[str, float] = field(
        default_factory=lambda: {"write": 0.0, "nuclei": 0.0, "vectorise": 0.0}
    )

    def __post_init__(self) -> None:
        self._analysed_px = 0.0
        self.kept: Arrays = {}
        self._pending = PendingNuclei(self.plan.grid.window.width)
        self._painted = 0

    @property
    def reading(self) -> NucleusReading:
        """See `Layer`."""
        return NucleusReading(len(self.class_names))

    @property
    def flushed(self) -> int:
        """See `Layer`."""
        return self.pyramid.flushed

    def append(self, rows: Rows) -> None:
        """See `Layer`."""
        start = time.perf_counter()
        maps, analysed = rows.planes["maps"], rows.planes["analysed"]
        self._analysed_px += float(count_labels(analysed, rows.y, self.plan, 1)[1])
        self.kept = {"maps": maps} if maps.any() else {}
        self._store(rows.y, maps, 0)
        start = self._spend("write", start)
        shares, values = _of_source(maps, rows.planes["values"], analysed)
        patches = self.source.append(shares, values, analysed)
        start = self._spend("nuclei", start)
        self._take(patches)
        start = self._spend("vectorise", start)
        settled = self.plan.grid.window.y + self.source.settled
        self._paint(settled // CHUNK * CHUNK)
        self._spend("write", start)

    def finish(self) -> None:
        """See `Layer`."""
        start = time.perf_counter()
        patches = self.source.finish()
        start = self._spend("nuclei", start)
        self._take(patches)
        start = self._spend("vectorise", start)
        window = self.plan.grid.window
        self._paint(window.y + window.height)
        self._spend("write", start)

    def state(self) -> tuple[dict[str, Any], Arrays]:
        """See `Layer`."""
        source_notes, source = self.source.state()
        notes = {
            "flushed": self.pyramid.flushed,
            "stored": self.pyramid.stored_digest(),
            "source": source_notes,
            "analysed_px": self._analysed_px,
            "painted": self._painted,
            **self.objects.state(),
        }
        arrays = {_SOURCE + name: one for name, one in source.items()}
        return notes, arrays | {_PENDING + name: one for name, one in self._pending.state().items()}

    def restore(self, last: Strip, kept: Iterator[Strip]) -> None:
        """See `Layer`."""
        flushed = self.pyramid.flushed
        for strip in kept:
            if "maps" in strip.arrays:
                self._store(strip.notes["y"], strip.arrays["maps"], flushed)
        self._analysed_px, self._painted = last.notes["analysed_px"], last.notes["painted"]
        self._pending = PendingNuclei.from_state(
            self.plan.grid.window.width, under(_PENDING, last.arrays)
        )

    def results(self) -> dict[str, Any]:
        """See `Layer`."""
        return self.objects.results(self.class_names, self.analysed_mm2())

    def analysed_mm2(self) -> float:
        """See `Layer`."""
        um_x, um_y = self.plan.um_per_px
        return self._analysed_px * um_x * um_y * 1e-6

    def warnings(self) -> tuple[str, ...]:
        """See `Layer`."""
        given = self.plan.existing
        n_given = 0 if given is None else len(given)
        left_out = n_given - int(self.objects.counts.nuclei.sum())
        if given is None or not left_out:
            return self.objects.warnings()
        note = f"{left_out:,} of {n_given:,} given nuclei are left out: nothing was analysed there"
        return note, *self.objects.warnings()

    def publish(self, attributes: dict[str, Any]) -> dict[str, Any]:
        """See `Layer`."""
        return self.pyramid.finish(attributes)

    def _take(self, patches: Sequence[NucleusPatch]) -> None:
        """Write final nuclei, and keep them until their rows are final."""
        if patches:
            classes = self.objects.write(patches)
            # Patches come by where they lie, ids by the rows: the lowest may be in any of them.
            spans = [_span(patch.labels) for patch in patches]
            first = min(low for low, _ in spans)
            for patch, (low, high) in zip(patches, spans, strict=True):
                of_patch = classes[low - first : high + 1 - first]
                self._pending.add(PlacedIds(patch.y, patch.x, patch.labels, low, of_patch))

    def _paint(self, end: int) -> None:
        """Store ids and classes of the plane's rows before `end`."""
        top = self.plan.grid.window.y
        while self._painted < end:
            last = min(end, (self._painted // CHUNK + 1) * CHUNK)
            first = max(self._painted, top)
            if first < last:
                ids, classes = self._pending.take(first - top, last - top)
                self.pyramid.append(NUCLEI, first, widened(ids, self.plan))
                self.pyramid.append(CLASS_MAP, first, widened(classes, self.plan))
                if not self.pyramid.spec.root.channels:
                    self.pyramid.append(ROOT, first, widened(classes, self.plan))
            self._painted = last

    def _store(self, y: int, maps: NDArray[np.uint8], flushed: int) -> None:
        skip = max(0, flushed - y)
        if self.pyramid.spec.root.channels and skip < maps.shape[1]:
            self.pyramid.append(ROOT, y + skip, widened(maps[:, skip:], self.plan))

    def _spend(self, stage: str, start: float) -> float:
        now = time.perf_counter()
        self.seconds[stage] += now - start
        return now


@contextmanager
def open_nucleus_layer(run: Run, last: Strip | None) -> Iterator[NucleusLayer]:
    """Open what the nuclei of a run go into; the files are complete when the block ends.

    Parameters
    ----------
    run
        The run; its output is claimed.
    last
        The strip after which it resumes; None for a new run.
    """
    pyramid = open_pyramid(run, last)
    names = tuple(one.name for one in run.model.spec.classes)
    with open_nucleus_files(run, None if last is None else last.notes) as objects:
        yield NucleusLayer(run.plan, names, pyramid, _source(run, len(names), last), objects)


def _source(run: Run, n_classes: int, last: Strip | None) -> NucleusSource:
    channels, window = channels_of(n_classes), run.plan.grid.window
    arrays = {} if last is None else under(_SOURCE, last.arrays)
    if run.plan.existing is not None:
        outlines = to_plane(run.plan.existing, plane_to_slide(run))
        existing = ExistingNuclei(outlines, window.height, window.width, channels=channels)
        return existing if last is None else existing.resumed(last.notes["source"], arrays)
    if run.settings.mode != "ais":
        asked = asked_nuclei(run, channels=channels)
        return asked if last is None else asked.resumed(last.notes["source"], arrays)
    if last is not None:
        return NucleusStream.from_state(run.settings.nuclei, last.notes["source"], arrays)
    return NucleusStream(run.settings.nuclei, window.width, channels=channels)


def _of_source(
    maps: NDArray[np.uint8], values: NDArray[np.uint8], analysed: NDArray[np.uint8]
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return the maps as the stream takes them, and the values that go with them."""
    shares = maps.astype(np.float32) / np.float32(255)
    # Nothing analysed is not the middle of a nucleus: both distances are those outside of any.
    np.copyto(shares[1:], 1, where=analysed == 0)
    return shares, np.concatenate([maps[:1], values])


def _span(labels: NDArray[np.uint32]) -> tuple[int, int]:
    """Return the lowest and the highest id of a patch."""
    ids = labels[labels > 0]
    return int(ids.min()), int(ids.max())
