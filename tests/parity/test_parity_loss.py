"""The published loss, with its gradients, and the published metrics from our confusion matrix."""

import numpy as np
import pytest
import torch

from wsi_sampath.training.losses import LossWeights, segmentation_loss
from wsi_sampath.training.metrics import class_scores, confusion

VALUE_LIMIT, GRADIENT_LIMIT, METRIC_LIMIT = 1e-6, 1e-8, 1e-6
WEIGHTS = {
    "bcss": LossWeights(focal=0.25, dice=0.75, cross_entropy=0, iou=0.0625),
    "crag": LossWeights(focal=0.125, dice=0.875, cross_entropy=0, iou=0),
}
LOSSES = ["loss_bcss_a", "loss_bcss_b", "loss_crag_a", "loss_crag_b"]
METRICS = ["metric_bcss", "metric_bcss_absent5", "metric_crag"]


@pytest.fixture(scope="module")
def recorded(parity):
    return parity.npz("sampath_loss_metrics")


@pytest.mark.parametrize("case", LOSSES)
def test_loss(recorded, case):
    logits = torch.from_numpy(recorded[f"{case}/logits"]).requires_grad_()
    iou = torch.from_numpy(recorded[f"{case}/iou_pred"]).requires_grad_()
    target = torch.from_numpy(recorded[f"{case}/target"])
    weights = WEIGHTS[case.split("_")[1]]
    with torch.enable_grad():
        parts = segmentation_loss(logits, target, iou[..., 0], weights, paper_compatible=True)
        parts.total.backward()
    names = {"loss": "total", "ce": "cross_entropy"}
    for name in ("loss", "focal", "dice", "iou", "ce"):
        ours = getattr(parts, names.get(name, name)).item()
        assert abs(ours - recorded[f"{case}/{name}"].item()) <= VALUE_LIMIT, name
    for name, ours in (("logits", logits), ("iou_pred", iou)):
        difference = np.abs(ours.grad.numpy() - recorded[f"{case}/grad_{name}"]).max()
        assert difference <= GRADIENT_LIMIT, name


@pytest.mark.parametrize("case", METRICS)
def test_metrics(recorded, case):
    """The published numbers follow from our counts, whatever they were called there."""
    truth, predicted = recorded[f"{case}/target"], recorded[f"{case}/pred"]
    classes = int(max(truth.max(), predicted.max()))
    scores = class_scores(confusion(truth, predicted, classes))
    dice = [one["dice"] for one in scores if one["dice"] is not None]
    if case == "metric_crag":
        expected = {"Dice": dice[-1], "IOU_Jaccard": scores[-1]["recall"]}
    else:
        accuracy = (truth == predicted)[truth > 0].mean()
        expected = {
            "Dice": accuracy,
            "F1": accuracy,
            "IOU_Jaccard": accuracy / (2 - accuracy),
            "Dice_Bal": np.mean(dice),
        }
    for name, value in expected.items():
        assert abs(value - recorded[f"{case}/{name}"].item()) <= METRIC_LIMIT, name
