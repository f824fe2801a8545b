"""Scores of found nuclei over many images, with confidence intervals by case."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_sampath.evaluation.instances import Floats, Tally, scores, stacked
from wsi_sampath.evaluation.intervals import LEVEL, Draws, bounds, mean_of_known, plain, plain_pair

_PER_IMAGE = ("f1_50", "aji", "pq", "msa")
_OF_CLASS = ("f1_50", "precision", "recall", "pq", "dq", "sq")


def summarise_instances(
    tallies: Sequence[Tally], cases: Sequence[str], *, draws: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """Return all scores of objects as plain values, ready for JSON.

    Parameters
    ----------
    tallies
        `tally` of every image.
    cases
        Case of every image.
    draws, seed
        Number of draws and seed of the bootstrap, which draws whole cases with replacement.

    Returns
    -------
    dict
        ``true`` and ``found`` (numbers of objects), every score of `scores` pooled over all images,
        ``per_image`` (means over the images that have or were given an object) and ``bootstrap``. A
        score is None where there is nothing to score; its ``_ci`` is [low, high], or None with
        fewer than two cases.
    """
    everything = stacked(tallies)
    total, drawn = _pooled(everything), Draws.of(cases, draws, seed)
    single = {name: value for name, value in scores(everything).items() if name in _PER_IMAGE}
    return {
        "true": int(total.true),
        "found": int(total.found),
        **_with_intervals(scores(total), _drawn_scores(everything, drawn)),
        "per_image": {
            "is": "means over the images with a true nucleus or a found one",
            **_with_intervals(
                {name: mean_of_known(value) for name, value in single.items()},
                None
                if drawn is None
                else {name: drawn.means(value) for name, value in single.items()},
            ),
        },
        "bootstrap": {"unit": "case", "draws": draws, "seed": seed, "level": LEVEL},
    }


def summarise_classes(
    tallies: Sequence[Tally],
    tables: Sequence[NDArray[np.int64]],
    cases: Sequence[str],
    names: Sequence[str],
    *,
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Return the scores of every class of objects as plain values, ready for JSON.

    Parameters
    ----------
    tallies, tables
        Both of `tally_classes`, of every image.
    cases, draws, seed
        As for `summarise_instances`.
    names
        Names of the k classes.

    Returns
    -------
    dict
        ``per_class`` (by name), ``mpq`` (the mean of their ``pq``), ``over`` (which classes that
        goes over), and ``matched``, the sum of the tables.
    """
    everything = stacked(tallies)
    total, drawn = _pooled(everything), Draws.of(cases, draws, seed)
    pooled, ranges = scores(total), _drawn_scores(everything, drawn)
    return {
        "per_class": {
            name: {
                "true": int(total.true[index]),
                "found": int(total.found[index]),
                **_with_intervals(
                    {key: pooled[key][index] for key in _OF_CLASS},
                    ranges and {key: ranges[key][:, index] for key in _OF_CLASS},
                ),
            }
            for index, name in enumerate(names)
        },
        **_with_intervals(
            {"mpq": mean_of_known(pooled["pq"])},
            ranges and {"mpq": mean_of_known(ranges["pq"])},
        ),
        "over": "classes that are true or found anywhere; what is found of any class counts",
        "matched": np.sum(tables, axis=0).tolist(),
    }


def _pooled(everything: Tally) -> Tally:
    return Tally(*(value.sum(axis=0) for value in everything))


def _drawn_scores(everything: Tally, drawn: Draws | None) -> dict[str, Floats] | None:
    """Return the pooled scores of every draw, (draws, ...)."""
    return None if drawn is None else scores(Tally(*(drawn.sums(value) for value in everything)))


def _with_intervals(
    values: dict[str, Floats], drawn: dict[str, Floats] | None
) -> dict[str, float | list[float] | None]:
    """Return every score and, as its ``_ci``, the interval of what was drawn of it."""
    out: dict[str, float | list[float] | None] = {}
    for name, value in values.items():
        out[name] = plain(value)
        out[f"{name}_ci"] = None if drawn is None else plain_pair(bounds(drawn[name]))
    return out
