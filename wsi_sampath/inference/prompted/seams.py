"""Objects of overlapping fields brought together: each once, whatever the order of the work.

A field takes precedence over its neighbours by where it stands: even before odd rows, and in a row
even before odd columns. So what an object loses to others depends on its neighbourhood alone, never
on a chain of fields that begins at the corner of a region.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np

from wsi_sampath.inference.durable.ledger import Arrays
from wsi_sampath.inference.prompted.fields import Fields
from wsi_sampath.inference.prompted.masks import Mask, claim

FoundByColumn = Mapping[int, Sequence[Mask]]
"""Objects of the fields of one row, on the plane, by the fields' columns."""


class Seams:
    """Final objects of a region, field row by field row, in the order of rows and columns.

    Held in memory are the objects of one row of fields, and which pixels are taken in two.

    Parameters
    ----------
    fields
        The fields.
    max_covered
        An object is left out if a larger share of it belongs to others already.
    min_area_px
        Objects of which fewer pixels are left are left out.
    """

    def __init__(self, fields: Fields, *, max_covered: float, min_area_px: int) -> None:
        self._fields = fields
        self._max_covered, self._min_area_px = max_covered, min_area_px
        self._left, right = fields.span
        self._taken = np.zeros((0, right - self._left), bool)
        self._top = 0
        self._waiting_row = -1
        self._waiting: dict[int, list[Mask]] = {}

    def append(self, row: int, found: FoundByColumn) -> list[Mask]:
        """Take the next row of fields, and return the objects that it makes final.

        Parameters
        ----------
        row
            Its number in the grid; rows with nothing to look at may be left out.
        found
            Objects that lie on tissue and that their field may own, best first.
        """
        final = self._settle_waiting() if self._waiting_row not in {-1, row - 1} else []
        self._cover(row)
        if row % 2:
            self._waiting_row = row
            self._waiting = {column: list(masks) for column, masks in found.items()}
            return final
        # This row goes first, and yet comes after the one above it.
        accepted = self._accept(found)
        return [*final, *self._settle_waiting(), *accepted]

    def finish(self) -> list[Mask]:
        """Return the objects that the end of the region makes final."""
        return self._settle_waiting()

    @property
    def top(self) -> int | None:
        """The highest row of the plane that a waiting object may reach; None if none waits."""
        return None if self._waiting_row < 0 else self._fields.grid.ys[self._waiting_row]

    def state(self) -> tuple[dict[str, Any], Arrays]:
        """Return JSON notes and arrays, enough to resume after the row appended last."""
        masks = [(column, mask) for column, each in self._waiting.items() for mask in each]
        heads = [(column, mask.y, mask.x, *mask.pixels.shape) for column, mask in masks]
        pixels = [mask.pixels.ravel() for _, mask in masks]
        notes = {"top": self._top, "waiting_row": self._waiting_row}
        return notes, {
            "taken": self._taken,
            "heads": np.array(heads, np.int64).reshape(-1, 5),
            "pixels": np.concatenate([np.zeros(0, bool), *pixels]),
        }

    def resumed(self, notes: dict[str, Any], arrays: Arrays) -> Self:
        """Go on where `state` was taken, of the same fields."""
        self._top, self._waiting_row = notes["top"], notes["waiting_row"]
        self._taken, heads = arrays["taken"].copy(), arrays["heads"]
        self._waiting = {}
        ends = np.cumsum(heads[:, 3] * heads[:, 4])
        parts = np.split(arrays["pixels"], ends)[:-1]
        for (column, y, x, height, width), part in zip(heads.tolist(), parts, strict=True):
            mask = Mask(y, x, part.reshape(height, width))
            self._waiting.setdefault(column, []).append(mask)
        return self

    def _cover(self, row: int) -> None:
        """Move the pixels that are known to be taken or not down to a row of fields."""
        grid = self._fields.grid
        waiting = self.top
        top = grid.ys[row] if waiting is None else waiting
        bottom = grid.ys[row] + grid.tile
        taken = np.zeros((bottom - top, self._taken.shape[1]), bool)
        kept = self._taken[max(top - self._top, 0) :]
        taken[: len(kept)] = kept[: len(taken)]
        self._taken, self._top = taken, top

    def _settle_waiting(self) -> list[Mask]:
        found, self._waiting, self._waiting_row = self._waiting, {}, -1
        return self._accept(found)

    def _accept(self, found: FoundByColumn) -> list[Mask]:
        in_turn = sorted(found, key=lambda column: (column % 2, column))
        accepted = {column: [*self._claimed(found[column])] for column in in_turn}
        return [mask for column in sorted(accepted) for mask in accepted[column]]

    def _claimed(self, masks: Sequence[Mask]) -> Iterator[Mask]:
        for mask in masks:
            for piece in claim(
                mask.moved(-self._top, -self._left),
                self._taken,
                max_covered=self._max_covered,
                min_area_px=self._min_area_px,
            ):
                yield piece.moved(self._top, self._left)
