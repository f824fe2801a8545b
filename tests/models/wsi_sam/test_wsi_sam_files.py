"""The files of WSI-SAM's authors: three of them become one, and what does not belong together."""

import pytest
import torch
from command_line import ended
from small_sam import looks, small_model, small_values, some_prompts

from wsi_sampath.cli.models import main as models
from wsi_sampath.errors import WsiError
from wsi_sampath.models.checkpoints import load_checkpoint, save_checkpoint
from wsi_sampath.models.parse import parse_spec
from wsi_sampath.models.wsi_sam.importing import import_wsi_sam, start_wsi_sam
from wsi_sampath.models.zoo import load_model


@pytest.fixture(scope="module")
def model():
    return small_model("wsi_sam", "tiny_vit")


class Files:
    """A WSI-SAM as its authors save it: MobileSAM, and two decoders with copies of MobileSAM's."""

    def __init__(self, folder, model):
        self.folder, self.model = folder, model
        self.sam = self.put("mobile_sam.pt", model.sam.state_dict())
        self.high = self.put("net_high.pth", self.net(model.high))
        self.low = self.put("net_low.pth", self.net(model.low))

    def net(self, part, **changes):
        state = self.model.sam.mask_decoder.state_dict() | part.state_dict() | changes
        optimiser = {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"lr": 1e-3}]}
        return {"model": state, "optimizer": optimiser, "epoch": 19}

    def put(self, name, content):
        torch.save(content, self.folder / name)
        return self.folder / name

    def read(self, **changes):
        files = {"sam": self.sam, "high": self.high, "low": self.low} | changes
        return import_wsi_sam(files.pop("sam"), self.model.spec, **files)

    def refusal(self, **changes):
        with pytest.raises(WsiError) as caught:
            self.read(**changes)
        assert caught.value.reason == "bad-model"
        return caught.value.line()


@pytest.fixture
def files(tmp_path, model):
    return Files(tmp_path, model)


@torch.no_grad()
def test_three_files_become_one(files, model, tmp_path):
    made = files.read()
    assert not made.doubts
    path = save_checkpoint(made.network, tmp_path / "a.safetensors", dtype=torch.float32)
    loaded = load_checkpoint(path)
    assert loaded.spec == model.spec
    prompts = some_prompts()
    for other in (made.network, loaded):
        assert not other.training
        for mine, theirs in zip(
            model.masks(model.embed(looks()), prompts),
            other.masks(other.embed(looks()), prompts),
            strict=True,
        ):
            assert torch.equal(mine, theirs)


def test_what_does_not_belong_together(files, model):
    assert "--high and --low are swapped" in files.refusal(high=files.low, low=files.high)
    assert "holds the weights of" in files.refusal(low=files.high)
    token = {"mask_tokens.weight": torch.zeros(4, 16)}
    stranger = files.put("stranger.pth", files.net(model.low, **token))
    assert "not of one training" in files.refusal(low=stranger)
    assert "MobileSAM's weights, where a WSI-SAM decoder's" in files.refusal(low=files.sam)
    assert "where SAM's are needed" in files.refusal(sam=files.high)
    wide = small_model("wsi_sam", "vit")
    beside_vit = files.put("vit.pth", files.net(wide.high))
    assert "16 channels, but those of 'small' have 12" in files.refusal(high=beside_vit)
    vit = files.put("sam.pth", wide.sam.state_dict())
    assert "wants MobileSAM" in files.refusal(sam=vit)
    lacking = files.net(model.low)
    del lacking["model"]["hf_mlp.layers.2.bias"]
    assert "missing: low.hf_mlp.layers.2.bias" in files.refusal(low=files.put("l.pth", lacking))


def test_another_sam_of_the_same_size_is_doubted(files, model):
    state = model.sam.state_dict() | {"mask_decoder.iou_token.weight": torch.ones(1, 16)}
    made = files.read(sam=files.put("other.pt", state))
    (doubt,) = made.doubts
    assert "another SAM" in doubt
    used = made.network.sam.mask_decoder.iou_token.weight
    assert torch.equal(used, model.sam.mask_decoder.iou_token.weight)


def test_a_new_one_is_sam_and_random_parts(files, model):
    one, same, other = (start_wsi_sam(files.sam, model.spec, seed=seed) for seed in (1, 1, 2))
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, same.state_dict()[name])
        if name.startswith("sam."):
            assert torch.equal(tensor, model.state_dict()[name])
    assert not torch.equal(one.high.hf_token.weight, other.high.hf_token.weight)


def test_importing_on_the_command_line(files, model, monkeypatch, capsys, tmp_path):
    model.spec.to_yaml(tmp_path / "a.yaml")
    fixed = ["import", "--spec", tmp_path / "a.yaml", "--out", tmp_path / "out.safetensors"]
    nets = ["--high", files.high, "--low", files.low]

    def run(*words):
        return ended(monkeypatch, models, "wsi-models", *fixed, *words)

    assert not run("--sam", files.sam, *nets)
    loaded = load_model(tmp_path / "out.safetensors")
    assert not loaded.warnings
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.module.state_dict()[name], tensor)
    assert not run("--sam", files.sam)
    assert "never trained" in load_model(tmp_path / "out.safetensors").warnings[0]
    capsys.readouterr()
    for words, said in (
        (["--sam", files.sam, *nets[:2]], "--high and --low go together"),
        ([files.high], "comes in three files"),
        (["--sam", files.sam, "--hipt", files.sam], "--hipt means nothing"),
    ):
        assert run(*words) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line
    with pytest.raises(WsiError, match="one of the three files"):
        load_model(tmp_path / "a.yaml", weights=files.high)


def test_the_specification_keeps_everything():
    values = small_values("wsi_sam", aggregation="mean", compat={"floored_boxes": True})
    spec = parse_spec(values)
    assert parse_spec(spec.model_dump(mode="json")) == spec
    assert spec.views == (1.0, 2.0)
