import numpy as np
import pytest
import torch
from torch import nn

from pipelines.gland_mini.baselines import ClassUNet, parameters, without_class_prompts
from pipelines.gland_mini.canvas_run import (
    Curriculum,
    Stage,
    canvas_loss,
    cosine_rate,
    move_towards,
    train_on_canvases,
    with_exact_depthwise,
)
from pipelines.gland_mini.mosaic import Collection, LabelledPicture
from wsi_sampath.models.parts.retile import with_tile
from wsi_sampath.models.sam_path.network import SamPath
from wsi_sampath.models.sam_path.spec import SamPathSpec

TILE = 64
VALUES = {
    "name": "tiny",
    "classes": [{"name": "a", "color": "#000000"}, {"name": "b", "color": "#ffffff"}],
    "mpp": 1.0,
    "sam": {
        "embed_dim": 8,
        "depth": 1,
        "num_heads": 2,
        "global_attn_indexes": [0],
        "absolute_positions": False,
    },
    "decoder": {"dim": 16, "depth": 1, "num_heads": 2, "mlp_dim": 16},
}
STAGES = (Stage(32, 2, 7), Stage(64, 1, 4))


def build(side):
    return SamPath(SamPathSpec.model_validate({**VALUES, "tile": side}))


@pytest.fixture
def model():
    torch.manual_seed(0)
    return build(TILE)


@pytest.fixture(scope="module")
def sources():
    rng = np.random.default_rng(0)
    mask = np.repeat([1, 2], 30).astype(np.uint8)[:, None].repeat(60, axis=1)
    image = rng.integers(0, 80, (60, 60, 3), dtype=np.uint8) + mask[..., None] * np.uint8(80)
    return [Collection([LabelledPicture(image, mask, 1.0)], 1.0)]


class Killed(Exception):
    pass


def test_killed_and_resumed_gives_the_same_weights(model, sources, tmp_path):
    curriculum = Curriculum(STAGES, warm_up=2, save_every=0, validate_every=3)
    whole = train_on_canvases(model, build, curriculum, sources, tmp_path / "whole", lambda _: {})
    asked = []

    def killer(_):
        asked.append(1)
        if len(asked) in (2, 4):
            raise Killed
        return {}

    for _ in range(2):
        with pytest.raises(Killed):
            train_on_canvases(model, build, curriculum, sources, tmp_path / "killed", killer)
    resumed = train_on_canvases(model, build, curriculum, sources, tmp_path / "killed", killer)
    again = train_on_canvases(model, build, curriculum, sources, tmp_path / "killed", killer)
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, resumed.state_dict()[name]), name
        assert torch.equal(weight, again.state_dict()[name]), name
    assert not torch.equal(whole.neck[0].weight, model.neck[0].weight)


def test_widened_position_tables_keep_known_distances():
    model, wide, narrow = (build(side) for side in (64, 128, 64))
    table = model.sam_encoder.blocks[0].attn.rel_pos_h
    nn.init.normal_(table)
    widened = with_tile(model, wide).sam_encoder.blocks[0].attn.rel_pos_h
    assert len(widened) == 15
    assert torch.equal(widened[4:11], table)
    assert torch.equal(widened[0], table[0])
    assert torch.equal(with_tile(wide, narrow).sam_encoder.blocks[0].attn.rel_pos_h, table)


def test_distances_beyond_the_small_tile_keep_their_positions(model, sources, tmp_path):
    table = "sam_encoder.blocks.0.attn.rel_pos_h"
    nn.init.normal_(model.state_dict()[table])
    curriculum = Curriculum((Stage(32, 2, 6),), warm_up=1)
    trained = train_on_canvases(model, build, curriculum, sources, tmp_path / "state", lambda _: {})
    before, after = model.state_dict()[table], trained.state_dict()[table]
    assert torch.equal(before[[0, 1, 5, 6]], after[[0, 1, 5, 6]])
    assert not torch.equal(before[2:5], after[2:5])


def test_unlabelled_pixels_cost_nothing(model):
    images = torch.randint(0, 255, (2, TILE, TILE, 3), dtype=torch.uint8)
    target = torch.randint(1, 3, (2, TILE, TILE), dtype=torch.uint8)
    loss, _ = canvas_loss(model, images, target)
    target[1] = 0
    half, _ = canvas_loss(model, images, target)
    alone, _ = canvas_loss(model, images[:1], target[:1])
    assert loss != half
    assert float(half) == pytest.approx(float(alone), rel=0.03)


def test_learning_rate_falls_to_zero():
    rates = [cosine_rate(step, 100, 2.0) for step in range(101)]
    assert rates[0] == 2
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(0)


def test_the_mean_of_the_weights():
    mean, model = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    nn.init.constant_(model.weight, 3)
    model.running_mean.fill_(7)
    move_towards(mean, model, 4)
    assert mean.weight.tolist() == [1.5, 1.5]
    assert mean.running_mean.tolist() == [7, 7]


def test_depthwise_convolutions_stay_exact_under_autocast():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(4, 4, 7, padding=3, groups=4), nn.Conv2d(4, 4, 1))
    images = torch.randn(1, 4, 16, 16)
    expected = net[0](images)
    names = list(net.state_dict())
    with_exact_depthwise(net)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(net[0](images), expected)
        assert net[1](images).dtype == torch.bfloat16
    assert list(net.state_dict()) == names


def test_the_rivals_answer_alike(model):
    tiles = torch.zeros(1, TILE, TILE, 3, dtype=torch.uint8)
    for rival, side in ((ClassUNet(model.spec, 4), 64), (without_class_prompts(model.spec), 16)):
        images = rival.preprocess(tiles)
        output = rival.eval()(images)
        assert output.logits.shape == (1, 3, side, side)
        assert output.iou.shape == (1, 3)
        assert torch.equal(images, model.preprocess(tiles))


def test_an_unet_of_known_size():
    """31.04 million weights with biases in the literature; batch norms make up for those."""
    spec = SamPathSpec.model_validate({**VALUES, "tile": TILE})
    assert parameters(ClassUNet(spec, 64)) == pytest.approx(31.04e6, rel=0.005)
