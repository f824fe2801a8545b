import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import pipelines.gland_mini.data as gland_mini_data
import pipelines.gland_mini.figures as gland_mini_figures
from pipelines.gland_mini.card import tables
from pipelines.gland_mini.mosaic import Collection, LabelledPicture, Mosaics, paste
from wsi_sampath.models.checkpoints import build_model, file_sha256
from wsi_sampath.models.shipped import bundled_models
from wsi_sampath.models.zoo import load_model

ROOT = Path(__file__).parents[2]
FIGURES = ROOT / "benchmarks" / "results" / "gland_mini.json"
CARD = ROOT / "docs" / "gland-mini.md"
LEAST_DICE = 0.8
OF_THE_TEST_PATIENTS = 12


@pytest.fixture(scope="module")
def data_of():
    return gland_mini_data


@pytest.fixture(scope="module")
def figures():
    return gland_mini_figures


@pytest.fixture
def source():
    rng = np.random.default_rng(0)
    mask = np.repeat([1, 2], 20).astype(np.uint8)[:, None].repeat(40, axis=1)
    image = rng.integers(0, 80, (40, 40, 3), dtype=np.uint8) + mask[..., None] * np.uint8(80)
    return Collection([LabelledPicture(image, mask, 1.3)], 0.3)


@pytest.mark.parametrize("side", [96, 512])
def test_canvases(source, side):
    data = Mosaics([source, source], side, 0, 8)
    for i in range(len(data)):
        image, mask = data[i]
        assert image.shape == (side, side, 3)
        assert mask.shape == (side, side)
        assert image.dtype == mask.dtype == torch.uint8
        assert set(mask.unique().tolist()) <= {1, 2}
    with pytest.raises(IndexError):
        data[8]


def test_a_canvas_depends_on_its_number_alone(source):
    one, two = Mosaics([source], 96, 5, 4), Mosaics([source], 96, 5, 9)
    assert torch.equal(two[3][0], one[3][0])
    assert not torch.equal(one[2][0], one[3][0])


def test_rare_sources_are_drawn_rarely(source):
    other = Collection(
        [LabelledPicture(np.zeros((40, 40, 3), np.uint8), np.zeros((40, 40), np.uint8), 1.0)], 0.1
    )
    data = Mosaics([source, other], 64, 0, 300)
    share = np.mean([not data[i][1].all() for i in range(len(data))])
    assert 0.15 < share < 0.45


def test_a_paste_keeps_picture_and_labels_together():
    """Pasted pixels are black and labelled; nothing else changes."""
    for seed in range(50):
        image = np.full((64, 64, 3), 255, np.uint8)
        mask = np.ones((64, 64), np.uint8)
        piece, label = np.zeros((40, 30, 3), np.uint8), np.full((40, 30), 2, np.uint8)
        paste(np.random.default_rng(seed), image, mask, piece, label)
        assert np.array_equal(image[..., 0] == 0, mask == 2)


def test_parts_are_by_patient_and_of_the_sizes_said(data_of):
    parts = [data_of.part_of(str(2010000 + i)) for i in range(4000)]
    assert 0.1 < parts.count("test") / len(parts) < 0.15
    assert 0.04 < parts.count("validation") / len(parts) < 0.09
    assert data_of.held_out("2013109") == (data_of.part_of("2013109") == "test")


@pytest.fixture(scope="module")
def data():
    named = os.environ.get("WSI_SAMPATH_DATA")
    if not named:
        pytest.skip("WSI_SAMPATH_DATA names no folder with EBHI-Seg")
    return Path(named)


@pytest.fixture(scope="module")
def glands(data, data_of):
    return data_of.read_ebhi(data)


def test_no_patient_is_in_two_parts(glands, data, data_of):
    train, validation, test, full = (
        {patch.patient for patch in patches} for patches in vars(glands).values()
    )
    assert not train & validation
    assert not (train | validation) & (test | full)
    rings, held = data_of.read_rings(data)
    assert not {patch.patient[:2] for patch in rings} & {patch.patient[:2] for patch in held}


def test_unannotated_glands_beside_a_tumour_are_unlabelled(data, data_of):
    patches = [*data_of.read_rings(data)[0], *data_of.read_rings(data)[1]]
    kinds = {tuple(np.unique(patch.mask).tolist()) for patch in patches}
    assert kinds == {(0, 2), (1, 2)}


@pytest.mark.slow
def test_the_bundled_model_on_patients_it_never_saw(glands, figures):
    model = load_model("gland-mini").module

    def build(side):
        return build_model(model.spec.model_copy(update={"tile": side}))

    some = glands.test[:: len(glands.test) // OF_THE_TEST_PATIENTS]
    score = figures.judge(figures.in_small_squares(model, build), some)
    assert score["dice"] >= LEAST_DICE
    assert score["precision"] >= LEAST_DICE


def test_a_perfect_answer_scores_one(source, figures):
    def truth(patches):
        return [patch.mask for patch in patches]

    def everything(patches):
        return [np.full_like(patch.mask, 2) for patch in patches]

    assert figures.judge(truth, source.patches)["dice"] == 1
    assert figures.judge(everything, source.patches)["dice"] == pytest.approx(2 / 3, abs=1e-4)


def test_the_card_tells_the_stored_figures():
    """Every line of the tables between the markers is the one made from the JSON."""
    stored = json.loads(FIGURES.read_text())
    told = re.search(r"<!-- figures -->\n(.*)<!-- end -->", CARD.read_text(), re.DOTALL)
    assert told
    assert told[1] == tables(stored)


def test_the_figures_are_of_the_bundled_file():
    stored = json.loads(FIGURES.read_text())["packaged"]
    path = bundled_models()["gland-mini"]
    assert stored["weights_sha256"] == file_sha256(path)
    assert stored["bytes"] == path.stat().st_size < 10_000_000
