"""Splits drawn by case, so that no patient is in two of them."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from wsi_sampath.data.patches import TEST_FOLD, VALIDATION_FOLD, Patch
from wsi_sampath.errors import UsageError

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
        Seed of the draw; the order of `cases` changes nothing.

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


def draw_folds(
    cases: Sequence[str], test_cases: str, test: float, folds: int, seed: int
) -> dict[str, int]:
    """Draw folds by case, with a test split that is named or drawn."""
    if folds < 2 or not 0 <= test < 1:
        raise UsageError("--folds must be 2 or more, and --test at least 0 and below 1")
    if not test_cases:
        return case_folds(cases, folds=folds, test=test, seed=seed)
    pattern = _compiled(test_cases, "--test-cases")
    kept = [case for case in cases if not pattern.search(case)]
    fixed = {case: TEST_FOLD for case in cases if pattern.search(case)}
    if not fixed:
        raise UsageError(f"--test-cases {test_cases!r} matches no case (such as {cases[0]!r})")
    return fixed | case_folds(kept, folds=folds, seed=seed)


def find_case(pattern: str, name: str) -> str:
    """Find the case in a name: the first group of a regular expression, or all of it.

    Raises
    ------
    UsageError
        If it is not found.
    """
    if not pattern:
        return name
    match = _compiled(pattern, "--case").search(name)
    if match is None or not (match[1] if match.re.groups else match[0]):
        raise UsageError(f"--case {pattern!r} finds no case in this name", subject=name)
    return str(match[1] if match.re.groups else match[0])


def spread(sizes: Mapping[str, int], shares: Mapping[int, float], seed: int) -> dict[str, int]:
    """Put every case into the bin farthest below its share; no bin stays empty without need.

    Parameters
    ----------
    sizes
        Number of patches per case.
    shares
        Wanted relative size of every bin; bins of share 0 stay empty.
    seed
        Orders cases of equal size.
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


def _compiled(pattern: str, option: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise UsageError(f"{option} {pattern!r} is not a regular expression: {error}") from error


@dataclass(frozen=True)
class Split:
    """How images are split.

    Attributes
    ----------
    case
        Regular expression: its first group (or all of it) found in an id is the case; without it
        every image is a case of its own.
    test_cases
        Regular expression: the cases in which it is found are the test split.
    test, folds, seed
        As in `case_folds`; `test` only matters without `test_cases`.
    """

    case: str = ""
    test_cases: str = ""
    test: float = 0.2
    folds: int = 5
    seed: int = 0

    def patches(self, img_ids: Sequence[str]) -> dict[str, Patch]:
        """Return the patch of every id."""
        case_of = {img_id: find_case(self.case, img_id) for img_id in img_ids}
        drawn = draw_folds([*case_of.values()], self.test_cases, self.test, self.folds, self.seed)
        return {img_id: Patch(img_id, drawn[case], case) for img_id, case in case_of.items()}
