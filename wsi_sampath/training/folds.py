"""Splits drawn by case, so that no patient is on two sides."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence

from wsi_sampath.training.datasets import TEST_FOLD, VALIDATION_FOLD

_TRAINING = 1


def case_folds(
    cases: Sequence[str], *, folds: int = 5, test: float = 0.0, seed: int = 0
) -> dict[str, int]:
    """Draw a fold for every case.

    Parameters
    ----------
    cases
        The case of each patch; the folds are balanced by number of patches.
    folds
        One of them becomes the validation split (0), the others training (1, 2, ...).
    test
        Share of the patches that become the test split (-1).
    seed
        Another seed, another draw; the order of `cases` changes nothing.

    Returns
    -------
    dict
        Fold by case. A single case is trained on; two leave the validation split empty where a
        test split is wanted.
    """
    sizes = Counter(cases)
    validation = (1 - test) / folds
    shares = {_TRAINING: 1 - test - validation, TEST_FOLD: test, VALIDATION_FOLD: validation}
    drawn = spread(sizes, shares, seed)
    trained = {case: sizes[case] for case, fold in drawn.items() if fold == _TRAINING}
    equal = dict.fromkeys(range(_TRAINING, folds), 1.0)
    return drawn | spread(trained, equal, seed)


def spread(sizes: Mapping[str, int], shares: Mapping[int, float], seed: int) -> dict[str, int]:
    """Put every case into the bin that lacks most to its share; no bin stays empty without need.

    Parameters
    ----------
    sizes
        Patches of every case.
    shares
        Relative size wanted of every bin; bins of share 0 stay empty.
    seed
        Decides among cases of equal size.
    """
    bins = {name: share for name, share in shares.items() if share > 0}
    scale = sum(sizes.values()) / sum(bins.values())
    lacking = {name: share * scale for name, share in bins.items()}
    order = sorted(sizes, key=lambda case: (-sizes[case], _draw(case, seed)))
    drawn: dict[str, int] = {}
    for number, case in enumerate(order):
        first = list(bins)[number] if number < len(bins) else None
        chosen = max(lacking, key=lambda name: lacking[name]) if first is None else first
        lacking[chosen] -= sizes[case]
        drawn[case] = chosen
    return drawn


def _draw(name: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}/{name}".encode()).digest()
