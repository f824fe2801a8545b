"""Scores of objects against a second, dense way to count, and against other programs."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.optimize import linear_sum_assignment

from wsi_sampath.evaluation.instance_scores import summarise_classes, summarise_instances
from wsi_sampath.evaluation.instances import (
    PERCENTS,
    classes_of,
    scores,
    stacked,
    tally,
    tally_classes,
)

LABELS = arrays.arrays(np.int32, (6, 7), elements=st.integers(0, 4))
SYMMETRIC = ("f1_50", "mean_iou", "pq", "dq", "sq", "msa", "sa50", "sa75")
NONE = np.zeros((4, 4), np.int32)


def score(truth, found):
    return {name: float(value) for name, value in scores(tally(truth, found)).items()}


def in_order(labels):
    """Ids 1..n in the order of first pixels."""
    ids = list(dict.fromkeys(labels[labels > 0].tolist()))
    return sum(((labels == one) * number for number, one in enumerate(ids, 1)), 0 * labels)


def dense(truth, found):
    """Every object against every other, and an assignment at every threshold."""
    true = [truth == one for one in np.unique(truth[truth > 0])]
    said = [found == one for one in np.unique(found[found > 0])]
    shape = len(true), len(said)
    shared = np.array([(a & b).sum() for a in true for b in said], float).reshape(shape)
    union = np.array([(a | b).sum() for a in true for b in said], float).reshape(shape)
    iou = shared / np.maximum(union, 1)
    both, hits, at_half = sum(shape), [], np.zeros(0)
    for percent in PERCENTS:
        close = iou >= percent / 100
        rows, columns = linear_sum_assignment(-(close + iou / 100))
        hits.append(close[rows, columns].sum())
        if percent == 50:
            at_half = iou[rows, columns][close[rows, columns]]
    strict = iou[iou > 0.5]
    best = [(row, int(np.argmax(line))) for row, line in enumerate(iou) if line.max(initial=0) > 0]
    alone = sum(part.sum() for n, part in enumerate(true) if n not in {row for row, _ in best})
    alone += sum(part.sum() for n, part in enumerate(said) if n not in {one for _, one in best})

    def ratio(part, whole):
        return part / whole if whole else np.nan

    return {
        "f1_50": ratio(2 * hits[0], both),
        "precision": ratio(hits[0], len(said)),
        "recall": ratio(hits[0], len(true)),
        "mean_iou": ratio(at_half.sum(), len(at_half)),
        "aji": ratio(sum(shared[p] for p in best), sum(union[p] for p in best) + alone),
        "pq": ratio(2 * strict.sum(), both),
        "dq": ratio(2 * len(strict), both),
        "sq": ratio(strict.sum(), len(strict)),
        "msa": np.mean([ratio(hit, both - hit) for hit in hits]),
        "sa50": ratio(hits[0], both - hits[0]),
        "sa75": ratio(hits[5], both - hits[5]),
    }


@given(LABELS, LABELS)
@settings(max_examples=150, deadline=None)
def test_scores_are_those_of_a_dense_assignment(truth, found):
    truth, found = in_order(truth), in_order(found)
    assert score(truth, found) == pytest.approx(dense(truth, found), nan_ok=True)


@given(LABELS, LABELS, st.permutations(range(1, 5)), st.integers(1, 2**31 - 8))
@settings(max_examples=60, deadline=None)
def test_ids_do_not_matter(truth, found, order, beyond):
    renamed = np.array([0, *order])[found].astype(np.uint16)
    far = np.where(truth > 0, truth.astype(np.int64) + beyond, 0)
    assert score(truth, renamed) == pytest.approx(score(truth, found), nan_ok=True)
    assert score(far, found) == pytest.approx(score(truth, found), nan_ok=True)


@given(LABELS, LABELS)
@settings(max_examples=60, deadline=None)
def test_truth_and_what_is_found_may_change_places(truth, found):
    one, other = score(truth, found), score(found, truth)
    for name in SYMMETRIC:
        assert one[name] == pytest.approx(other[name], nan_ok=True)
    assert one["precision"] == pytest.approx(other["recall"], nan_ok=True)


@given(LABELS)
@settings(max_examples=40, deadline=None)
def test_all_found_as_it_is_gives_ones(truth):
    truth[0, 0] = 1
    assert set(score(truth, truth.copy()).values()) == {1.0}


def crop(seed):
    """Discs, and the same ones moved, resized and some of them lost."""
    y, x = np.indices((40, 40))
    images = []
    for shift in (0, 1):
        labels = np.zeros((40, 40), np.int32)
        for n in range(9):
            if (n + seed) % 5 == 0 and shift:
                continue
            row, column = 5 + 13 * (n // 3) + shift * ((n + seed) % 3), 5 + 13 * (n % 3) + shift
            labels[(y - row) ** 2 + (x - column) ** 2 < (20 + 5 * n) + 9 * shift * seed] = n + 1
        images.append(in_order(labels))
    return images


# Of StarDist 0.9.2, cellseg-metrics 0.2.0 (panoptic quality) and HoVer-Net's get_fast_aji.
RECORDED = {
    1: {
        **{"f1_50": 0.9411765, "precision": 1.0, "recall": 0.8888889, "mean_iou": 0.7325447},
        **{"sa50": 0.8888889, "sa75": 0.4166667, "msa": 0.3929798, "aji": 0.635785},
        **{"pq": 0.6894538, "sq": 0.7325447, "dq": 0.9411765},
    },
    2: {
        **{"f1_50": 0.75, "precision": 0.8571429, "recall": 0.6666667, "mean_iou": 0.6933932},
        **{"sa50": 0.6, "sa75": 0.0, "msa": 0.229697, "aji": 0.4587896},
        **{"pq": 0.5200449, "sq": 0.6933932, "dq": 0.75},
    },
    3: {
        **{"f1_50": 0.625, "precision": 0.7142857, "recall": 0.5555556, "mean_iou": 0.6771834},
        **{"sa50": 0.4545455, "sa75": 0.0666667, "msa": 0.1803929, "aji": 0.4485931},
        **{"pq": 0.4232396, "sq": 0.6771834, "dq": 0.625},
    },
}


@pytest.mark.parametrize(("seed", "recorded"), RECORDED.items())
def test_scores_are_those_of_other_programs(seed, recorded):
    found = score(*crop(seed))
    assert {name: found[name] for name in recorded} == pytest.approx(recorded, abs=1e-6)


def test_nothing_true_and_nothing_found_is_no_score():
    assert all(np.isnan(value) for value in score(NONE, NONE).values())


def test_what_is_found_where_nothing_is_true_counts_as_false():
    labels = np.zeros((4, 4), np.int32)
    labels[:2, :2] = 1
    total = summarise_instances([tally(labels, labels), tally(NONE, labels)], ["a", "b"])
    assert (total["true"], total["found"]) == (1, 2)
    assert total["precision"] == 0.5
    assert total["f1_50"] == total["pq"] == pytest.approx(2 / 3)
    assert total["aji"] == 0.5
    assert total["per_image"]["pq"] == 0.5
    assert score(labels, NONE)["recall"] == score(NONE, labels)["sa50"] == 0


def test_of_two_exact_halves_one_is_a_match_but_not_of_panoptic_quality():
    truth, found = np.ones((4, 4), np.int32), np.repeat([[1, 1, 2, 2]], 4, axis=0)
    for one, other in ((truth, found), (found, truth)):
        result = score(one, other)
        assert result["f1_50"] == pytest.approx(2 / 3)
        assert result["sa50"] == 0.5
        assert (result["mean_iou"], result["pq"], result["dq"]) == (0.5, 0, 0)


def test_a_found_object_may_be_the_best_for_several_in_the_aggregated_jaccard_index():
    truth = np.array([[1, 1, 2, 2, 0]])
    found = np.array([[5, 5, 5, 5, 7]])
    # Twice 2 shared of a union of 4, and 1 pixel that is best for none.
    assert score(truth, found)["aji"] == pytest.approx(4 / 9)


def test_many_objects_cost_what_their_overlaps_cost():
    side, step = 205, 8
    ids = np.arange(1, side**2 + 1, dtype=np.int32).reshape(side, side)
    square = np.pad(np.ones((6, 6), np.int32), 1)
    truth = np.kron(ids, square)
    counted = tally(truth, np.roll(truth, 1, axis=1))
    assert truth.shape == (side * step, side * step)
    assert (counted.true, counted.found, counted.strict_hits) == (side**2,) * 3
    assert float(scores(counted)["sq"]) == pytest.approx(5 / 7)


@pytest.mark.parametrize("found", [np.zeros((3, 3), int), np.zeros((4, 4)), NONE - 1])
def test_what_is_no_label_image_of_that_size_is_refused(found):
    with pytest.raises(ValueError, match="label image"):
        tally(NONE, found)


def test_the_class_of_an_object_is_that_of_most_of_its_pixels():
    labels = np.array([[1, 1, 1, 3, 3, 0]])
    types = np.array([[2, 2, 1, 0, 0, 1]], np.uint8)
    assert classes_of(labels, types).tolist() == [0, 2, 0, 0]


LINE = np.array([[1, 1, 2, 2, 3, 3, 0, 0]])
FOUND = np.array([[1, 1, 2, 2, 3, 3, 4, 4]])


def test_classes_are_scored_apart_and_matches_are_told():
    classes = np.array([0, 1, 1, 2])
    counted, table = tally_classes(LINE, FOUND, classes, np.array([0, 1, 2, 2, 2]), 3)
    assert counted.true.tolist() == [2, 1, 0]
    assert counted.found.tolist() == [1, 3, 0]
    assert scores(counted)["pq"].tolist()[:2] == pytest.approx([2 / 3, 0.5])
    assert table.tolist() == [[0, 0, 1, 0], [0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0]]


def test_what_is_found_of_a_class_that_an_image_lacks_counts():
    classes = np.array([0, 1, 1, 1])
    right = tally_classes(LINE, LINE, classes, classes, 2)
    wrong = tally_classes(LINE, FOUND, classes, np.array([0, 1, 1, 1, 2]), 2)
    names = ["one", "two"]
    only_right = summarise_classes([right[0]], [right[1]], ["a"], names)
    both = summarise_classes([right[0], wrong[0]], [right[1], wrong[1]], ["a", "b"], names)
    assert (only_right["per_class"]["two"]["pq"], only_right["mpq"]) == (None, 1)
    assert (both["per_class"]["two"]["pq"], both["mpq"]) == (0, 0.5)
    assert both["matched"] == [[0, 0, 1], [0, 6, 0], [0, 0, 0]]
    json.dumps(both, allow_nan=False)


def test_nuclei_of_unknown_class_and_their_matches_count_for_no_class():
    counted, table = tally_classes(LINE, LINE, np.array([0, 1, 0, 2]), np.array([0, 1, 1, 2]), 2)
    assert (counted.true.tolist(), counted.found.tolist()) == ([1, 1], [1, 1])
    assert scores(counted)["pq"].tolist() == [1, 1]
    assert table.sum() == 2


def test_intervals_draw_whole_cases():
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 4, (2, 8, 8)) // [[[1]], [[1 + n % 2]]] for n in range(6)]
    tallies = [tally(truth, found) for truth, found in images]
    one = summarise_instances(tallies, ["a"] * 6)
    assert one["f1_50_ci"] is None
    by_case = summarise_instances(tallies, ["a", "b", "c"] * 2, draws=200)
    low, high = by_case["aji_ci"]
    assert low < by_case["aji"] < high
    # Cases that are all alike leave nothing to chance.
    alike = summarise_instances(tallies[:2] * 3, [*"aabbcc"], draws=50)
    assert alike["aji_ci"] == pytest.approx([alike["aji"]] * 2)
    json.dumps(by_case, allow_nan=False)


@given(st.lists(st.tuples(LABELS, LABELS), min_size=1, max_size=4))
@settings(max_examples=30, deadline=None)
def test_pooling_images_is_scoring_them_side_by_side(images):
    total = summarise_instances([tally(*pair) for pair in images], ["a"] * len(images))
    apart = [
        np.hstack([in_order(image) + np.int64(10 * n) * (image > 0) for n, image in enumerate(one)])
        for one in zip(*images, strict=True)
    ]
    together = score(*apart)
    for name, value in together.items():
        assert (total[name] is None) == bool(np.isnan(value))
        assert total[name] is None or total[name] == pytest.approx(value)


def test_tallies_stack():
    both = stacked([tally(NONE, NONE), tally(LINE, FOUND)])
    assert (both.true.tolist(), both.hits.shape) == ([0, 3], (2, len(PERCENTS)))
