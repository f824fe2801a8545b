from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from wsi_sampath.data.folds import case_folds

sizes = st.lists(st.integers(1, 30), min_size=1, max_size=40)


def cases_of(counts):
    return [f"case {i}" for i, size in enumerate(counts) for _ in range(size)]


@given(sizes, st.integers(2, 6), st.floats(0, 0.5), st.integers(0, 9))
def test_every_case_has_one_fold_and_order_is_nothing(counts, folds, test, seed):
    cases = cases_of(counts)
    drawn = case_folds(cases, folds=folds, test=test, seed=seed)
    assert drawn == case_folds(cases[::-1], folds=folds, test=test, seed=seed)
    assert drawn.keys() == set(cases)
    assert set(drawn.values()) <= set(range(-1 if test else 0, folds))


@given(sizes, st.integers(0, 9))
def test_training_is_never_empty_nor_the_others_without_need(counts, seed):
    splits = {min(fold, 1) for fold in case_folds(cases_of(counts), test=0.2, seed=seed).values()}
    assert 1 in splits
    assert len(splits) == min(3, len(counts))


def test_shares_are_kept():
    cases = cases_of([3, 1, 2, 4] * 50)
    drawn = case_folds(cases, folds=5, test=0.2)
    found = Counter(drawn[case] for case in cases)
    assert found == {-1: 100, **dict.fromkeys(range(5), 80)}


def test_seeds_differ():
    cases = cases_of([1] * 50)
    assert case_folds(cases, seed=1) != case_folds(cases, seed=2)
