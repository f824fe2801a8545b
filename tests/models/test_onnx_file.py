"""Models as ONNX: the same maps as torch's, and what the file says of itself."""

from __future__ import annotations

import json
import os

import pytest
import torch
from command_line import ended

from wsi_sampath.cli.models import main
from wsi_sampath.models.checkpoints import build_model, load_checkpoint, save_checkpoint
from wsi_sampath.models.network import LoadedModel
from wsi_sampath.models.onnx_file import map_names, onnx_metadata, read_metadata
from wsi_sampath.models.parse import parse_spec
from wsi_sampath.models.zoo import load_model

CLOSE = 1e-5
"""Of maps in 0..1, for float32 in another order."""
ASKED = "WSI_SAMPATH_ONNX"
SMALLEST = {
    "name": "smallest",
    "classes": [{"name": "other", "color": "#9aa0a6"}, {"name": "gland", "color": "#c83264"}],
    "mpp": 1.0,
    "tile": 64,
    "sam": {
        "embed_dim": 16,
        "depth": 1,
        "num_heads": 2,
        "global_attn_indexes": [],
        "window_size": 3,
    },
    "decoder": {"dim": 16, "depth": 1, "num_heads": 2, "mlp_dim": 24},
}


@pytest.fixture
def call(monkeypatch, capsys):
    def run(*words):
        code = ended(monkeypatch, main, "wsi-models", "export", *words)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def loaded(spec) -> LoadedModel:
    torch.manual_seed(0)
    return LoadedModel(build_model(spec).eval(), spec, "0" * 64, "a.safetensors", ("a doubt",))


@pytest.mark.skipif(ASKED not in os.environ, reason=f"torch translates for 20 s; set {ASKED}=1")
def test_an_export_makes_the_maps_of_torch(call, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    path, out = tmp_path / "a.safetensors", tmp_path / "a.onnx"
    model = loaded(parse_spec(SMALLEST)).module
    save_checkpoint(model, path)

    code, said, errors = call(path, "--onnx", out)

    assert (code, errors.count("\n")) == (0, 1), errors
    assert said == f"{out}: smallest, uint8 tiles (n, 64, 64, 3) in, maps (n, 2, 16, 16) out\n"
    model = load_checkpoint(path).eval()
    session = runtime.InferenceSession(out)
    for count in (1, 3):
        tiles = torch.randint(0, 256, (count, 64, 64, 3), dtype=torch.uint8)
        (maps,) = session.run(["maps"], {"tiles": tiles.numpy()})
        with torch.inference_mode():
            expected = model.maps(model.preprocess(tiles), 16)
        assert expected.std() > 100 * CLOSE
        torch.testing.assert_close(torch.from_numpy(maps), expected, atol=CLOSE, rtol=0)
    told = session.get_modelmeta().custom_metadata_map
    assert told == onnx_metadata(load_model(path), "uint8") == read_metadata(out)
    assert b"site-packages" not in out.read_bytes()


def test_the_metadata_say_how_to_use_the_file():
    told = onnx_metadata(loaded(parse_spec(SMALLEST)), "float")
    assert json.loads(told["classes"])[1] == {"name": "gland", "color": "#c83264"}
    assert json.loads(told["maps"]) == ["other", "gland"]
    assert json.loads(told["warnings"]) == ["a doubt"]
    words = ("architecture", "activation", "mpp", "tile", "stride", "weights_sha256")
    assert [told[word] for word in words] == ["sam_path", "softmax", "1.0", "64", "4", "0" * 64]
    assert told["input"] == "float n,channel,height,width; RGB 0..255, not normalised"


def test_the_maps_of_a_patho_sam_have_names():
    values = SMALLEST | {"architecture": "patho_sam", "class_decoder": True}
    spec = parse_spec({key: value for key, value in values.items() if key != "decoder"})
    maps = ("foreground", "centre distance", "boundary distance", "no nucleus", "other", "gland")
    assert map_names(spec) == maps
    one = parse_spec(spec.model_dump() | {"class_decoder": False, "classes": spec.classes[:1]})
    assert map_names(one) == maps[:3]


def test_a_file_that_is_not_ours_stays(call, tmp_path):
    pytest.importorskip("onnxscript")
    from onnx import ModelProto

    for content in (b"", b"a letter", ModelProto(producer_name="another").SerializeToString()):
        (tmp_path / "a.onnx").write_bytes(content)
        code, _, errors = call("gland-mini", "--onnx", tmp_path / "a.onnx")
        assert (code, errors.count("\n")) == (2, 1)
        assert "would replace a file that is not ours" in errors
        assert (tmp_path / "a.onnx").read_bytes() == content


@pytest.mark.parametrize(
    ("model", "target", "said"),
    [
        ("gland-mini", "a.pt", "--onnx must end in .onnx"),
        ("gland-mini", "none/a.onnx", "its folder does not exist"),
        ("gland-minj", "a.onnx", "did you mean 'gland-mini'"),
        ("configs/models/gland-mini.yaml", "a.onnx", "a specification without weights"),
        ("configs/models/sam-vit-b.yaml", "a.onnx", "it answers prompts only"),
    ],
)
def test_refusals_are_one_line(call, tmp_path, pytestconfig, monkeypatch, model, target, said):
    monkeypatch.chdir(pytestconfig.rootpath)
    code, _, errors = call(model, "--onnx", tmp_path / target)
    assert (code, errors.count("\n")) == (2, 1)
    assert said in errors
    assert list(tmp_path.iterdir()) == []


def test_what_is_missing_is_named(call, tmp_path, monkeypatch):
    monkeypatch.setattr("wsi_sampath.cli.exports.find_spec", lambda name: None)
    code, _, errors = call("gland-mini", "--onnx", tmp_path / "a.onnx")
    assert (code, errors) == (
        2,
        "error: bad-input: --onnx needs onnx and onnxscript: pip install -e '.[onnx]' in the "
        "clone\n",
    )


def test_a_network_that_torch_cannot_write_is_one_line(call, tmp_path, monkeypatch):
    pytest.importorskip("onnxscript")

    def refused(*_args, **_options):
        raise torch.onnx.OnnxExporterError("no such operator\nand much more")

    monkeypatch.setattr(torch.onnx, "export", refused)
    code, _, errors = call("nuclei-mini", "--onnx", tmp_path / "a.onnx")
    assert code == 2
    assert errors.endswith("torch cannot write its network as ONNX: no such operator\n")
    assert list(tmp_path.iterdir()) == []
