"""nuclei-mini: its crops, its training in small, and that its card tells what was measured."""

import json
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.nuclei_mini.card import tables
from pipelines.nuclei_mini.classical import classical_nuclei
from pipelines.nuclei_mini.crops import Crops
from pipelines.nuclei_mini.data import EMPTY, HELD_OUT, MPP, Field
from pipelines.nuclei_mini.figures import by_network, judge, judge_clicks
from pipelines.nuclei_mini.outlines import outline_prompts, rough_shares
from pipelines.nuclei_mini.run import Plan, joint_losses, pixel_loss, train_nuclei
from pipelines.nuclei_mini.unet import NucleusUNet, as_loaded, unet_losses
from wsi_sampath.evaluation.prompting import Prompting
from wsi_sampath.models.build import build_network
from wsi_sampath.models.checkpoints import file_sha256
from wsi_sampath.models.parse import parse_spec
from wsi_sampath.models.shipped import bundled_models
from wsi_sampath.models.zoo import load_model
from wsi_sampath.training.nuclei.targets import nucleus_targets

ROOT = Path(__file__).parents[2]
FIGURES = ROOT / "benchmarks" / "results" / "nuclei_mini.json"
CARD = ROOT / "docs" / "nuclei-mini.md"
SIDE = 64
SMALL = {
    "name": "small",
    "architecture": "patho_sam",
    "classes": [{"name": "nucleus", "color": "#c83232"}],
    "mpp": 0.25,
    "tile": SIDE,
    "enlargement": 1,
    "sam": {"embed_dim": 16, "depth": 1, "num_heads": 2, "global_attn_indexes": [0]},
    "prompts": {"dim": 16, "depth": 1, "num_heads": 2, "mlp_dim": 16},
    "decoder": {"widths": [8, 8, 4, 4]},
}


def painted(size=96):
    """Dark discs on pink, and their labels."""
    y, x = np.mgrid[:size, :size]
    labels = np.zeros((size, size), np.int32)
    for number, (row, column) in enumerate([(20, 20), (20, 60), (60, 30), (70, 74)], start=1):
        labels[np.hypot(y - row, x - column) < 9] = number
    image = np.where((labels > 0)[..., None], (70, 40, 110), (235, 190, 215)).astype(np.uint8)
    return image, labels


@pytest.fixture(scope="module")
def field():
    image, labels = painted()
    return Field("a", "tnbc", "patient_01", image, nucleus_targets(labels))


@pytest.fixture(scope="module")
def empty():
    image = np.full((40, 40, 3), 240, np.uint8)
    return Field("b", EMPTY, "b", image, nucleus_targets(np.zeros((40, 40), np.int32)))


def test_a_crop_shows_the_nuclei_that_it_is_told_of(field, empty):
    crops = Crops([field, empty], {"tnbc": 0.7, EMPTY: 0.3}, SIDE, 0)
    seen = 0
    for index in range(12):
        crop = crops[index]
        assert crop.image.shape == (SIDE, SIDE, 3)
        assert crop.maps.shape == (3, SIDE, SIDE)
        inside = crop.maps[0] > 0
        # Labels are resized to the nearest, maps are interpolated: a pixel apart at borders.
        assert (crop.instances[~inside] > 0).sum() <= 0.1 * inside.sum()
        assert (crop.maps[1:, ~inside] > 0.5).all()
        if crop.instances.any():
            seen += 1
            grey = crop.image.mean(axis=2)
            assert grey[crop.instances > 0].mean() < grey[~inside].mean()
    assert 3 < seen < 12


def test_a_crop_depends_on_its_number_alone(field, empty):
    shares = {"tnbc": 0.7, EMPTY: 0.3}
    one, two = (Crops([field, empty], shares, SIDE, 0)[5] for _ in range(2))
    np.testing.assert_array_equal(one.image, two.image)
    assert (one.image != Crops([field, empty], shares, SIDE, 0)[6].image).any()


def test_held_out_patients_are_not_trained_on(field):
    assert field.part == "train"
    parts = [Field("x", *patient.split(), field.image, field.targets).part for patient in HELD_OUT]
    assert parts == list(HELD_OUT.values())
    assert set(parts) == {"validation", "test"}


def test_a_training_that_was_cut_ends_as_one_that_was_not(field, tmp_path):
    crops = Crops([field], {"tnbc": 1}, SIDE, 0)
    prompting = Prompting(objects=1, rounds=2)
    reported = []

    def trained(state, steps):
        plan = Plan(
            steps=steps, batch=1, warm_up=1, falling=0.1, prompting=prompting, validate_every=1
        )
        torch.manual_seed(0)
        model = build_network(parse_spec(SMALL))
        return train_nuclei(
            model,
            partial(joint_losses, plan),
            crops,
            plan,
            tmp_path / state,
            lambda _: reported.append(1) or {"f1": 0.0},
        )

    whole = trained("whole", 4)
    trained("cut", 2)
    resumed = trained("cut", 4)
    assert reported == [1] * 8
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.isfinite(one).all()
        torch.testing.assert_close(one, other, rtol=0, atol=2e-3)


def test_single_pixels_are_lost_by_what_they_are_wrong():
    wanted = torch.ones(1, 3, 8, 8)
    wanted[:, 0, :, 4:] = 0
    wanted[:, 1:, :, :4] = 0.25
    right, outside, inside = wanted.clone(), wanted.clone(), wanted.clone()
    outside[:, 1:, :, 4:] = 0
    inside[:, 1, :, :4] = 0.75
    assert pixel_loss(right, wanted) < 1e-3
    torch.testing.assert_close(pixel_loss(outside, wanted), pixel_loss(right, wanted))
    torch.testing.assert_close(
        pixel_loss(inside, wanted) - pixel_loss(right, wanted), torch.tensor(4 * 0.25)
    )


def test_rough_outlines_are_near_the_truth_and_none_is_it():
    y, x = np.mgrid[:128, :128]
    truth = torch.from_numpy(np.stack([np.hypot(y - 60, x - 70) < r for r in (9, 14, 30)] * 8))
    share = rough_shares(truth, 4, torch.Generator().manual_seed(0))
    coarse = torch.nn.functional.avg_pool2d(truth.float(), 4)
    overlap = torch.minimum(share, coarse).sum((1, 2)) / torch.maximum(share, coarse).sum((1, 2))
    assert 0.6 < overlap.mean() < 0.9
    assert overlap.max() < 0.99
    asked = outline_prompts(share, 4)
    inside = torch.nonzero(share[5] > 0.5)
    first, last = inside.amin(0), inside.amax(0) + 1
    assert asked.boxes[5].tolist() == [4 * one for one in (*first.flip(0), *last.flip(0))]
    assert torch.equal(asked.masks[:, 0] > 0, share > 0.5)


def test_the_unet_learns_from_the_same_crops(field, tmp_path):
    crops = Crops([field], {"tnbc": 1}, SIDE, 0)
    torch.manual_seed(0)
    model = NucleusUNet(parse_spec(SMALL), 2)
    plan = Plan(steps=2, batch=1, warm_up=1, validate_every=9)
    before = unet_losses(model, [crops[0]], 0)
    assert set(before) == {"maps", "pixels"}
    trained = train_nuclei(model, unet_losses, crops, plan, tmp_path / "state", lambda _: {})
    assert judge(by_network(as_loaded(trained)), [field])["true"] == 4


def test_the_rate_falls_at_the_end():
    plan = Plan(steps=100, peak=1.0, warm_up=10, falling=0.4)
    assert [plan.rate(step) for step in (0, 9, 59, 80, 99)] == pytest.approx(
        [0.1, 1, 1, 0.5, 0.025]
    )


def test_classical_nuclei_of_a_painted_field(field):
    found = classical_nuclei(field.image, MPP)
    scores = judge(lambda images: [classical_nuclei(image, MPP) for image in images], [field])
    assert found.max() == 4
    assert scores["f1_50"] == 1
    assert scores["aji"] > 0.8


def test_clicks_are_judged_on_every_whole_nucleus(field):
    torch.manual_seed(0)
    scores = judge_clicks(build_network(parse_spec(SMALL)).eval(), [field])
    assert scores["clicks"] == 4
    assert 0 <= scores["mean_iou"] <= 1


def test_the_card_tells_the_stored_figures():
    stored = json.loads(FIGURES.read_text())
    told = re.search(r"<!-- figures -->\n(.*)<!-- end -->", CARD.read_text(), re.DOTALL)
    assert told
    assert told[1] == tables(stored)


def test_the_figures_are_of_the_bundled_file():
    stored, path = json.loads(FIGURES.read_text()), bundled_models()["nuclei-mini"]
    assert stored["weights_sha256"] == file_sha256(path)
    assert stored["bytes"] == path.stat().st_size < 8_000_000


@pytest.mark.parametrize("grey", [15, 235])
def test_nothing_is_found_where_nothing_is(grey):
    model = load_model("nuclei-mini").module
    noise = torch.randint(-4, 5, (1, 256, 256, 3), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        maps = model.maps(model.preprocess((noise + grey).to(torch.uint8)), 256)
    assert (maps[0, 0] > 0.5).float().mean() < 0.001
