"""The last stage: blend, hand finished rows to the layer, and make them durable, strip by strip."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from wsi_sampath.inference.blend import Reading, Rows, StripBlender
from wsi_sampath.inference.cuda import Handover
from wsi_sampath.inference.durable.ledger import Arrays, Ledger, PackedStrip, Strip, pack
from wsi_sampath.inference.plan import RunPlan
from wsi_sampath.inference.summary import Tally
from wsi_sampath.slides.grid import mask_rows
from wsi_sampath.slides.stream import Tile

# To save more than this after every strip would cost a fast network a fifth of its time. So many
# bytes a second are saved at most, and a run that is stopped does what came later again.
_HEAVY_BYTES, _BYTES_PER_S = 16_000_000, 20_000_000


class Layer(Protocol):
    """What becomes of finished rows, on the CPU; it owns its writers.

    Attributes
    ----------
    seconds
        Spent so far, by stage.
    """

    seconds: dict[str, float]

    @property
    def reading(self) -> Reading:
        """What it wants of the blended maps."""
        ...

    @property
    def flushed(self) -> int:
        """Rows of the plane that are safe on the disk, from the top."""
        ...

    @property
    def kept(self) -> Arrays:
        """What the files may lack of the rows that were appended last."""
        ...

    def append(self, rows: Rows) -> None:
        """Take the next rows; they come in order."""
        ...

    def finish(self) -> None:
        """Complete what the last rows left open; the files stay open."""
        ...

    def state(self) -> tuple[dict[str, Any], Arrays]:
        """Return JSON notes and arrays: with `kept`, enough to resume after the last rows."""
        ...

    def restore(self, last: Strip, kept: Iterator[Strip]) -> None:
        """Resume after a strip.

        Parameters
        ----------
        last
            Holds what `state` returned then, and the first row in ``notes["y"]``.
        kept
            The strips, `last` included, whose rows the files may lack.
        """
        ...

    def results(self) -> dict[str, Any]:
        """Return what it found, for the attribute of the result."""
        ...

    def analysed_mm2(self) -> float:
        """Return the area that was analysed."""
        ...

    def warnings(self) -> tuple[str, ...]:
        """Return sentences for the user about what it wrote."""
        ...

    def publish(self, attributes: dict[str, Any]) -> dict[str, Any]:
        """Complete the zarr, with the attribute that says so, and return that as stored."""
        ...


@dataclass(frozen=True)
class Answers:
    """Tiles and what the network says of them, on the device.

    Attributes
    ----------
    tiles
        n tiles.
    maps
        float32 (n, maps, tile, tile).
    finite
        bool (n,): where not, the tile counts as failed.
    """

    tiles: tuple[Tile, ...]
    maps: Handover
    finite: Handover


@dataclass
class StripSink:
    """Gather tile answers into the layer, and finished strips into the ledger.

    Parameters
    ----------
    plan
        The run's plan.
    blender
        Blends the answers.
    layer
        Takes finished rows.
    ledger, tally
        Where finished strips are made durable, with the failures up to them.
    save
        Writes a strip to the ledger, perhaps in another thread and a little later.
    """

    plan: RunPlan
    blender: StripBlender
    layer: Layer
    ledger: Ledger
    tally: Tally
    save: Callable[[PackedStrip], None]
    seconds: dict[str, float] = field(default_factory=lambda: {"blend": 0.0, "save": 0.0})
    _row: int = 0
    _carried: float = field(default_factory=time.monotonic)

    def restore(self, last: Strip) -> None:
        """Resume after a strip of the ledger."""
        self.layer.restore(last, self.ledger.needed_by(last))
        self.blender.restore(last.arrays["sums"], last.arrays["weights"])
        self._row = last.row + 1

    def take(self, answers: Answers) -> None:
        """Add a batch of answers; batches come in grid order."""
        all_maps = answers.maps.take()
        all_finite = answers.finite.take().tolist()
        for tile, maps, finite in zip(answers.tiles, all_maps, all_finite, strict=True):
            while self._row < tile.row:
                self._finish_row()
            self._add(tile, maps, finite=finite)

    def finish(self) -> None:
        """Complete all rows; the files stay open."""
        while self._row < len(self.plan.grid.ys):
            self._finish_row()
        self.layer.finish()

    def stages(self) -> dict[str, float]:
        """Return the seconds by stage, those of the layer included."""
        return {"blend": self.seconds["blend"], **self.layer.seconds, "save": self.seconds["save"]}

    def _add(self, tile: Tile, maps: Tensor, *, finite: bool) -> None:
        if not finite:
            self.tally.failed.append((tile, "the network's answer is not finite"))
            return
        start = time.perf_counter()
        self.blender.add(tile.row, tile.column, maps)
        self.tally.analysed += 1
        self._spend("blend", start)

    def _finish_row(self) -> None:
        start = time.perf_counter()
        rows = self.blender.finish_row(self._row, self._tissue())
        self._spend("blend", start)
        self.layer.append(rows)
        start = time.perf_counter()
        self._save(rows.y)
        self._spend("save", start)
        self._row += 1

    def _tissue(self) -> NDArray[np.bool_]:
        grid = self.plan.grid
        columns = (grid.window.x, grid.window.x + grid.window.width)
        plane = (grid.height, grid.width)
        return mask_rows(self.plan.tissue, grid.strip_rows(self._row), columns, plane)

    def _save(self, y: int) -> None:
        if not self._may_carry():
            self.save(pack(Strip(self._row, {"y": y}, self.layer.kept), keep_from=None))
            return
        notes, arrays = self.layer.state()
        notes = {"y": y, **notes, "failed": self.tally.notes(self._row)}
        sums, weights = self.blender.carry()
        arrays = {**self.layer.kept, **arrays, "sums": sums, "weights": weights}
        strip = Strip(self._row, notes, arrays)
        self.save(pack(strip, keep_from=self._first_row_not_on_disk()))
        self._carried = time.monotonic()

    def _may_carry(self) -> bool:
        n_bytes = self.blender.carried_bytes
        waited = time.monotonic() - self._carried
        return n_bytes <= _HEAVY_BYTES or waited >= n_bytes / _BYTES_PER_S

    def _first_row_not_on_disk(self) -> int:
        grid, flushed = self.plan.grid, self.layer.flushed
        rows = (row for row in range(self._row) if grid.strip_rows(row)[1] > flushed)
        return next(rows, self._row)

    def _spend(self, stage: str, start: float) -> None:
        self.seconds[stage] += time.perf_counter() - start
