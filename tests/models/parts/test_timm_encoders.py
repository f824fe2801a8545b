"""Encoders of timm: every family runs on the model's tile, or is refused in one line."""

import pytest
import torch

from wsi_sampath.errors import WsiError
from wsi_sampath.models.parts.encoders import PathologyEncoder
from wsi_sampath.models.parts.specs import PathologySpec
from wsi_sampath.models.sam_path.spec import SamPathSpec
from wsi_sampath.models.sketch import bounded

RUNNING = [
    ("swin_tiny_patch4_window7_224", 16),
    ("swinv2_tiny_window8_256", 8),
    ("vit_tiny_patch16_224", 16),
    ("vit_small_patch14_dinov2", 14),
    ("deit_tiny_patch16_224", 16),
    ("beit_base_patch16_224", 16),
    ("cait_xxs24_224", 16),
    ("maxvit_tiny_tf_224", 16),
    ("coatnet_nano_rw_224", 16),
    ("levit_128s", 16),
    ("xcit_nano_12_p16_224", 16),
    ("mambaout_femto", 16),
    ("mobilenetv3_small_100", 16),
    ("convnext_atto", 8),
    ("resnet18", 16),
]


def encoder(name, stride, tile=256, **options):
    spec = PathologySpec(encoder=f"timm:{name}", stride=stride, options=options)
    classes = [{"name": "a", "color": "#000000"}]
    model = SamPathSpec(name="a", classes=classes, mpp=1.0, tile=tile, pathology=spec)
    return PathologyEncoder(spec, model)


@pytest.mark.parametrize(("name", "stride"), RUNNING)
def test_a_family_answers_on_the_grid_of_the_decoder(name, stride):
    with bounded(), torch.no_grad():
        made = encoder(name, stride).eval()
        answer = made(torch.empty(1, 3, 256, 256, device="meta"))
    assert answer.shape == (1, made.out_channels, 16, 16)


def test_channels_that_come_last_are_put_first():
    torch.manual_seed(0)
    made = encoder("swin_tiny_patch4_window7_224", 8, tile=128, embed_dim=24, depths=(1, 1, 1, 1))
    with torch.no_grad():
        features = made.encoder(torch.randn(1, 3, 128, 128))
    assert features.shape == (1, 48, 16, 16)


@pytest.mark.parametrize(
    ("name", "stride", "options", "said"),
    [
        ("efficientformer_l1", 32, {}, "cannot be built for tiles of 256 px"),
        ("swin_tiny_patch4_window7_224", 16, {"img_size": 224}, "doesn't match model (224)"),
        ("resnet18", 16, {"nonsense": 3}, "nonsense"),
        ("resnet18", 3, {}, "strides 2, 4, 8, 16, 32, not 3"),
        ("resnet81", 16, {}, "did you mean 'resnet1"),
        ("qqqqqq", 16, {}, "timm.list_models()"),
        ("resnet18.no_such_tag", 16, {}, "no_such_tag"),
    ],
)
def test_what_does_not_fit_is_one_line(name, stride, options, said):
    with pytest.raises(WsiError, match="bad-model") as caught:
        encoder(name, stride, **options)
    assert said in caught.value.line()
    assert "\n" not in caught.value.line()


def test_working_on_paper_draws_no_random_numbers():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    with bounded():
        encoder("swin_tiny_patch4_window7_224", 16)
    assert torch.equal(torch.get_rng_state(), before)
