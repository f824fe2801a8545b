"""HIPT ViT-S/16 against the official code."""

import copy
import re

import pytest
import torch

from wsi_sampath.models.parts.encoders import Renormalise, VitEncoder
from wsi_sampath.models.parts.specs import HIPT_VIT
from wsi_sampath.models.sam_path.importing import load_vit
from wsi_sampath.models.spec import IMAGENET_MEAN, IMAGENET_STD

PATCH = 16


@pytest.fixture(scope="module")
def recorded(parity):
    return parity.npz("hipt_vits16")


@pytest.fixture(scope="module")
def encoder(parity, recorded, published):
    model = VitEncoder(HIPT_VIT).eval()
    state = parity.weights("hipt_vits16", recorded["salt"].item())
    load_vit(model.vit, published.hipt(state))
    return model


@pytest.fixture(scope="module")
def side(recorded):
    """Of the image, px: the file says how many tokens there are."""
    return PATCH * int(recorded["tokens__shape"][1])


@pytest.fixture(scope="module")
def image(parity, recorded, normalised, side):
    half = (0.5, 0.5, 0.5)
    renormalise = Renormalise((IMAGENET_MEAN, IMAGENET_STD), (half, half))
    return renormalise(normalised(parity.image(recorded["image_seed"], side, side)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_positions(parity, recorded, encoder, dtype):
    (name,) = [name for name in recorded.files if re.fullmatch(r"pos_embed_\d+x\d+", name)]
    height, width = map(int, name.removeprefix("pos_embed_").split("x"))
    parity.check(recorded, name, copy.deepcopy(encoder).to(dtype).positions(height, width))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_first_block(parity, recorded, encoder, image, dtype):
    exact = copy.deepcopy(encoder).to(dtype)
    tokens = exact.vit.blocks[0](exact.embed(image.to(dtype)))
    parity.check(recorded, "block00", tokens)


def test_tokens(parity, recorded, encoder, image):
    parity.check(recorded, "tokens", encoder(image).permute(0, 2, 3, 1))


def test_class_token_of_a_crop(parity, recorded, encoder, image):
    tokens = encoder.vit.norm(encoder.vit.blocks(encoder.embed(image[..., 256:512, 512:768])))
    parity.check(recorded, "cls_256", tokens[:, 0])


def test_positions_of_the_own_grid_are_untouched(encoder):
    assert torch.equal(encoder.positions(14, 14), encoder.vit.pos_embed)
