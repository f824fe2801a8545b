"""Confidence intervals by case: whole cases are drawn with replacement, over and over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Draws:
    """How often each case is drawn, and which case each image is of.

    Attributes
    ----------
    often
        (draws, cases) int64.
    case
        (images,) index of the case of every image.
    """

    often: NDArray[np.int64]
    case: NDArray[np.intp]

    @classmethod
    def of(cls, cases: Sequence[str], draws: int, seed: int) -> Draws | None:
        """Draw the cases of images; None where there are too few."""
        names, case = np.unique(np.asarray(cases), return_inverse=True)
        often = draw_cases(len(names), draws, seed)
        return None if often is None else cls(often, case)

    def sums(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the sums of (images, ...) values over the images of every draw, (draws, ...)."""
        by_case = np.zeros((self.often.shape[1], *values.shape[1:]), values.dtype)
        np.add.at(by_case, self.case, values)
        return np.tensordot(self.often, by_case, axes=1)

    def means(self, values: Floats) -> Floats:
        """Return the means of (images, ...) values, NaN left out, of every draw, (draws, ...)."""
        weights = self.often[:, self.case].astype(np.float64)
        known = ~np.isnan(values)
        mass = weights @ known
        mean: Floats = weights @ np.where(known, values, 0) / np.where(mass, mass, np.nan)
        return mean


def draw_cases(cases: int, draws: int, seed: int) -> NDArray[np.int64] | None:
    """Return (draws, cases), how often each case is drawn; None where there are too few."""
    if cases < 2 or draws < 2:
        return None
    rng = np.random.default_rng(seed)
    often: NDArray[np.int64] = rng.multinomial(cases, np.full(cases, 1 / cases), size=draws)
    return often


def bounds(values: Floats) -> Floats:
    """Return (2, ...) the ends of the interval of (draws, ...) values; NaN where all are NaN."""
    tail = (1 - LEVEL) / 2
    known = ~np.isnan(values).all(axis=0)
    filled = np.where(known, values, 0.0)
    ends = np.nanquantile(filled, [tail, 1 - tail], axis=0)
    return np.where(known, ends, np.nan)


def mean_of_known(values: Floats) -> Floats:
    """Return the mean over the last axis without NaN; NaN where all are NaN."""
    known = (~np.isnan(values)).sum(axis=-1)
    mean: Floats = np.nansum(values, axis=-1) / np.where(known > 0, known, np.nan)
    return mean


def plain(value: Floats | np.floating[Any]) -> float | None:
    """Return a value for JSON; None for NaN."""
    return None if np.isnan(value) else float(value)


def plain_pair(ends: Floats) -> list[float] | None:
    """Return the (2,) ends of an interval for JSON; None where one is NaN."""
    return None if np.isnan(ends).any() else [float(end) for end in ends]
