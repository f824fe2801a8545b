"""The learning rate of SAM-Path's training."""

from __future__ import annotations

from collections.abc import Sequence

_DROP = 0.1


def learning_rate(step: int, peak: float, *, warm_up: int, drops: Sequence[int]) -> float:
    """Return the learning rate of one optimiser step.

    Parameters
    ----------
    step
        Counted from 0.
    peak
        Reached after the warm-up.
    warm_up
        Steps of the linear rise; the first one has rate 0.
    drops
        Steps from which on the rate is a tenth of what it was.
    """
    rise = min(1.0, step / warm_up) if warm_up else 1.0
    return peak * rise * _DROP ** sum(drop <= step for drop in drops)
