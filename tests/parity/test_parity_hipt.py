"""HIPT ViT-S/16 against the official code."""

import pytest
import torch

from wsi_sampath.models.encoders import Renormalise, VitEncoder
from wsi_sampath.models.spec import HIPT_VIT, IMAGENET_MEAN, IMAGENET_STD


@pytest.fixture(scope="module")
def recorded(parity):
    return parity.npz("hipt_vits16")


@pytest.fixture(scope="module")
def encoder(parity, recorded):
    model = VitEncoder(HIPT_VIT).eval()
    model.vit.load_state_dict(parity.weights("hipt_vits16", recorded["salt"].item()))
    return model


@pytest.fixture(scope="module")
def image(parity, recorded, normalised):
    half = (0.5, 0.5, 0.5)
    renormalise = Renormalise((IMAGENET_MEAN, IMAGENET_STD), (half, half))
    return renormalise(normalised(parity.image(recorded["image_seed"])))


def test_positions(parity, recorded, encoder):
    parity.check(recorded, "pos_embed_64x64", encoder.positions(64, 64))


def test_first_block(parity, recorded, encoder, image):
    parity.check(recorded, "block00", encoder.vit.blocks[0](encoder.embed(image)))


def test_tokens(parity, recorded, encoder, image):
    parity.check(recorded, "tokens", encoder(image).permute(0, 2, 3, 1))


def test_class_token_of_a_crop(parity, recorded, encoder, image):
    tokens = encoder.vit.norm(encoder.vit.blocks(encoder.embed(image[..., 256:512, 512:768])))
    parity.check(recorded, "cls_256", tokens[:, 0])


def test_positions_of_the_own_grid_are_untouched(encoder):
    assert torch.equal(encoder.positions(14, 14), encoder.vit.pos_embed)
