"""Halving of maps: probabilities by mean, labels by mode. Pure functions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Unsigned = NDArray[np.unsignedinteger[Any]]


def pyramid_shapes(height: int, width: int, *, stop: int = 1024) -> list[tuple[int, int]]:
    """Return (height, width) of the levels: halved until the longer side is under `stop`."""
    shapes = [(height, width)]
    while max(shapes[-1]) >= stop:
        shapes.append(((shapes[-1][0] + 1) // 2, (shapes[-1][1] + 1) // 2))
    return shapes


def halve_mean(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Average 2 x 2 blocks of uint8 (..., h, w), rounded; odd edges average what there is."""
    even = _even(values)
    # Whole rows first: adding every second column is the slow part, and so is done on half.
    rows = np.add(even[..., ::2, :], even[..., 1::2, :], dtype=np.uint16)
    total = rows[..., ::2] + rows[..., 1::2]
    total += 2
    total >>= 2
    return total.astype(np.uint8)


def halve_mode(labels: Unsigned) -> Unsigned:
    """Take the commonest label of 2 x 2 blocks, unsigned (h, w); ties go to the upper left."""
    even = _even(labels)
    # Every corner is read several times, which strided costs more than a copy.
    a, b, c, d = (np.ascontiguousarray(even[y::2, x::2]) for y in (0, 1) for x in (0, 1))
    second = _choose((b == c) | (b == d), b, _choose(c == d, c, a))
    return _choose((a == b) | (a == c) | (a == d), a, second)


def _choose(condition: NDArray[np.bool_], yes: Unsigned, no: Unsigned) -> Unsigned:
    """Do what `numpy.where` does, by bits: three times faster on bytes."""
    chosen = condition.view(np.uint8).astype(yes.dtype, copy=False)
    return no ^ ((yes ^ no) & -chosen)


def _even(values: Unsigned) -> Unsigned:
    odd_y, odd_x = values.shape[-2] % 2, values.shape[-1] % 2
    if not (odd_y or odd_x):
        return values
    lead = [(0, 0)] * (values.ndim - 2)
    return np.pad(values, [*lead, (0, odd_y), (0, odd_x)], mode="edge")
