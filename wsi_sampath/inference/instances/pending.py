"""Nuclei that are final, but whose rows of the plane are not: kept by piece until those are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from wsi_sampath.inference.durable.ledger import Arrays

Ids = NDArray[np.uint32]
Classes = NDArray[np.uint8]


@dataclass(frozen=True)
class PlacedIds:
    """Nuclei of a part of the plane, numbered without gaps.

    Attributes
    ----------
    y, x
        First row and column of the part.
    ids
        uint32 (rows, columns); 0 for whatever else stands there.
    first
        The lowest id.
    classes
        uint8 (n,): classes 1..k of the ids from `first` on.
    """

    y: int
    x: int
    ids: Ids
    first: int
    classes: Classes

    @property
    def end(self) -> int:
        """The first row below."""
        return self.y + len(self.ids)


class PendingNuclei:
    """Nuclei painted into rows once no later one can come there.

    Parameters
    ----------
    width
        Columns of the plane.
    placed
        What is waiting.
    """

    def __init__(self, width: int, placed: Iterable[PlacedIds] = ()) -> None:
        self._width, self._placed = width, list(placed)

    def add(self, placed: PlacedIds) -> None:
        """Take nuclei that are final."""
        self._placed.append(placed)

    def take(self, first: int, last: int) -> tuple[Ids, Classes]:
        """Return ids and classes of the rows `first` to `last`, and forget what ends there."""
        ids = np.zeros((last - first, self._width), np.uint32)
        classes = np.zeros(ids.shape, np.uint8)
        for one in self._placed:
            top, bottom = max(first, one.y), min(last, one.end)
            if top < bottom:
                part = one.ids[top - one.y : bottom - one.y]
                place = (slice(top - first, bottom - first), slice(one.x, one.x + part.shape[1]))
                is_nucleus = part > 0
                ids[place][is_nucleus] = part[is_nucleus]
                classes[place][is_nucleus] = one.classes[part[is_nucleus] - one.first]
        self._placed = [one for one in self._placed if one.end > last]
        return ids, classes

    def state(self) -> Arrays:
        """Return arrays: enough to go on from."""
        placed = self._placed
        heads = [(one.y, one.x, *one.ids.shape, one.first, len(one.classes)) for one in placed]
        return {
            "heads": np.array(heads, np.int64).reshape(-1, 6),
            "ids": np.concatenate([np.zeros(0, np.uint32), *(one.ids.ravel() for one in placed)]),
            "classes": np.concatenate([np.zeros(0, np.uint8), *(one.classes for one in placed)]),
        }

    @classmethod
    def from_state(cls, width: int, arrays: Arrays) -> Self:
        """Go on from what `state` returned."""
        heads = arrays["heads"]
        ids = np.split(arrays["ids"], np.cumsum(heads[:, 2] * heads[:, 3]))
        classes = np.split(arrays["classes"], np.cumsum(heads[:, 5]))
        return cls(
            width,
            (
                PlacedIds(y, x, part.reshape(height, columns), first, of_part)
                for (y, x, height, columns, first, _), part, of_part in zip(
                    heads.tolist(), ids[:-1], classes[:-1], strict=True
                )
            ),
        )
