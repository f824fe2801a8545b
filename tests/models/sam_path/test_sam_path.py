import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from wsi_sampath.errors import WsiError
from wsi_sampath.models.checkpoints import build_model
from wsi_sampath.models.parts.attention import set_attention
from wsi_sampath.models.parts.encoders import PathologyEncoder, Renormalise
from wsi_sampath.models.parts.specs import PathologySpec
from wsi_sampath.models.sam_path.names import from_published, to_published
from wsi_sampath.models.sam_path.network import SamPath
from wsi_sampath.models.sam_path.spec import SamPathSpec

FULL_PARAMETERS = 116_707_859
UNUSED_NECK = 787_456


def images(count, side=128, seed=0):
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def test_shapes(tiny_model):
    output = tiny_model(images(2))
    assert output.logits.shape == (2, 4, 32, 32)
    assert output.iou.shape == (2, 4)
    assert output.logits.std() > 0


@torch.no_grad()
def test_an_image_does_not_see_its_batch(tiny_model):
    batch = images(3)
    together = tiny_model(batch)
    for i in range(3):
        alone = tiny_model(batch[i : i + 1])
        torch.testing.assert_close(alone.logits[0], together.logits[i], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(alone.iou[0], together.iou[i], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_both_attentions_give_the_same(tiny_model):
    outputs = []
    for mode in ("reference", "fused"):
        set_attention(tiny_model, mode)
        outputs.append(tiny_model(images(1)).logits)
    torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_other_sizes_are_resized(tiny_model):
    larger = images(1, 192)
    resized = torch.nn.functional.interpolate(larger, size=(128, 128), mode="bilinear")
    assert torch.equal(tiny_model(larger).logits, tiny_model(resized).logits)


@pytest.mark.parametrize("missing", ["sam", "pathology"])
@torch.no_grad()
def test_one_encoder_is_enough(tiny_values, missing):
    model = build_model(SamPathSpec.model_validate(tiny_values | {missing: None}))
    assert model(images(1)).logits.shape == (1, 4, 32, 32)


@torch.no_grad()
def test_preprocessing(tiny_model):
    tiles = torch.randint(0, 256, (2, 5, 7, 3), dtype=torch.uint8)
    out = tiny_model.preprocess(tiles)
    assert out.shape == (2, 3, 5, 7)
    mean, std = torch.tensor(tiny_model.spec.mean), torch.tensor(tiny_model.spec.std)
    expected = (tiles[1, 2, 3] / 255 - mean) / std
    torch.testing.assert_close(out[1, :, 2, 3], expected)


@pytest.mark.parametrize("side", [128, 32, 16])
def test_maps_interpolate_logits_and_average_probabilities(tiny_model, side):
    with torch.inference_mode():
        logits = tiny_model(images(2)).logits
        wanted = functional.interpolate(logits, size=(max(side, 32),) * 2, mode="bilinear")
        wanted = functional.avg_pool2d(wanted[:, 1:].softmax(dim=1), 32 // min(side, 32))
        found = tiny_model.maps(images(2), side)
    torch.testing.assert_close(found, wanted)
    assert found.dtype == torch.float32


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1000), st.integers(1, 6), st.floats(0.1, 50))
def test_probabilities(seed, classes, spread):
    logits = images(2, 6, seed)[:, :1].repeat(1, classes + 1, 1, 1) * spread
    logits += torch.randn(logits.shape, generator=torch.Generator().manual_seed(seed))
    out = SamPath.class_probabilities(logits)
    assert out.shape == (2, classes, 6, 6)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out.sum(dim=1), torch.ones(2, 6, 6))
    assert torch.equal(out.argmax(dim=1), logits[:, 1:].argmax(dim=1))


def test_published_names_come_back(tiny_model):
    state = tiny_model.state_dict()
    published = to_published(state, tiny_model.spec)
    assert "fusion_neck.0.weight" in published
    assert "model.mask_decoder.iou_token.weight" in published
    assert "extra_encoder.model.cls_token" in published
    assert from_published(published, tiny_model.spec).keys() == state.keys()


def test_unused_published_weights_are_left_out(tiny_model):
    state = to_published(tiny_model.state_dict(), tiny_model.spec)
    state["model.image_encoder.neck.0.weight"] = torch.zeros(1)
    assert not any("encoder.neck" in name for name in from_published(state, tiny_model.spec))
    assert "typo" in from_published(state | {"typo": torch.zeros(1)}, tiny_model.spec)


def test_the_published_size():
    with torch.device("meta"):
        spec = SamPathSpec.model_validate(
            {
                "name": "full",
                "classes": [{"name": f"c{i}", "color": "#000000"} for i in range(5)],
                "mpp": 0.25,
                "sam": "vit_b",
                "pathology": "hipt_vits16",
            }
        )
        model = SamPath(spec)
    count = sum(weight.numel() for weight in model.parameters())
    assert count == FULL_PARAMETERS - UNUSED_NECK


def encoder(tiny_spec, **values):
    return PathologyEncoder(PathologySpec.model_validate(values), tiny_spec).eval()


@pytest.mark.parametrize(
    "values",
    [
        {"encoder": "timm:vit_tiny_patch16_224"},
        {"encoder": "timm:vit_small_patch14_dinov2", "options": {"depth": 1}},
        {"encoder": "timm:resnet10t", "stride": 8},
        {"encoder": "timm:convnext_atto", "stride": 16},
        {"encoder": {"embed_dim": 8, "depth": 1, "num_heads": 2, "patch": 20}},
    ],
    ids=lambda values: str(values["encoder"])[:24],
)
@torch.no_grad()
def test_encoders_land_on_the_grid(tiny_spec, values):
    one = encoder(tiny_spec, **values)
    assert one(images(1)).shape == (1, one.out_channels, 8, 8)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"encoder": "timm:vit_tiniest"}, "vit_tiniest"),
        ({"encoder": "timm:resnet10t", "stride": 7}, "stride"),
    ],
)
def test_encoders_that_do_not_exist(tiny_spec, values, said):
    with pytest.raises(WsiError, match=said) as caught:
        encoder(tiny_spec, **values)
    assert caught.value.reason == "bad-model"


def test_renormalising_is_exact():
    pixels = torch.rand(1, 3, 4, 4, dtype=torch.float64)
    one = ((0.4, 0.5, 0.6), (0.1, 0.2, 0.3))
    two = ((0.5, 0.1, 0.7), (0.5, 0.3, 0.9))
    first, second = (
        (pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
        for mean, std in (one, two)
    )
    torch.testing.assert_close(Renormalise(one, two)(first), second, rtol=1e-5, atol=1e-6)


def test_gradients_reach_every_weight_that_decides(tiny_spec):
    model = build_model(tiny_spec)
    output = model(images(1))
    (output.logits.square().mean() + output.iou.square().mean()).backward()
    idle = {name for name, weight in model.named_parameters() if weight.grad is None}
    for name in idle:
        assert name.startswith(("prompt_encoder.", "decoder.output_hypernetworks_mlps.0."))


@pytest.mark.parametrize(
    ("missing", "trained"),
    [(None, {"neck", "decoder"}), ("pathology", {"decoder"}), ("sam", {"neck", "decoder"})],
)
def test_what_the_paper_trains(tiny_values, missing, trained):
    model = build_model(
        SamPathSpec.model_validate(tiny_values | ({missing: None} if missing else {}))
    )
    model.trainable("decoder")
    left = {name.split(".")[0] for name, one in model.named_parameters() if one.requires_grad}
    assert left == trained
    model.train()
    assert {name for name, part in model.named_children() if part.training} == trained
