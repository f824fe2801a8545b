"""Published weight files, small ones, right and wrong."""

import argparse
import collections
import datetime

import pytest
import torch
from command_line import ended
from safetensors.torch import load_file

from wsi_sampath.cli.models import main
from wsi_sampath.errors import WsiError
from wsi_sampath.models.checkpoints import build_model, load_checkpoint, save_checkpoint
from wsi_sampath.models.published.files import Kind, read_published, sam_size
from wsi_sampath.models.sam_path.importing import (
    import_sam_path,
    load_sam,
    load_vit,
)
from wsi_sampath.models.sam_path.names import to_published
from wsi_sampath.models.sam_path.spec import SamPathSpec
from wsi_sampath.models.sam_path.start import start_sam_path
from wsi_sampath.models.zoo import load_model

SAM_ONLY = {"pathology": None}
PATHOLOGY_ONLY = {"sam": None}


def published_state(model):
    """The names of the authors, SAM's unused neck included."""
    unused = {"model.image_encoder.neck.0.weight": torch.zeros(1)}
    return unused | to_published(model.state_dict(), model.spec)


def lightning(model):
    state = {f"model.{name}": tensor for name, tensor in published_state(model).items()}
    return {"state_dict": state, "epoch": 3, "optimizer_states": [{"state": {}}]}


def sam_state(model, seed=1):
    """SAM around the encoder of a tiny model: four mask tokens, and a neck of its own."""
    rng = torch.Generator().manual_seed(seed)
    dim = model.spec.decoder.dim
    parts = {
        name.removeprefix("model."): tensor
        for name, tensor in to_published(model.state_dict(), model.spec).items()
        if name.startswith("model.")
    }
    hypers = "mask_decoder.output_hypernetworks_mlps."
    state = {name: tensor for name, tensor in parts.items() if not name.startswith(hypers)}
    for index in range(4):
        first = {name: one for name, one in parts.items() if name.startswith(f"{hypers}0.")}
        for name, one in first.items():
            state[name.replace(f"{hypers}0.", f"{hypers}{index}.")] = one
    state["mask_decoder.mask_tokens.weight"] = torch.zeros(4, dim)
    last = "mask_decoder.iou_prediction_head.layers.2."
    state |= {last + "weight": torch.zeros(4, dim), last + "bias": torch.zeros(4)}
    width = model.spec.sam.embed_dim if model.spec.sam else 16
    state["image_encoder.neck.0.weight"] = torch.zeros(dim, width, 1, 1)
    state["image_encoder.neck.2.weight"] = torch.zeros(dim, dim, 3, 3)
    for norm in (1, 3):
        for kind in ("weight", "bias"):
            state[f"image_encoder.neck.{norm}.{kind}"] = torch.zeros(dim)
    return {name: torch.randn(one.shape, generator=rng) for name, one in state.items()}


def vit_state(model):
    state = model.pathology_encoder.encoder.vit.state_dict()
    return {name: torch.full_like(tensor, 0.25) for name, tensor in state.items()}


@pytest.fixture
def put(tmp_path):
    def write(content, name="file.pth"):
        torch.save(content, tmp_path / name)
        return tmp_path / name

    return write


def refusal(load, *args, **options):
    with pytest.raises(WsiError) as caught:
        load(*args, **options)
    assert caught.value.reason == "bad-model"
    assert "\n" not in caught.value.line()
    return caught.value.line()


@pytest.mark.parametrize("changes", [{}, SAM_ONLY, PATHOLOGY_ONLY], ids=["both", "sam", "vit"])
def test_a_trained_sam_path_comes_back(tiny_values, put, changes):
    model = build_model(SamPathSpec.model_validate(tiny_values | changes))
    path = put(lightning(model), "authors.ckpt")
    loaded = import_sam_path(path, model.spec)
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    assert not loaded.training


def test_weights_beside_a_specification(tiny_model, tiny_spec, put, tmp_path):
    tiny_spec.to_yaml(tmp_path / "a.yaml")
    published = put(lightning(tiny_model), "authors.ckpt")
    own = save_checkpoint(tiny_model, tmp_path / "own.safetensors", dtype=torch.float32)
    for path in (published, own):
        loaded = load_model(tmp_path / "a.yaml", weights=path)
        assert loaded.spec == tiny_spec
        for name, tensor in tiny_model.state_dict().items():
            assert torch.equal(loaded.module.state_dict()[name], tensor)
    assert "already" in refusal(load_model, own, weights=published)
    assert "--weights" in refusal(load_model, tmp_path / "a.yaml")
    assert "--weights" in refusal(load_model, published)
    gone = tmp_path / "gone.ckpt"
    assert "no such file" in refusal(load_model, tmp_path / "a.yaml", weights=gone)
    lost = tmp_path / "gone.safetensors"
    assert "no such file" in refusal(load_model, tmp_path / "a.yaml", weights=lost)


def test_random_weights_are_the_same_every_time(tiny_spec, tmp_path):
    """Their digest is that of the specification."""
    tiny_spec.to_yaml(tmp_path / "a.yaml")
    one, other = (load_model(tmp_path / "a.yaml", allow_random_weights=True) for _ in range(2))
    for name, tensor in one.module.state_dict().items():
        assert torch.equal(other.module.state_dict()[name], tensor)


@pytest.mark.parametrize("changes", [{}, SAM_ONLY, PATHOLOGY_ONLY], ids=["both", "sam", "vit"])
def test_what_a_new_sam_path_starts_from(tiny_values, tiny_model, put, changes):
    spec = SamPathSpec.model_validate(tiny_values | changes)
    sam, vit = sam_state(tiny_model), vit_state(tiny_model)
    hipt = None if spec.pathology is None else put({"teacher": vit}, "hipt.pth")
    model = start_sam_path(spec, put(sam), hipt, seed=7)
    ours = model.state_dict()
    decoder = "mask_decoder."
    for part in (
        "iou_token.weight",
        "transformer.norm_final_attn.weight",
        "output_upscaling.1.bias",
    ):
        assert torch.equal(ours[f"decoder.{part}"], sam[decoder + part])
    for index in range(spec.num_channels + 1):
        for layer in range(3):
            hyper = f"output_hypernetworks_mlps.{{}}.layers.{layer}.weight"
            first = sam[decoder + hyper.format(0)]
            assert torch.equal(ours["decoder." + hyper.format(index)], first)
    assert torch.equal(
        ours["prompt_encoder.no_mask_embed.weight"], sam["prompt_encoder.no_mask_embed.weight"]
    )
    assert len(ours["decoder.mask_tokens.weight"]) == spec.num_channels + 1
    if spec.sam:
        assert torch.equal(ours["sam_encoder.pos_embed"], sam["image_encoder.pos_embed"])
    if spec.pathology:
        assert (ours["pathology_encoder.encoder.vit.blocks.0.attn.qkv.weight"] == 0.25).all()
    own_neck = torch.equal(ours["neck.2.weight"], sam["image_encoder.neck.2.weight"])
    assert own_neck == (spec.pathology is None)


def test_the_seed_decides_what_is_random(tiny_spec, tiny_model, put):
    sam, hipt = put(sam_state(tiny_model)), put(vit_state(tiny_model), "vit.pth")

    def tokens(seed):
        before = torch.random.get_rng_state()
        model = start_sam_path(tiny_spec, sam, hipt, seed=seed)
        assert torch.equal(torch.random.get_rng_state(), before)
        return model.state_dict()["decoder.mask_tokens.weight"]

    assert torch.equal(tokens(1), tokens(1))
    assert not torch.equal(tokens(1), tokens(2))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"teacher": {f"backbone.{k}": v for k, v in state.items()}},
        lambda state: {
            "teacher": {f"module.backbone.{k}": v for k, v in state.items()}
            | {
                "head.mlp.0.weight": torch.zeros(1),
                "module.head.last_layer.weight_g": torch.ones(1),
            },
            "student": {"module.backbone.other": torch.zeros(1)},
            "args": argparse.Namespace(lr=0.1, patch_size=16),
            "epoch": 7,
        },
        lambda state: {"model": state},
        lambda state: {"state_dict": {f"module.{k}": v for k, v in state.items()}},
    ],
    ids=["plain", "teacher", "whole", "model", "state_dict"],
)
def test_every_wrapping_of_a_vit(tiny_model, put, wrap):
    wanted = vit_state(tiny_model)
    model = build_model(tiny_model.spec)
    load_vit(model.pathology_encoder.encoder.vit, put(wrap(wanted)))
    for name, tensor in model.pathology_encoder.encoder.vit.state_dict().items():
        assert torch.equal(tensor, wanted[name])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({}, "empty"),
        ([1, 2], "list"),
        (torch.zeros(3), "Tensor"),
        ({"a": 1, "b": 2, "c": 3, "d": 4}, "a, b, c, ..."),
        ({"state_dict": {"model.a": torch.zeros(1)}}, "state_dict"),
        ({"blocks.0.x": 1, "patch_embed.x": 2}, "blocks.0.x"),
    ],
)
def test_other_contents_are_named(put, content, said):
    assert said in refusal(read_published, put(content))


def test_classes_in_a_file_are_named_and_never_made(put):
    content = {"state_dict": {}, "hyper_parameters": datetime.timedelta(1)}
    line = refusal(read_published, put(content))
    assert "datetime.timedelta" in line
    assert "never unpickled" in line


class Trap:
    sprung = False

    def __reduce__(self):
        return (setattr, (Trap, "sprung", True))


def test_code_in_a_file_does_not_run(put):
    refusal(read_published, put({"state_dict": {}, "trap": Trap()}))
    assert not Trap.sprung


def test_files_that_are_damaged(tiny_model, put, tmp_path):
    path = put(lightning(tiny_model))
    whole = path.read_bytes()
    for content in (b"", b"garbage" * 99, whole[: len(whole) // 2], b"PK\x03\x04" + b"\0" * 99):
        path.write_bytes(content)
        assert "damaged" in refusal(read_published, path)
    assert "no such file" in refusal(read_published, tmp_path / "none.pth")
    assert "is not a file" in refusal(read_published, tmp_path)


def test_an_old_file_without_zip(tiny_model, tmp_path):
    path = tmp_path / "old.ckpt"
    torch.save(lightning(tiny_model), path, _use_new_zipfile_serialization=False)
    assert read_published(path).kind is Kind.SAM_PATH


def test_files_in_each_others_place(tiny_model, tiny_spec, put):
    sam = put(sam_state(tiny_model), "sam.pth")
    vit = put(vit_state(tiny_model), "vit.pth")
    authors = put(lightning(tiny_model), "authors.ckpt")
    line = refusal(import_sam_path, sam, tiny_spec)
    assert "SAM's weights, where SAM-Path's are needed" in line
    assert "--sam FILE" in line
    assert "where SAM's are needed" in refusal(start_sam_path, tiny_spec, vit, vit)
    assert "where SAM's are needed" in refusal(load_sam, authors)
    assert "ViT's are needed" in refusal(start_sam_path, tiny_spec, sam, sam)
    assert "--hipt" in refusal(start_sam_path, tiny_spec, sam)
    alone = tiny_spec.model_copy(update=SAM_ONLY)
    assert "no pathology encoder" in refusal(start_sam_path, alone, sam, vit)


def test_another_number_of_classes(tiny_model, tiny_values, put):
    spec = SamPathSpec.model_validate(tiny_values | {"classes": tiny_values["classes"][:2]})
    line = refusal(import_sam_path, put(lightning(tiny_model)), spec)
    assert "3 classes" in line
    assert "names 2" in line
    assert "mask_tokens.weight (5, 16) for (4, 16)" in line


def test_another_size_of_sam(tiny_model, tiny_values, put):
    sam = tiny_values["sam"] | {"embed_dim": 32}
    spec = SamPathSpec.model_validate(tiny_values | {"sam": sam})
    for load, path in (
        (import_sam_path, put(lightning(tiny_model), "a.ckpt")),
        (lambda path, spec: start_sam_path(spec, path), put(sam_state(tiny_model))),
    ):
        line = refusal(load, path, spec)
        assert "pos_embed (1, 8, 8, 16)" in line
        assert "wants 32 channels" in line
    assert "other than vit_b" in refusal(load_sam, put(sam_state(tiny_model)))


@pytest.mark.parametrize(("size", "dim", "depth"), [("vit_b", 768, 12), ("vit_h", 1280, 32)])
def test_the_size_of_sam_is_in_its_shapes(size, dim, depth):
    with torch.device("meta"):
        state = {f"image_encoder.blocks.{i}.norm1.bias": torch.zeros(dim) for i in range(depth)}
        state["image_encoder.pos_embed"] = torch.zeros(1, 64, 64, dim)
        assert sam_size(state) == size
        del state["image_encoder.blocks.3.norm1.bias"]
        assert sam_size(state) == ""


def test_keys_that_differ_are_named(tiny_model, tiny_spec, put):
    content = lightning(tiny_model)
    content["state_dict"].pop("model.fusion_neck.0.weight")
    content["state_dict"]["model.fusion_nick.0.weight"] = torch.zeros(1)
    line = refusal(import_sam_path, put(content), tiny_spec)
    assert "missing: neck.0.weight" in line
    assert "unexpected: fusion_nick.0.weight" in line
    vit = vit_state(tiny_model)
    vit.pop("norm.bias")
    sam = put(sam_state(tiny_model), "sam.pth")
    line = refusal(start_sam_path, tiny_spec, sam, put({"teacher": vit}, "vit.pth"))
    assert "vit.pth" in line
    assert "missing: norm.bias" in line


def test_an_ordered_dictionary_is_a_dictionary(tiny_model, put):
    assert read_published(put(collections.OrderedDict(sam_state(tiny_model)))).kind is Kind.SAM


def test_a_value_that_is_no_tensor(tiny_model, put):
    state = sam_state(tiny_model) | {"mask_decoder.extra": 3}
    assert "'mask_decoder.extra' is not a tensor" in refusal(read_published, put(state))


def test_safe_globals_are_not_left_behind(tiny_model, put):
    before = set(torch.serialization.get_safe_globals())
    read_published(put({"teacher": vit_state(tiny_model), "args": argparse.Namespace(a=1)}))
    assert set(torch.serialization.get_safe_globals()) == before


def run(monkeypatch, *words):
    return ended(monkeypatch, main, "wsi-models", *words)


@pytest.mark.parametrize("half", [False, True])
def test_importing_on_the_command_line(tiny_model, tiny_spec, put, tmp_path, monkeypatch, half):
    tiny_spec.to_yaml(tmp_path / "a.yaml")
    authors, out = put(lightning(tiny_model), "authors.ckpt"), tmp_path / "out.safetensors"
    words = ["import", authors, "--spec", tmp_path / "a.yaml", "--out", out]
    assert not run(monkeypatch, *words, *(["--half"] if half else []))
    dtype = torch.float16 if half else torch.float32
    stored, loaded = load_file(out), load_checkpoint(out)
    for name, tensor in tiny_model.state_dict().items():
        assert stored[name].dtype == dtype
        assert torch.equal(loaded.state_dict()[name], tensor.to(dtype).float())


def test_starting_on_the_command_line(tiny_model, tiny_spec, put, tmp_path, monkeypatch):
    tiny_spec.to_yaml(tmp_path / "a.yaml")
    sam, vit = put(sam_state(tiny_model)), put({"teacher": vit_state(tiny_model)}, "vit.pth")
    words = ["import", "--sam", sam, "--hipt", vit, "--spec", tmp_path / "a.yaml"]
    assert not run(monkeypatch, *words, "--out", tmp_path / "start.safetensors")
    started = load_checkpoint(tmp_path / "start.safetensors").state_dict()
    for name, tensor in start_sam_path(tiny_spec, sam, vit).state_dict().items():
        assert torch.equal(started[name], tensor)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--out", "a.safetensors"], "either"),
        (["f.ckpt", "--sam", "s.pth", "--out", "a.safetensors"], "either"),
        (["f.ckpt", "--hipt", "h.pth", "--out", "a.safetensors"], "--hipt"),
        (["f.ckpt", "--out", "a.pth"], ".safetensors"),
        (["f.ckpt", "--out", "no/a.safetensors"], "folder"),
        (["f.ckpt", "--out", "a.safetensors"], "f.ckpt: bad-model: there is no such file"),
        (["--sam", "sam-vit-b", "--out", "a.safetensors"], "wsi-models fetch sam-vit-b"),
        (["--sam", "sam-vit-q", "--out", "a.safetensors"], "did you mean 'sam-vit-"),
    ],
)
def test_wrong_imports(tiny_spec, tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WSI_SAMPATH_CACHE", str(tmp_path / "cache"))
    tiny_spec.to_yaml("a.yaml")
    assert run(monkeypatch, "import", *words, "--spec", "a.yaml") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert said in line
    assert not list(tmp_path.glob("*.safetensors"))
