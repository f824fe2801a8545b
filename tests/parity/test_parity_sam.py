"""SAM ViT-B against the official code: encoder stages, prompts, decoder."""

import pytest
import torch

from wsi_sampath.models.attention import set_attention
from wsi_sampath.models.sam import Sam
from wsi_sampath.models.spec import SamSpec

MEAN = torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1)
STD = torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1)
PROMPTS = ["points", "box", "points_box", "point_mask"]


@pytest.fixture(scope="module")
def recorded(parity):
    return parity.npz("sam_vit_b")


@pytest.fixture(scope="module")
def sam(parity, recorded):
    model = Sam(SamSpec.model_validate("vit_b")).eval()
    model.load_state_dict(parity.weights("sam_vit_b", recorded["salt"].item()))
    return model


@pytest.fixture(scope="module")
def image(parity, recorded):
    pixels = torch.from_numpy(parity.image(recorded["image_seed"]).copy()).permute(2, 0, 1)
    return ((pixels - MEAN) / STD)[None]


@pytest.fixture(scope="module")
def stages(sam, image):
    return {mode: encoder_stages(sam, image, mode) for mode in ("fused", "reference")}


@torch.no_grad()
def encoder_stages(sam, image, mode):
    set_attention(sam, mode)
    seen = {}
    encoder = sam.image_encoder
    hooks = [
        encoder.blocks[i].register_forward_hook(lambda _m, _i, out, i=i: seen.update({i: out}))
        for i in (0, 2, len(encoder.blocks) - 1)
    ]
    seen["embedding"] = sam.embed(image)
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize("mode", ["fused", "reference"])
@pytest.mark.parametrize(
    ("name", "key"), [("block00", 0), ("block02", 2), ("pre_neck", 11), ("embedding", "embedding")]
)
def test_encoder(parity, recorded, stages, mode, name, key):
    parity.check(recorded, name, stages[mode][key])


def test_positions(parity, recorded, sam):
    parity.check(recorded, "dense_pe", sam.prompt_encoder.get_dense_pe())


def prompts_of(parity, recorded, prompt):
    def get(part):
        name = f"{prompt}/{part}"
        return torch.from_numpy(recorded[name]).float() if name in recorded.files else None

    points = get("points")
    out = {"points": None if points is None else (points, get("labels")), "boxes": get("boxes")}
    if f"{prompt}/mask_seed" in recorded.files:
        grey = parity.image(recorded[f"{prompt}/mask_seed"], 256, 256)[:, :, 0] / 255
        out["masks"] = torch.from_numpy(20 * (grey - 0.6)).float()[None, None]
    return out


@pytest.mark.parametrize("prompt", PROMPTS)
def test_prompts(parity, recorded, sam, stages, prompt):
    given = prompts_of(parity, recorded, prompt)
    sparse, dense = sam.prompt_encoder(given["points"], given["boxes"], given.get("masks"))
    parity.check(recorded, f"{prompt}/sparse", sparse)
    if "masks" in given:
        parity.check(recorded, f"{prompt}/dense", dense)
    for multimask, name in ((True, "multi"), (False, "single")):
        logits, iou = sam.masks(stages["fused"]["embedding"], **given, multimask=multimask)
        parity.check(recorded, f"{prompt}/logits_{name}", logits)
        parity.check(recorded, f"{prompt}/iou_{name}", iou)


def test_masks_at_image_size(parity, recorded, sam, stages):
    given = prompts_of(parity, recorded, "points")
    logits, _ = sam.masks(stages["fused"]["embedding"], **given, multimask=False)
    out = sam.at_image_size(logits[:1], (1024, 768), (600, 450))
    parity.check(recorded, "points/post_600x450", out)
