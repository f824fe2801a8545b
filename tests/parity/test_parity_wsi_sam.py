"""WSI-SAM against the official code: both resolutions, from the images to the answer.

Beside SAM ViT-B two images take a CPU most of a minute, so that it is left to GPUs and to whoever
names a folder of fixtures; SAM's encoder itself is held to the official numbers elsewhere.
"""

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from test_parity_device import float32
from wsi_sam_numbers import SIDES, everything, spec_of

from wsi_sampath.models.network import Prompts
from wsi_sampath.models.plain_sam.importing import import_plain_sam
from wsi_sampath.models.plain_sam.spec import PlainSamSpec
from wsi_sampath.models.wsi_sam.importing import import_wsi_sam
from wsi_sampath.models.wsi_sam.spec import WsiSamSpec

BACKBONES = {"vit_t": ("vit_tiny", 897_024), "vit_b": ("vit_b", 2_142_208)}
CROP, KNOWN = 336, 13
"""Side of a corner of the image, px, and how much of its early features, none of it sees more."""


class Scene(NamedTuple):
    """What was recorded, what we say of it by the recorded names, and what says it."""

    recorded: Any
    said: dict
    model: torch.nn.Module
    view: torch.Tensor
    sam_file: Path


@pytest.fixture(scope="module", params=BACKBONES)
def backbone(request):
    named = os.environ.get("WSI_SAMPATH_PARITY")
    if request.param == "vit_b" and not (named or torch.cuda.is_available()):
        pytest.skip("ViT-B: no CUDA GPU, and WSI_SAMPATH_PARITY names no folder")
    return request.param


@pytest.fixture(scope="module")
def recorded(parity, backbone):
    return parity.npz(f"wsisam_{backbone}")


@pytest.fixture(scope="module")
def scene(parity, backbone, recorded, published):
    encoder, learned = BACKBONES[backbone]
    files = published.wsi_sam(*parity.wsi_sam(backbone, recorded["salt"].item()))
    spec = spec_of(WsiSamSpec, encoder, compat={"floored_boxes": True})
    made = import_wsi_sam(files[0], spec, high=files[1], low=files[2])
    assert not made.doubts
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = made.network.to(device)
    assert sum(one.numel() for one in model.parameters() if one.requires_grad) == learned
    images = [parity.image(recorded[f"{side}_seed"]) for side in SIDES]
    views = [model.preprocess(torch.from_numpy(image)[None].to(device)) for image in images]
    box = torch.from_numpy(np.asarray(recorded["box"], np.float32)).reshape(1, 4)
    with torch.no_grad(), float32(tf32=False):
        said = everything(model, views, Prompts(boxes=box.to(device)))
    return Scene(recorded, said, model, views[0], files[0])


@pytest.mark.parametrize(
    "name", ["early_feature", "embedding", "sparse", "token", "feature", "wsi_logits_256"]
)
def test_both_resolutions(parity, scene, name):
    for side in SIDES:
        parity.check(scene.recorded, f"{side}/{name}", scene.said[f"{side}/{name}"])


@pytest.mark.parametrize("name", ["sam_logits_256", "final_logits_256", "final_logits_1024"])
def test_the_answer(parity, scene, name):
    parity.check(scene.recorded, f"hr/{name}", scene.said[f"hr/{name}"])


def test_the_file_of_its_sam_is_a_model_of_its_own(scene, backbone):
    sam = import_plain_sam(scene.sam_file, spec_of(PlainSamSpec, BACKBONES[backbone][0]))
    ours, theirs = sam.state_dict(), scene.model.sam.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name].cpu()) for name in ours)


def test_the_first_stages_in_double_precision(parity, scene, backbone, recorded):
    """Close enough to see a wrong epsilon, which float32 would hide: in a corner, for speed."""
    if backbone != "vit_t":
        pytest.skip("SAM's own encoder has a test like this")
    if "hr/early_feature__f64" not in recorded.files:
        pytest.skip("no numbers in double precision")
    encoder = scene.model.sam.image_encoder.double()
    corner = encoder.patch_embed(scene.view[..., :CROP, :CROP].double())
    early = encoder.layers[1](encoder.layers[0](corner)).permute(0, 2, 3, 1)
    encoder.float()
    full = np.full(recorded["hr/early_feature__shape"], np.nan)
    full[:, :KNOWN, :KNOWN] = early[:, :KNOWN, :KNOWN].cpu().numpy()
    stored = parity.subsample(recorded, "hr/early_feature", full).ravel()
    stored = stored[:: int(recorded["hr/early_feature__f64_step"])]
    off = np.abs(stored - recorded["hr/early_feature__f64"])
    known = np.isfinite(stored)
    assert known.sum() >= 32
    assert off[known].max() <= recorded["hr/early_feature__atol64"]
