"""The published loss with its gradients, metrics and learning rates."""

import numpy as np
import pytest
import torch

from wsi_sampath.evaluation.metrics import class_scores, confusion, paper_scores
from wsi_sampath.training.losses import LossWeights, segmentation_loss
from wsi_sampath.training.task import learning_rate

VALUE_LIMIT, GRADIENT_LIMIT, METRIC_LIMIT = 1e-6, 1e-8, 1e-6
WEIGHTS = {
    "bcss": LossWeights(focal=0.25, dice=0.75, cross_entropy=0, iou=0.0625),
    "crag": LossWeights(focal=0.125, dice=0.875, cross_entropy=0, iou=0),
}
BACKGROUND = {"bcss": None, "crag": 1}
SCHEDULES = {
    "bcss": {"warm_up": 72, "drops": (1800, 2088)},
    "crag": {"warm_up": 46, "drops": (1150, 1265)},
}
PEAK = 1e-4
OURS = {"loss": "total", "ce": "cross_entropy"}


@pytest.fixture(scope="module")
def recorded(parity):
    return parity.npz("sampath_loss_metrics")


def cases(recorded, kind):
    """Names like ``loss_bcss_a``, and which of the two data sets they belong to."""
    names = {name.split("/")[0] for name in recorded.files if name.startswith(f"{kind}_")}
    assert names
    return [(name, name.split("_")[1]) for name in sorted(names)]


def scored(recorded, case, data, dtype):
    logits = torch.from_numpy(recorded[f"{case}/logits"]).to(dtype).requires_grad_()
    iou = torch.from_numpy(recorded[f"{case}/iou_pred"]).to(dtype).requires_grad_()
    target = torch.from_numpy(recorded[f"{case}/target"])
    with torch.enable_grad():
        parts = segmentation_loss(logits, target, iou[..., 0], WEIGHTS[data], paper_compatible=True)
        parts.total.backward()
    return parts, {"logits": logits.grad, "iou_pred": iou.grad}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_loss(recorded, dtype):
    for case, data in cases(recorded, "loss"):
        parts, gradients = scored(recorded, case, data, dtype)
        for name in ("loss", "focal", "dice", "iou", "ce"):
            ours = getattr(parts, OURS.get(name, name)).item()
            assert abs(ours - recorded[f"{case}/{name}"].item()) <= VALUE_LIMIT, (case, name)
        for name, ours in gradients.items():
            difference = np.abs(ours.numpy() - recorded[f"{case}/grad_{name}"]).max()
            assert difference <= GRADIENT_LIMIT, (case, name)


def channels_of(recorded, data):
    return recorded[f"loss_{data}_a/logits"].shape[1]


def test_metrics(recorded):
    for case, data in cases(recorded, "metric"):
        truth, predicted = recorded[f"{case}/target"], recorded[f"{case}/pred"]
        ours = paper_scores(truth, predicted, channels_of(recorded, data), BACKGROUND[data])
        for name, value in ours.items():
            assert abs(value - recorded[f"{case}/{name}"].item()) <= METRIC_LIMIT, (case, name)


def test_what_the_published_numbers_are(recorded):
    """Accuracy under three names, and recall under the name of IOU: see our own scores."""
    for case, data in cases(recorded, "metric"):
        truth, predicted = recorded[f"{case}/target"], recorded[f"{case}/pred"]
        channels = channels_of(recorded, data)
        own, expected = class_scores(confusion(truth, predicted, channels - 1)), {}
        if data == "bcss":
            accuracy = (truth == predicted)[truth > 0].mean()
            expected = {"Dice": accuracy, "F1": accuracy, "IOU_Jaccard": accuracy / (2 - accuracy)}
        elif channels == 3:
            expected = {"Dice": own[1]["dice"], "IOU_Jaccard": own[1]["recall"]}
        for name, value in expected.items():
            assert abs(value - recorded[f"{case}/{name}"].item()) <= METRIC_LIMIT, (case, name)


@pytest.mark.parametrize("data", SCHEDULES)
def test_learning_rates(recorded, data):
    rates = recorded[f"schedule_{data}"]
    ours = [learning_rate(step, PEAK, **SCHEDULES[data]) for step in range(len(rates))]
    np.testing.assert_allclose(ours, rates, rtol=1e-6, atol=1e-12)
