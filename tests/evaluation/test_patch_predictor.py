from __future__ import annotations

import numpy as np
import pytest
from stub_network import make_stub

from wsi_sampath.evaluation.patch_predictor import PatchPredictor

TILE = 64
COLOURS = np.array([[250, 20, 20], [20, 250, 20], [20, 20, 250], [200, 200, 20]], np.uint8)


def patchwork(rng, height, width, cell=24):
    rows, columns = -(-height // cell), -(-width // cell)
    which = rng.integers(0, len(COLOURS), (rows, columns))
    which = np.kron(which, np.ones((cell, cell), int))[:height, :width]
    return COLOURS[which], which


def expected(model, which):
    weight = model.module.weight.detach().numpy()
    answers = (weight @ (COLOURS.T / 255 - 0.7)).argmax(axis=0) + 1
    return answers[which]


def inside(which, reach):
    """Pixels that are farther than `reach` from another colour."""
    same = np.ones(which.shape, bool)
    for axis in (0, 1):
        for step in range(1, reach + 1):
            for shift in (step, -step):
                same &= np.roll(which, shift, axis) == which
    return same


@pytest.mark.parametrize(
    ("size", "options", "how"),
    [
        ((48, 48), {}, "own pixels"),
        ((64, 64), {}, "own pixels"),
        ((30, 61), {}, "own pixels"),
        ((150, 131), {}, "stretched"),
        ((48, 40), {"stretch": True}, "stretched"),
        ((150, 131), {"mpp": 0.5}, "scaled by 1 "),
        ((150, 131), {"mpp": 1.0}, "scaled by 2 "),
        ((150, 131), {"mpp": 0.25}, "scaled by 0.5 "),
    ],
)
def test_labels_of_flat_colours(size, options, how):
    model = make_stub(tile=TILE, mpp=0.5)
    image, which = patchwork(np.random.default_rng(0), *size)
    predictor = PatchPredictor(model, device="cpu", **options)
    assert predictor.how(size).startswith(how)
    (labels,) = predictor([image])
    assert labels.shape == size
    assert labels.dtype == np.uint8
    sure = inside(which, 9)
    assert sure.sum() > 20
    assert np.array_equal(labels[sure], expected(model, which)[sure])


def test_company_changes_nothing():
    model = make_stub(tile=TILE, mpp=0.5)
    rng = np.random.default_rng(1)
    images = [patchwork(rng, *size)[0] for size in ((150, 90), (40, 40), (64, 64), (10, 200))]
    predictor = PatchPredictor(model, mpp=0.4, device="cpu", batch_size=3)
    together = predictor(images)
    for image, labels in zip(images, together, strict=True):
        assert np.array_equal(predictor([image])[0], labels)
