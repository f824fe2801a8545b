import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wsi_sampath.training.losses import LossWeights, segmentation_loss

ALL = LossWeights(focal=1, dice=1, cross_entropy=1, iou=1)


def batch(seed, classes=3, side=6, count=2):
    rng = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, classes + 1, side, side, generator=rng)
    target = torch.randint(0, classes + 1, (count, side, side), generator=rng)
    return logits, target, torch.rand(count, classes + 1, generator=rng)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6))
def test_unlabelled_pixels_count_nowhere(seed):
    logits, target, iou = batch(seed)
    other = torch.where((target == 0)[:, None], 30 * torch.randn_like(logits), logits)
    for one, two in zip(
        segmentation_loss(logits, target, iou, ALL),
        segmentation_loss(other, target, iou, ALL),
        strict=True,
    ):
        torch.testing.assert_close(one, two)


@pytest.mark.parametrize("paper_compatible", [False, True])
def test_a_batch_without_labels_is_finite(paper_compatible):
    logits, target, iou = batch(1)
    logits.requires_grad_()
    parts = segmentation_loss(
        logits, torch.zeros_like(target), iou, ALL, paper_compatible=paper_compatible
    )
    parts.total.backward()
    assert all(torch.isfinite(part) for part in parts)
    assert torch.isfinite(logits.grad).all()


def test_a_perfect_answer_costs_nothing():
    _, target, _ = batch(2)
    target = target.clamp(min=1)
    logits = 40 * torch.nn.functional.one_hot(target, 4).movedim(-1, 1).float() - 20
    parts = segmentation_loss(logits, target, torch.ones(2, 4), ALL)
    assert parts.total < 1e-5


def test_weights_are_coefficients():
    logits, target, iou = batch(3)
    weights = LossWeights(focal=2, dice=3, cross_entropy=5, iou=7)
    parts = segmentation_loss(logits, target, iou, weights)
    expected = 2 * parts.focal + 3 * parts.dice + 5 * parts.cross_entropy + 7 * parts.iou
    torch.testing.assert_close(parts.total, expected)


def test_dice_by_hand():
    """One class, half of the pixels right, probabilities one and zero."""
    logits = torch.tensor([[[[-40.0, 40.0]], [[40.0, -40.0]], [[-90.0, -90.0]]]])
    target = torch.tensor([[[1, 1]]])
    parts = segmentation_loss(logits, target, torch.zeros(1, 3))
    first, second = 1 - 2 / 3, 0.0
    assert parts.dice.item() == pytest.approx((first + second) / 2, abs=1e-5)


def test_no_gradient_from_the_iou_error_to_the_masks():
    logits, target, iou = batch(4)
    logits.requires_grad_()
    iou.requires_grad_()
    weights = LossWeights(focal=0, dice=0, cross_entropy=0, iou=1)
    segmentation_loss(logits, target, iou, weights).total.backward()
    assert logits.grad.abs().max() == 0
    assert iou.grad[:, 1:].abs().min() > 0
    assert iou.grad[:, 0].abs().max() == 0
