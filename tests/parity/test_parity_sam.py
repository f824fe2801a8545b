"""SAM ViT-B against the official code: encoder stages, prompts, decoder."""

import copy
import os
import re
from contextlib import suppress

import numpy as np
import pytest
import torch

from wsi_sampath.models.network import Prompts
from wsi_sampath.models.parts.attention import set_attention
from wsi_sampath.models.parts.frame import image_in_frame, points_in_frame, size_in_frame
from wsi_sampath.models.sam_path.importing import load_sam

MEAN = torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1)
STD = torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1)
ONE_GREY_LEVEL = 1
STAGES = [("block00", 0), ("block02", 2), ("pre_neck", 11), ("embedding", "embedding")]
WRITTEN_OUT = STAGES if os.environ.get("WSI_SAMPATH_PARITY") else STAGES[:2]
"""Where SAM's bias is written out: a block of windows and a global one, and the nine after them in
a run that is about parity alone. Their weights, and all after them, are those of the fused ones."""
GIVEN_POINTS = np.array([[10, 20], [123.5, 77.25]])
GIVEN_BOX = np.array([5, 6, 200, 150.5])


@pytest.fixture(scope="module")
def recorded(parity):
    return parity.npz("sam_vit_b")


@pytest.fixture(scope="module")
def sam(parity, recorded, published):
    return load_sam(published.sam(parity.weights("sam_vit_b", recorded["salt"].item())))


@pytest.fixture(scope="module")
def image(parity, recorded):
    pixels = torch.from_numpy(parity.image(recorded["image_seed"])).permute(2, 0, 1)
    return ((pixels - MEAN) / STD)[None]


class Enough(Exception):
    pass


@pytest.fixture(scope="module")
def stages(sam, image):
    """The fused attention all the way; the bias written out up to what `WRITTEN_OUT` holds."""
    until = None if len(WRITTEN_OUT) == len(STAGES) else 2
    return {
        "fused": encoder_stages(sam, image, "fused"),
        "reference": encoder_stages(sam, image, "reference", until),
    }


@torch.no_grad()
def encoder_stages(sam, image, mode, until=None):
    set_attention(sam, mode)
    seen = {}
    encoder = sam.image_encoder

    def see(i, out):
        seen[i] = out
        if i == until:
            raise Enough

    hooks = [
        encoder.blocks[i].register_forward_hook(lambda _m, _i, out, i=i: see(i, out))
        for i in (0, 2, len(encoder.blocks) - 1)
    ]
    with suppress(Enough):
        seen["embedding"] = sam.embed([image])[0]
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize(
    ("name", "key", "mode"),
    [*((*one, "fused") for one in STAGES), *((*one, "reference") for one in WRITTEN_OUT)],
)
def test_encoder(parity, recorded, stages, name, key, mode):
    parity.check(recorded, name, stages[mode][key])


@pytest.mark.parametrize("mode", ["fused", "reference"])
def test_first_blocks_in_double_precision(parity, recorded, sam, image, mode):
    """A window block alone: close enough to see a wrong epsilon, which float32 would hide."""
    encoder = copy.deepcopy(torch.nn.ModuleList([sam.image_encoder.patch_embed]))
    encoder.append(copy.deepcopy(sam.image_encoder.blocks[0]))
    patches, block = encoder.double()
    set_attention(encoder, mode)
    tokens = patches(image.double()) + sam.image_encoder.pos_embed
    parity.check(recorded, "block00", block(tokens))


def test_positions(parity, recorded, sam):
    parity.check(recorded, "dense_pe", sam.prompt_encoder.get_dense_pe())


def prompts_of(parity, recorded, prompt):
    def get(part):
        name = f"{prompt}/{part}"
        return torch.from_numpy(recorded[name]).float() if name in recorded.files else None

    masks = None
    if f"{prompt}/mask_seed" in recorded.files:
        grey = parity.image(recorded[f"{prompt}/mask_seed"], 256, 256)[:, :, 0] / 255
        masks = torch.from_numpy(20 * (grey - 0.6)).float()[None, None]
    labels = get("labels") if get("points") is not None else None
    return Prompts(get("points"), labels, get("boxes"), masks)


def prompt_names(recorded):
    return sorted({name.split("/")[0] for name in recorded.files if name.endswith("/sparse")})


def test_prompts(parity, recorded, sam, stages):
    assert prompt_names(recorded)
    for prompt in prompt_names(recorded):
        given = prompts_of(parity, recorded, prompt)
        points = None if given.points is None else (given.points, given.labels)
        sparse, dense = sam.prompt_encoder(points, given.boxes, given.masks)
        parity.check(recorded, f"{prompt}/sparse", sparse)
        if given.masks is not None:
            parity.check(recorded, f"{prompt}/dense", dense)
        for multimask, name in ((True, "multi"), (False, "single")):
            logits, iou = sam.masks((stages["fused"]["embedding"],), given, multimask=multimask)
            parity.check(recorded, f"{prompt}/logits_{name}", logits)
            parity.check(recorded, f"{prompt}/iou_{name}", iou)


def test_masks_at_image_size(parity, recorded, sam, stages):
    (name,) = [one for one in recorded.files if re.fullmatch(r"points/post_\d+x\d+", one)]
    original = tuple(map(int, name.removeprefix("points/post_").split("x")))
    used = size_in_frame(original, sam.tile)
    given = prompts_of(parity, recorded, "points")
    logits, _ = sam.masks((stages["fused"]["embedding"],), given, multimask=False)
    parity.check(recorded, name, sam.at_image_size(logits[:1], used, original))


def test_an_image_and_its_prompts_in_the_frame(parity, recorded, sam):
    size = tuple(map(int, recorded["rect/size_hw"]))
    image = image_in_frame(parity.image(recorded["rect/seed"], *size), sam.tile)
    assert image.shape == tuple(recorded["rect/resized_shape"])
    difference = image[::9, ::9].astype(int) - recorded["rect/resized_sub9"]
    assert np.abs(difference).max() <= ONE_GREY_LEVEL
    points = points_in_frame(GIVEN_POINTS, size, sam.tile)
    np.testing.assert_allclose(points, recorded["rect/coords"], rtol=1e-6)
    boxes = points_in_frame(GIVEN_BOX.reshape(-1, 2), size, sam.tile).reshape(-1, 4)
    np.testing.assert_allclose(boxes, recorded["rect/boxes"], rtol=1e-6)
