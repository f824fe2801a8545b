import importlib.util
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from wsi_sampath.models.checkpoints import build_model
from wsi_sampath.models.spec import ModelSpec
from wsi_sampath.models.zoo import load_model
from wsi_sampath.training.mosaic import paste

ROOT = Path(__file__).parents[2]
LEAST_DICE = 0.8
CANVASES = 3


@pytest.fixture(scope="module")
def pipeline():
    path = ROOT / "pipelines" / "train_gland_mini.py"
    spec = importlib.util.spec_from_file_location("train_gland_mini", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def patches(pipeline):
    rng = np.random.default_rng(0)
    mask = np.repeat([1, 2], 20).astype(np.uint8)[:, None].repeat(40, axis=1)
    image = rng.integers(0, 80, (40, 40, 3), dtype=np.uint8) + mask[..., None] * np.uint8(80)
    return [pipeline.Patch(image, mask, 1.3)]


@pytest.mark.parametrize("seed", range(6))
def test_canvases(pipeline, patches, seed):
    data = pipeline.Mosaics(patches, patches, 96, seed)
    image, mask = data.canvas(np.random.default_rng(seed))
    assert image.shape == (96, 96, 3)
    assert image.dtype == mask.dtype == np.uint8
    assert set(np.unique(mask)) <= {1, 2}


def test_a_paste_keeps_picture_and_labels_together():
    """Pasted pixels are black and labelled; nothing else changes."""
    for seed in range(50):
        image = np.full((64, 64, 3), 255, np.uint8)
        mask = np.ones((64, 64), np.uint8)
        piece, label = np.zeros((40, 30, 3), np.uint8), np.full((40, 30), 2, np.uint8)
        paste(np.random.default_rng(seed), image, mask, piece, label)
        assert np.array_equal(image[..., 0] == 0, mask == 2)


def test_held_out_patients_are_about_one_in_eight(pipeline):
    share = np.mean([pipeline.held_out(str(2010000 + i)) for i in range(4000)])
    assert 0.1 < share < 0.15


def test_widened_position_tables_keep_known_distances(pipeline):
    values = {
        "name": "tiny",
        "classes": [{"name": "a", "color": "#000000"}],
        "mpp": 1.0,
        "tile": 64,
        "sam": {
            "embed_dim": 8,
            "depth": 1,
            "num_heads": 2,
            "global_attn_indexes": [0],
            "absolute_positions": False,
        },
        "decoder": {"dim": 16, "depth": 1, "num_heads": 2, "mlp_dim": 16},
    }
    model = build_model(ModelSpec.model_validate(values))
    table = model.sam_encoder.blocks[0].attn.rel_pos_h
    torch.nn.init.normal_(table)
    wide = pipeline.with_tile(model, 128)
    widened = wide.sam_encoder.blocks[0].attn.rel_pos_h
    assert len(widened) == 15
    assert torch.equal(widened[4:11], table)
    assert torch.equal(widened[0], table[0])
    narrow = pipeline.with_tile(wide, 64)
    assert torch.equal(narrow.sam_encoder.blocks[0].attn.rel_pos_h, table)


def test_learning_rate(pipeline):
    rates = [pipeline.learning_rate(step, 100, 1.0, 10) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert np.argmax(rates) in (9, 10)
    assert rates[-1] < 0.01


def test_the_bundled_model_on_patients_it_never_saw(pipeline):
    data = os.environ.get("WSI_SAMPATH_DATA")
    if not data:
        pytest.skip("WSI_SAMPATH_DATA names no folder with EBHI-Seg")
    _, held = pipeline.read_ebhi(Path(data))
    score = pipeline.evaluate(load_model("gland-mini").module, held[:: len(held) // (9 * CANVASES)])
    assert score["dice"] >= LEAST_DICE
