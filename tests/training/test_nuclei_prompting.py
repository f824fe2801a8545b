"""Targets and prompts of nuclei, where no recorded numbers say what they must be."""

import numpy as np
import pytest
import torch

from wsi_sampath.evaluation.prompting import (
    Prompting,
    asked_repeatedly,
    chosen_objects,
    correcting_points,
    noisy_boxes,
    random_points,
)
from wsi_sampath.models.build import build_network
from wsi_sampath.models.parse import parse_spec
from wsi_sampath.training.nuclei.joint import interactive_loss, map_loss
from wsi_sampath.training.nuclei.losses import prompt_loss
from wsi_sampath.training.nuclei.targets import nucleus_targets

SIDE = 48


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def truth():
    masks = torch.zeros(2, SIDE, SIDE, dtype=torch.bool)
    masks[0, 10:20, 5:25] = True
    masks[1, 30:48, 40:48] = True
    return masks


def at(masks, points):
    """The masks' values at one point each."""
    return [
        mask[int(y), int(x)].item() for mask, (x, y) in zip(masks, points.tolist(), strict=True)
    ]


def test_nothing_labelled_is_all_background():
    targets = nucleus_targets(np.zeros((5, 7), np.uint16))
    assert targets.instances.max() == 0
    assert (targets.maps[0] == 0).all()
    assert (targets.maps[1:] == 1).all()


def test_one_id_in_two_places_is_two_nuclei():
    labels = np.zeros((20, 20), np.uint16)
    labels[2:8, 2:8] = labels[12:18, 12:18] = 7
    assert nucleus_targets(labels).instances.max() == 2


def test_points_lie_in_their_objects(truth, generator):
    for _ in range(20):
        assert all(at(truth, random_points(truth, generator)))


def test_boxes_hold_their_objects_and_stay_in_the_frame(truth, generator):
    exact = noisy_boxes(truth, 0, generator)
    assert exact.tolist() == [[5, 10, 25, 20], [40, 30, 48, 48]]
    noisy = noisy_boxes(truth, 0.5, generator)
    assert (noisy[:, :2] <= exact[:, :2]).all()
    assert (noisy[:, 2:] >= exact[:, 2:]).all()
    assert (noisy != exact).any()
    assert noisy.min() >= 0
    assert noisy.max() <= SIDE


def test_corrections_are_where_the_answer_is_wrong(truth, generator):
    answer = torch.zeros_like(truth)
    answer[:, 10:20, 5:15] = True
    for _ in range(10):
        points, signs = correcting_points(answer, truth, generator)
        assert signs.tolist() == [[1, 0], [1, 0]]
        assert all(at(truth & ~answer, points[:, 0]))
        assert at(answer & ~truth, points[:, 1])[1]
        # Nothing was too much in the first one: its second point is close around it.
        x, y = points[0, 1].tolist()
        assert not truth[0, int(y), int(x)]
        assert 2 <= x < 28
        assert 7 <= y < 23


def test_an_object_without_outside_gets_no_point_there(generator):
    everything = torch.ones(1, 8, 8, dtype=torch.bool)
    _, signs = correcting_points(everything, everything, generator)
    assert signs.tolist() == [[1, 1]]


@pytest.mark.parametrize("box_first", [True, False])
def test_prompts_accumulate(truth, generator, box_first):
    asked = []

    def ask(prompts, several):
        asked.append((prompts, several))
        count = 3 if several else 1
        return torch.randn(2, count, 12, 12), torch.rand(2, count)

    settings = Prompting(rounds=4, mask_share=1)
    answers = asked_repeatedly(ask, truth, settings, generator, box_first=box_first)
    assert len(answers) == 4
    assert [several for _, several in asked] == [not box_first, False, False, False]
    numbers = [0 if one.points is None else one.points.shape[1] for one, _ in asked]
    assert numbers == [0, 2, 4, 6] if box_first else [1, 3, 5, 7]
    assert all((one.boxes is not None) == box_first for one, _ in asked)
    assert asked[0][0].masks is None
    assert all(one.masks.shape == (2, 1, 12, 12) for one, _ in asked[1:])


def test_prompt_loss_is_that_of_the_best_candidate_and_of_every_predicted_iou():
    truth = torch.zeros(1, 8, 8)
    truth[0, 2:6, 2:6] = 1
    right = (truth[:, None] - 0.5) * 200
    logits = torch.cat([right, -right], dim=1)
    assert prompt_loss(logits, torch.tensor([[1.0, 0.0]]), truth).item() == pytest.approx(0)
    assert prompt_loss(logits, torch.tensor([[0.0, 0.0]]), truth).item() == pytest.approx(0.5)


def test_chosen_objects_are_some_of_the_image(generator):
    labels = torch.arange(6).repeat_interleave(2).repeat(4, 1)
    masks = chosen_objects(labels, 3, generator)
    assert masks.shape == (3, 4, 12)
    assert masks.flatten(1).sum(dim=1).tolist() == [8, 8, 8]
    assert not masks[:, labels == 0].any()
    assert not chosen_objects(torch.zeros(4, 4), 3, generator).numel()


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    sizes = {"embed_dim": 16, "depth": 1, "num_heads": 2, "global_attn_indexes": [0]}
    values = {
        "name": "small",
        "architecture": "patho_sam",
        "classes": [{"name": "nucleus", "color": "#c83232"}],
        "mpp": 0.25,
        "tile": 32,
        "sam": sizes,
        "prompts": {"dim": 16, "depth": 1, "num_heads": 2, "mlp_dim": 16},
        "decoder": {"widths": [8, 8, 4, 4]},
    }
    return build_network(parse_spec(values)).train()


def test_both_losses_reach_every_weight_but_those_of_unused_prompts(model, generator):
    labels = np.zeros((32, 32), np.int32)
    labels[4:14, 4:16] = 1
    labels[18:30, 12:28] = 2
    targets = nucleus_targets(labels)
    embedding = model.sam.image_encoder(torch.randn(1, 3, 64, 64))
    instances = torch.from_numpy(targets.instances)[None]
    settings = Prompting(objects=2, rounds=3, mask_share=1)
    loss = map_loss(model, embedding, torch.from_numpy(targets.maps)[None])
    for box_first in (True, False):
        loss = loss + interactive_loss(
            model, embedding, instances, settings, generator, box_first=box_first
        )
    model.zero_grad()
    loss.backward()
    without = {name for name, weight in model.named_parameters() if weight.grad is None}
    assert without == set()


def test_an_image_without_nuclei_asks_for_nothing(model, generator):
    embedding = model.sam.image_encoder(torch.randn(1, 3, 64, 64))
    none = torch.zeros(1, 32, 32, dtype=torch.int32)
    settings = Prompting()
    assert interactive_loss(model, embedding, none, settings, generator, box_first=True) is None
