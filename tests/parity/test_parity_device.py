"""SAM-Path on a GPU: the official code's numbers in float32, the same labels in less than that.

On the CPU a tiny network against what it said itself: that the test works is known before it meets
a GPU. The other tests here hold the CPU to the official numbers.
"""

from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from make_fixture import sampled
from test_parity_sam_path import AGREEMENT, CASES, HALF_AGREEMENT, spec_of, upsampled

from wsi_sampath.models.checkpoints import build_model
from wsi_sampath.models.parts.attention import set_attention
from wsi_sampath.models.sam_path.spec import SamPathSpec
from wsi_sampath.models.zoo import load_model

SCENES = ["tiny", *(pytest.param(name, marks=pytest.mark.cuda) for name in CASES)]
TINY = {
    "name": "tiny",
    "classes": [{"name": name, "color": "#808080"} for name in "abc"],
    "mpp": 1,
    "tile": 128,
    "sam": {"embed_dim": 32, "depth": 2, "num_heads": 2, "global_attn_indexes": [1]},
    "pathology": {"encoder": {"embed_dim": 24, "depth": 1, "num_heads": 2}},
    "decoder": {"dim": 32, "depth": 1, "num_heads": 2, "mlp_dim": 32},
}
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Scene:
    prefix: str
    recorded: Any
    model: torch.nn.Module
    image: torch.Tensor

    @property
    def device(self):
        return self.image.device.type

    def labels(self, output):
        return self.model.class_probabilities(upsampled(output.logits, self.image)).argmax(1)


@pytest.fixture(scope="module", params=SCENES)
def scene(request, parity, published, normalised):
    if request.param == "tiny":
        return tiny_scene(normalised(parity.image(5, 128, 128)))
    if not torch.cuda.is_available():
        pytest.skip("no CUDA GPU")
    case = CASES[request.param]
    recorded = parity.npz(case.file)
    if case.prefix + "num_classes" not in recorded.files:
        pytest.skip(f"no {case.prefix} in {case.file}.npz")
    channels = int(recorded[case.prefix + "num_classes"])
    state = parity.weights(f"{case.keys}_C{channels}", recorded["salt"].item())
    checkpoint = published.sam_path(state)
    description = checkpoint.with_name("model.yaml")
    spec_of(case, channels).to_yaml(description)
    model = load_model(description, weights=checkpoint, device="cuda").module
    height, width = recorded[case.prefix + "image_hw"]
    pixels = parity.image(recorded[case.prefix + "image_seed"], height, width)
    return Scene(case.prefix, recorded, model, normalised(pixels).to("cuda"))


@torch.no_grad()
def tiny_scene(image):
    torch.manual_seed(0)
    model = build_model(SamPathSpec.model_validate(TINY))
    for name, weight in model.named_parameters():
        if "rel_pos" in name or "pos_embed" in name:
            weight.normal_()
    scene = Scene("", {}, model, image)
    output, tensors = forward(scene)
    for name, tensor in tensors.items():
        scene.recorded.update(sampled(name, tensor))
    scene.recorded["labels_sub4"] = (scene.labels(output) + 1)[:, ::4, ::4].numpy()
    return scene


def forward(scene):
    """The output, and the tensors of it that were recorded, by name."""
    seen = {}
    hook = scene.model.decoder.register_forward_pre_hook(
        lambda _module, given: seen.update(decoder=given[0])
    )
    output = scene.model(scene.image)
    hook.remove()
    no_mask = scene.model.prompt_encoder.no_mask_embed.weight.view(1, -1, 1, 1)
    return output, {
        "embedding": seen["decoder"] - no_mask,
        "logits_256": output.logits,
        "iou": output.iou,
        "logits_full": upsampled(output.logits, scene.image),
    }


@contextmanager
def float32(*, tf32):
    """Let matrix products and convolutions of a GPU round to TF32, or not."""
    backends = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [one.allow_tf32 for one in backends]
    try:
        for one in backends:
            one.allow_tf32 = tf32
        yield
    finally:
        for one, value in zip(backends, before, strict=True):
            one.allow_tf32 = value


@pytest.fixture(scope="module")
def exact(scene):
    """The labels in float32."""
    set_attention(scene.model, "fused")
    with float32(tf32=False), torch.no_grad():
        return scene.labels(scene.model(scene.image))


@pytest.mark.parametrize("mode", ["fused", "reference"])
def test_float32_gives_the_official_numbers(parity, scene, mode, record_property):
    if mode == "reference" and scene.model.sam_encoder is None:
        pytest.skip("same as fused without SAM's encoder")
    set_attention(scene.model, mode)
    with float32(tf32=False):
        output, found = forward(scene)
    off = {
        name: parity.off(scene.recorded, scene.prefix + name, tensor)
        for name, tensor in found.items()
    }
    labels = (scene.labels(output) + 1)[:, ::4, ::4].cpu().numpy()
    same = float(np.mean(labels == scene.recorded[scene.prefix + "labels_sub4"]))
    record_property("difference_over_limit", off)
    record_property("label_agreement", same)
    assert max(off.values()) <= 1
    assert same >= AGREEMENT


@pytest.mark.parametrize("precision", ["tf32", "bf16", "fp16"])
def test_less_precision_gives_the_same_labels(scene, exact, precision, record_property):
    set_attention(scene.model, "fused")
    dtype = DTYPES.get(precision)
    half = nullcontext() if dtype is None else torch.autocast(scene.device, dtype=dtype)
    with float32(tf32=precision == "tf32"), half:
        output = scene.model(scene.image)
    same = float((scene.labels(output) == exact).float().mean())
    record_property("label_agreement", same)
    assert same >= HALF_AGREEMENT
