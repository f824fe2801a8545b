"""gland-mini as shipped: what it says about glass and tissue, and in which precision."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from wsi_sampath.models.zoo import load_model

AGREEMENT = 0.995
OTHER, GLAND = 0, 1


@pytest.fixture(scope="module")
def model():
    return load_model("gland-mini").module


@pytest.fixture(scope="module")
def crypts():
    data = os.environ.get("WSI_SAMPATH_DATA")
    folder = Path(data or "") / "ebhi_seg" / "normal" / "image"
    if not data or not folder.is_dir():
        pytest.skip("WSI_SAMPATH_DATA names no folder with EBHI-Seg")
    canvas = np.full((1024, 1024, 3), 242, np.uint8)
    for i, path in enumerate(sorted(folder.iterdir())[:9]):
        y, x = 300 * (i // 3) + 20, 300 * (i % 3) + 20
        canvas[y : y + 290, x : x + 290] = np.asarray(Image.open(path).resize((290, 290)))
    return torch.from_numpy(canvas)[None]


def labels(model, tiles, dtype=None):
    with torch.inference_mode(), torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
        output = model(model.preprocess(tiles))
        return model.class_probabilities(output.logits).argmax(dim=1)


@pytest.mark.parametrize("grey", [215, 245])
def test_empty_glass_is_no_gland(model, grey):
    noise = torch.randint(-3, 4, (1, 1024, 1024, 3))
    found = labels(model, (noise + grey).to(torch.uint8))
    assert (found == OTHER).float().mean() > 0.999


def test_crypts_are_found_and_the_glass_beside_them_is_not(model, crypts):
    found = labels(model, crypts)
    tissue = found[:, 5:225, 5:225] == GLAND
    assert 0.3 < tissue.float().mean() < 0.9
    assert (found[:, 240:] == OTHER).float().mean() > 0.98


def test_bfloat16_says_the_same(model, crypts):
    exact, rounded = labels(model, crypts), labels(model, crypts, torch.bfloat16)
    assert (exact == rounded).float().mean() >= AGREEMENT
