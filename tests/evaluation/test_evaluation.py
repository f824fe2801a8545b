from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from wsi_sampath.evaluation.metrics import confusion, paper_scores
from wsi_sampath.evaluation.scores import summarise

pairs = st.lists(
    st.tuples(*[arrays.arrays(np.uint8, (4, 5), elements=st.integers(0, 3))] * 2),
    min_size=1,
    max_size=6,
)
NAMES = ["a", "b", "c"]


def scored(images, cases=None, names=NAMES, **options):
    counts = [confusion(truth, found, len(names)) for truth, found in images]
    cases = cases or [str(i) for i in range(len(images))]
    return summarise(counts, cases, names, **({"draws": 50} | options))


@given(pairs)
def test_scores_by_set_arithmetic(images):
    found = scored(images)
    json.dumps(found, allow_nan=False)
    truth = np.concatenate([one for one, _ in images])
    predicted = np.concatenate([one for _, one in images])
    known, dices = truth > 0, []
    for label, name in enumerate(NAMES, start=1):
        true, said = (truth == label) & known, (predicted == label) & known
        score = found["per_class"][name]
        if (true | said).any():
            dices.append(2 * (true & said).sum() / (true.sum() + said.sum()))
            assert score["dice"] == pytest.approx(dices[-1])
            assert score["iou"] == pytest.approx((true & said).sum() / (true | said).sum())
        else:
            assert (score["dice"], score["dice_ci"]) == (None, None)
        assert score["pixels"] == true.sum()
    assert found["macro"]["dice"] == (pytest.approx(np.mean(dices)) if dices else None)
    micro = found["micro"]
    if not known.any():
        assert (micro["pixel_accuracy"], micro["dice"], micro["iou"]) == (None, None, None)
        return
    share = (truth == predicted)[known].mean()
    missed = (predicted == 0)[known].mean()
    assert micro["pixel_accuracy"] == pytest.approx(share)
    assert micro["dice"] == pytest.approx(2 * share / (2 - missed))
    assert micro["iou"] == pytest.approx(share / (2 - missed - share))
    assert found["paper"]["Dice"]["value"] == pytest.approx(micro["dice"])
    assert found["paper"]["IOU_Jaccard"]["value"] == pytest.approx(micro["iou"])
    assert found["paper"]["F1"]["value"] == pytest.approx(share)
    one_number = missed == 0
    assert ("are one number" in micro["is"]) == one_number
    assert ("pixel accuracy" in found["paper"]["Dice"]["is"]) == one_number
    assert ("a / (2 - a)" in found["paper"]["IOU_Jaccard"]["is"]) == one_number


@given(pairs)
def test_an_image_alone_scores_as_all_of_them(images):
    found = scored(images[:1])
    for name in NAMES:
        one, mean = found["per_class"][name], found["per_image"]["per_class"][name]
        assert mean["dice"] == (None if one["dice"] is None else pytest.approx(one["dice"]))
        assert one["dice_ci"] is mean["dice_ci"] is None


def test_means_over_images():
    right = np.ones((4, 4), np.uint8)
    wrong = np.full((4, 4), 2, np.uint8)
    found = scored([(right, right), (right, wrong)], names=["a", "b"])
    a, b = (found["per_image"]["per_class"][name] for name in "ab")
    assert (a["dice"], a["iou"], a["images"], a["dice_ci"]) == (0.5, 0.5, 2, [0, 1])
    assert (b["dice"], b["iou"], b["images"], b["dice_ci"]) == (0.0, 0.0, 1, [0, 0])
    assert found["per_image"]["iou_ci"] == [0, 1]
    assert found["per_image"]["dice"] == 0.5
    assert found["per_class"]["a"]["dice"] == pytest.approx(2 / 3)


def noisy(rng, n, error):
    images = []
    for _ in range(n):
        truth = rng.integers(1, 3, (30, 30), np.uint8)
        flip = rng.random(truth.shape) < rng.uniform(0, error)
        images.append((truth, np.where(flip, 3 - truth, truth)))
    return images


def test_intervals_are_seeded_and_hold_the_score():
    images = noisy(np.random.default_rng(0), 20, 0.4)
    first = scored(images, names=["a", "b"], draws=500, seed=3)
    assert first == scored(images, names=["a", "b"], draws=500, seed=3)
    assert first != scored(images, names=["a", "b"], draws=500, seed=4)
    low, high = first["per_class"]["a"]["dice_ci"]
    assert low < first["per_class"]["a"]["dice"] < high
    mean = first["per_image"]
    assert mean["dice_ci"][0] < mean["dice"] < mean["dice_ci"][1]
    assert mean["per_class"]["b"]["iou_ci"][0] < mean["per_class"]["b"]["iou"]
    assert first["micro"]["pixel_accuracy_ci"][0] < first["micro"]["pixel_accuracy"]


def test_patches_of_one_case_are_drawn_together():
    images = noisy(np.random.default_rng(0), 24, 0.4)
    width = {}
    for per_case in (1, 12):
        cases = [str(i // per_case) for i in range(24)]
        low, high = scored(images, cases, ["a", "b"], draws=2000)["macro"]["dice_ci"]
        width[per_case] = high - low
    alone = [np.mean([(t == p).mean() for t, p in images[i : i + 12]]) for i in (0, 12)]
    assert width[12] == pytest.approx(abs(alone[0] - alone[1]), abs=0.01)
    assert scored(images, ["p"] * 24, ["a", "b"])["macro"]["dice_ci"] is None


@given(pairs)
def test_the_paper_s_numbers_are_those_of_its_code(images):
    truth = np.concatenate([one for one, _ in images])
    predicted = np.concatenate([one for _, one in images])
    for names, background in ((NAMES, None), (["background", "b", "c"], 1)):
        found = scored(images, names=names)["paper"]
        for name, value in paper_scores(truth, predicted, 4, background).items():
            assert found[name]["value"] == pytest.approx(value)
            assert found[name]["is"]


@given(pairs, st.integers(0, 3))
def test_means_over_images_are_drawn_by_case(images, seed):
    cases = [str(i // 2) for i in range(len(images))]
    found = scored(images, cases, draws=40, seed=seed)["per_image"]["per_class"]["a"]
    unique, index = np.unique(cases, return_inverse=True)
    if len(unique) < 2:
        assert found["dice_ci"] is None
        return
    rng = np.random.default_rng(seed)
    often = rng.multinomial(len(unique), np.full(len(unique), 1 / len(unique)), size=40)
    means = []
    for weights in often:
        drawn = [
            image for image, case in zip(images, index, strict=True) for _ in range(weights[case])
        ]
        mean = scored(drawn, draws=0)["per_image"]["per_class"]["a"]["dice"]
        means += [] if mean is None else [mean]
    bounds = np.quantile(means, [0.025, 0.975]).tolist() if means else None
    assert found["dice_ci"] == (bounds if bounds is None else pytest.approx(bounds))


def test_pixels_not_analysed_are_misses_and_no_false_positives():
    counts = np.array([[20, 6, 2], [10, 1, 3]])
    found = summarise([counts], ["slide"], ["a", "b"], draws=0)
    micro = found["micro"]
    assert micro["pixel_accuracy"] == pytest.approx(9 / 42)
    assert micro["dice"] == pytest.approx(18 / (42 + 12))
    assert micro["iou"] == pytest.approx(9 / (42 + 12 - 9))


@pytest.mark.parametrize("background", ["background", "Background"])
def test_the_published_iou_of_crag_is_recall(background):
    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(1, 3, (2, 50, 50), np.uint8)
    found = scored([(truth, predicted)], names=[background, "gland"])
    gland = found["per_class"]["gland"]
    assert found["paper"]["IOU_Jaccard"]["value"] == pytest.approx(gland["recall"])
    assert found["paper"]["Dice"]["value"] == pytest.approx(gland["dice"])
    assert gland["iou"] < gland["recall"]
    assert "recall" in found["paper"]["IOU_Jaccard"]["is"]
