from __future__ import annotations

import numpy as np
import pytest

from wsi_sampath.evaluation.confusions import confusion_lines, named_confusion

NAMES = [f"class number {n}" for n in range(1, 11)]


def shown(counts, names, unit="pixels", width=80):
    return list(confusion_lines(named_confusion(np.array(counts), names, unit), width))


def test_ten_classes_fit_into_80_columns():
    counts = np.hstack([np.eye(10, 1, dtype=int), np.eye(10, dtype=int) * 2_500_000])
    lines = shown(counts, NAMES)
    assert max(map(len, lines)) <= 80
    assert lines[2] == f"  1 class num..   0.0 99.9{'  0.0' * 9}    2.5 M"
    assert lines[11].startswith("  10 class nu..")


def test_what_was_not_found_is_a_column_where_there_is_any():
    lines = shown([[0, 6, 2], [5, 0, 0]], ["other", "gland"])
    assert lines[1].split() == ["none", "1", "2", "pixels"]
    assert lines[2].split() == ["1", "other", "0.0", "75.0", "25.0", "8"]
    assert lines[3].split() == ["2", "gland", "100", "0.0", "0.0", "5"]


def test_nuclei_found_where_none_is_true_are_a_row():
    lines = shown([[0, 1, 3], [1, 3, 0], [0, 0, 0]], ["round", "dark"], "nuclei")
    assert lines[2].split() == ["none", "0.0", "25.0", "75.0", "4"]
    assert lines[4].split() == ["2", "dark", "-", "-", "-", "0"]


@pytest.mark.parametrize(("width", "fits"), [(80, False), (100, True)])
def test_a_table_that_is_too_wide_is_not_broken(width, fits):
    names = [f"c{n}" for n in range(14)]
    lines = shown(np.ones((14, 15), int), names, width=width)
    assert (len(lines) == 16) == fits
    assert fits or lines == ["  confusion matrix of 14 classes: too wide to show, see --json"]
