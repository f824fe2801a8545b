import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from wsi_sampath.evaluation.metrics import class_scores, confusion

labels = arrays.arrays(np.uint8, (5, 4), elements=st.integers(0, 3))


@given(labels, labels)
def test_counts_are_the_pixels(truth, predicted):
    counts = confusion(truth, predicted, 3)
    for i in range(3):
        for j in range(4):
            assert counts[i, j] == ((truth == i + 1) & (predicted == j)).sum()


@given(labels, labels)
def test_scores_by_set_arithmetic(truth, predicted):
    scores = class_scores(confusion(truth, predicted, 3))
    for i, score in enumerate(scores, start=1):
        true, found = truth == i, (predicted == i) & (truth > 0)
        hit, union = (true & found).sum(), (true | found).sum()
        assert score["iou"] == (pytest.approx(hit / union) if union else None)
        assert score["dice"] == (pytest.approx(2 * hit / (hit + union)) if union else None)
        assert score["recall"] == (pytest.approx(hit / true.sum()) if true.any() else None)
        assert score["precision"] == (pytest.approx(hit / found.sum()) if found.any() else None)
