"""Models as ONNX: the same maps as torch's, and what the file says of itself."""

from __future__ import annotations

import errno
import json
import os
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from command_line import ended
from PIL import Image, ImageColor
from stub_network import make_stub
from tiny_spec import SPEC

from wsi_sampath.cli.models import main
from wsi_sampath.extras import install_hint
from wsi_sampath.models import checkpoints
from wsi_sampath.models.checkpoints import build_model, load_checkpoint, save_checkpoint
from wsi_sampath.models.network import LoadedModel
from wsi_sampath.models.onnx_file import (
    TileMaps,
    input_shape,
    map_names,
    onnx_metadata,
    onnx_target,
    read_metadata,
    write_onnx,
)
from wsi_sampath.models.parse import parse_spec
from wsi_sampath.models.zoo import load_model
from wsi_sampath.synthetic.painted import paint_slide

CLOSE = 1e-5
"""Of maps in 0..1, for float32 in another order."""
ASKED = "WSI_SAMPATH_ONNX"
PAGE = Path(__file__).parents[2] / "docs" / "export.md"
(EXAMPLE,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)


class Patches(torch.nn.Module):
    """Classes by one convolution: what torch translates in no time."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv2d(3, 3, 4, 4)

    def preprocess(self, tiles):
        return tiles.permute(0, 3, 1, 2).float() / 51

    def maps(self, images, side):
        return self.conv(images).softmax(1)


@pytest.fixture
def call(monkeypatch, capsys):
    def run(*words):
        code = ended(monkeypatch, main, "wsi-models", "export", *words)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def loaded(spec) -> LoadedModel:
    return LoadedModel(Patches(), spec, "0" * 64, "a.safetensors", ("a doubt",))


def tiles_of(count: int, side: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, side, side, 3), dtype=torch.uint8, generator=generator)


def test_a_file_makes_the_maps_of_torch(tmp_path, monkeypatch, capsys):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    monkeypatch.chdir(tmp_path)
    model, path = make_stub(tile=64, network=Patches()), Path("gland-mini.onnx")

    write_onnx(model, onnx_target(path))

    session = runtime.InferenceSession(path)
    for count in (1, 3):
        tiles = tiles_of(count, 64)
        (maps,) = session.run(["maps"], {"tiles": tiles.numpy()})
        with torch.inference_mode():
            expected = model.module.maps(model.module.preprocess(tiles), 16)
        assert expected.std() > 100 * CLOSE
        torch.testing.assert_close(torch.from_numpy(maps), expected, atol=CLOSE, rtol=0)
    told = session.get_modelmeta().custom_metadata_map
    assert told == onnx_metadata(model, "uint8") == read_metadata(path)
    assert onnx_target(path) == path
    assert b"site-packages" not in path.read_bytes()

    # The example of the page, with this file.
    paint_slide("slide.svs", width=256, height=256)
    exec(compile(EXAMPLE, PAGE.name, "exec"), {})  # noqa: S102
    assert capsys.readouterr().out == "['class 1', 'class 2', 'class 3'] (1, 3, 16, 16)\n"
    with Image.open("classes.png") as painted:
        colours = {colour for _, colour in painted.convert("RGB").getcolors()}
    assert colours <= {ImageColor.getrgb(one.color) for one in model.spec.classes}


@pytest.mark.parametrize("kind", ["uint8", "float"])
def test_both_inputs_are_the_same_tiles(kind):
    model, tiles = make_stub(tile=64, network=Patches()), tiles_of(2, 64)
    given = tiles if kind == "uint8" else tiles.permute(0, 3, 1, 2).float()
    assert tuple(given.shape) == input_shape(model.spec, kind, 2)
    expected = model.module.maps(model.module.preprocess(tiles), 16)
    torch.testing.assert_close(TileMaps(model, kind)(given), expected, atol=0, rtol=0)


@pytest.mark.skipif(ASKED not in os.environ, reason=f"torch translates for 20 s; set {ASKED}=1")
@pytest.mark.parametrize("kind", ["uint8", "float"])
def test_an_exported_sam_path_makes_the_maps_of_torch(call, tmp_path, kind):
    runtime = pytest.importorskip("onnxruntime")
    path, out = tmp_path / "a.safetensors", tmp_path / "a.onnx"
    save_checkpoint(build_model(parse_spec(SPEC)), path)

    code, said, errors = call(path, "--onnx", out, "--input", kind)

    assert (code, errors.count("\n")) == (0, 1), errors
    shape = "(n, 128, 128, 3)" if kind == "uint8" else "(n, 3, 128, 128)"
    assert said == f"{out}: tiny, {kind} tiles {shape} in, maps (n, 2, 32, 32) out\n"
    model = load_checkpoint(path).eval()
    session = runtime.InferenceSession(out)
    for count in (1, 3):
        tiles = tiles_of(count, 128)
        given = tiles if kind == "uint8" else tiles.permute(0, 3, 1, 2).float()
        (maps,) = session.run(["maps"], {"tiles": given.numpy()})
        with torch.inference_mode():
            expected = model.maps(model.preprocess(tiles), 32)
        assert expected.std() > 100 * CLOSE
        torch.testing.assert_close(torch.from_numpy(maps), expected, atol=CLOSE, rtol=0)
    assert read_metadata(out) == onnx_metadata(load_model(path), kind)


def test_the_metadata_say_how_to_use_the_file():
    told = onnx_metadata(loaded(parse_spec(SPEC)), "float")
    assert json.loads(told["classes"])[1] == {"name": "b", "color": "#c83264"}
    assert json.loads(told["maps"]) == ["a", "b"]
    assert json.loads(told["warnings"]) == ["a doubt"]
    words = ("architecture", "activation", "mpp", "tile", "stride", "weights_sha256")
    assert [told[word] for word in words] == ["sam_path", "softmax", "1.0", "128", "4", "0" * 64]
    assert told["input"] == "float n,channel,height,width; RGB 0..255, not normalised"


def test_the_maps_of_a_patho_sam_have_names():
    values = SPEC | {"architecture": "patho_sam", "class_decoder": True}
    others = ("decoder", "pathology")
    spec = parse_spec({key: value for key, value in values.items() if key not in others})
    maps = ("foreground", "centre distance", "boundary distance", "no nucleus", "a", "b")
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


def test_an_earlier_export_is_read_once(call, tmp_path, monkeypatch):
    pytest.importorskip("onnxscript")
    import onnx

    out, read = tmp_path / "a.onnx", []
    ours = onnx.ModelProto()
    ours.metadata_props.add(key="wsi_sampath", value="1")
    out.write_bytes(ours.SerializeToString())
    load = onnx.load
    monkeypatch.setattr(onnx, "load", lambda *a, **k: read.append(a) or load(*a, **k))
    monkeypatch.setattr("wsi_sampath.models.onnx_file._translated", lambda *_: onnx.ModelProto())
    code, said, errors = call("gland-mini", "--onnx", out)
    assert (code, said.startswith(f"{out}: gland-mini"), len(read)) == (0, True, 1), errors
    assert read_metadata(out)["model"] == "gland-mini"


def test_an_earlier_export_that_cannot_be_read_is_not_called_foreign(call, tmp_path, monkeypatch):
    pytest.importorskip("onnxscript")
    (tmp_path / "a.onnx").write_bytes(b"ours, perhaps")

    def fail(*_args, **_options):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("onnx.load", fail)
    code, _, errors = call("gland-mini", "--onnx", tmp_path / "a.onnx")
    said = "bad-input: the file that is there cannot be read: Permission denied; move it away, or"
    assert (code, said in errors, errors.count("\n")) == (2, True, 1)
    assert (tmp_path / "a.onnx").read_bytes() == b"ours, perhaps"


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
        f"error: bad-input: --onnx needs onnx and onnxscript: {install_hint('onnx')}\n",
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


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (
            MemoryError(),
            1,
            "{out}: out-of-memory: the machine ran out of memory; close other programs, or take a "
            "machine with more",
        ),
        (KeyboardInterrupt(), 1, "{out}: interrupted: stopped by the user; run the command again"),
        (
            OSError(errno.EIO, "Input/output error"),
            2,
            "{out}: bad-input: the output cannot be written: Input/output error",
        ),
    ],
)
def test_what_ends_an_export_is_one_line_with_advice_for_it(
    call, tmp_path, monkeypatch, error, code, said
):
    pytest.importorskip("onnxscript")

    def fail(*_args, **_options):
        raise error

    monkeypatch.setattr("wsi_sampath.models.onnx_file.write_onnx", fail)
    out = tmp_path / "a.onnx"
    ended_with, _, errors = call("gland-mini", "--onnx", out)
    assert (ended_with, errors.splitlines()[-1]) == (code, f"error: {said.format(out=out)}")


def test_weights_that_cannot_be_read_are_no_fault_of_the_output(call, tmp_path, monkeypatch):
    pytest.importorskip("onnxscript")
    path = tmp_path / "a.safetensors"
    save_checkpoint(build_model(parse_spec(SPEC)), path)

    class Digest:
        def update(self, _block):
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(checkpoints, "hashlib", SimpleNamespace(sha256=Digest))
    code, _, errors = call(path, "--onnx", tmp_path / "a.onnx")
    last = errors.splitlines()[-1]
    assert (code, last) == (2, f"error: {path}: bad-model: cannot be read: Input/output error")
