"""Model files that are broken, absurd or meant to hurt: one line each, and nothing is allocated."""

import copy
import json
import os
import time
import zipfile

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from wsi_sampath.errors import WsiError
from wsi_sampath.models.checkpoints import load_checkpoint, save_checkpoint
from wsi_sampath.models.described import HEADER_KEY
from wsi_sampath.models.parse import parse_spec, spec_from_yaml
from wsi_sampath.models.published import files as published_files
from wsi_sampath.models.published.files import read_published
from wsi_sampath.models.sam_path.names import to_published
from wsi_sampath.models.zoo import describe_model, load_model

BIG = 10**9
QUICK_S = 20


def refusal(load, *args, **options):
    began = time.monotonic()
    with pytest.raises(WsiError) as caught:
        load(*args, **options)
    assert time.monotonic() - began < QUICK_S
    assert caught.value.reason == "bad-model"
    assert "\n" not in caught.value.line()
    assert len(caught.value.line()) < 1000
    return caught.value.line()


def changed(values, where, new):
    out = copy.deepcopy(values)
    part = out
    *steps, last = where.split(".")
    for step in steps:
        part = part[step]
    part[last] = new
    return out


@pytest.fixture
def yaml_file(tmp_path):
    def write(values):
        path = tmp_path / "a.yaml"
        content = values if isinstance(values, bytes) else json.dumps(values).encode()
        path.write_bytes(content)
        return path

    return write


@pytest.fixture
def saved(tiny_model, tmp_path):
    return save_checkpoint(tiny_model, tmp_path / "tiny.safetensors")


def parts_of(path):
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:end]), content[end:]


def put(path, header, body, length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + body)
    return path


SIZES = [
    "tile",
    "sam.embed_dim",
    "sam.depth",
    "sam.num_heads",
    "sam.window_size",
    "sam.patch",
    "sam.mlp_ratio",
    "pathology.encoder.embed_dim",
    "pathology.encoder.depth",
    "pathology.encoder.position_grid",
    "decoder.dim",
    "decoder.depth",
    "decoder.mlp_dim",
]


@pytest.mark.parametrize("where", SIZES)
def test_absurd_sizes_are_named(tiny_values, yaml_file, where):
    path = yaml_file(changed(tiny_values, where, BIG))
    assert f"bad-model: {where}: " in refusal(load_model, path, allow_random_weights=True)
    assert where in refusal(describe_model, path)


@pytest.mark.parametrize("value", ["1e-300", ".inf", ".nan", "1e300", "yes", "-1", "0", "40", "''"])
def test_a_pixel_size_that_cannot_be(tiny_values, yaml_file, value):
    text = json.dumps(tiny_values).replace('"mpp": 1.0', f'"mpp": {value}')
    assert "mpp: " in refusal(spec_from_yaml, yaml_file(text.encode()))


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("mean", [123.7, 116.3, 103.5]),
        ("std", [58.4, 57.1, 57.4]),
        ("std", [0, 1, 1]),
        ("name", "\x1b[31mred"),
        ("name", "x" * 300),
        ("description", "x" * 15_000),
        ("decoder.num_heads", 3),
        ("pathology.encoder.num_heads", 5),
        ("pathology", {"encoder": "timm:resnet18", "options": {"pretrained": True}}),
        ("pathology", {"encoder": "timm:resnet18", "options": {"checkpoint_path": "a.pth"}}),
        ("pathology", {"encoder": "timm:vit_tiny_patch16_224", "options": {"depth": 10**6}}),
    ],
)
def test_values_that_no_model_has(tiny_values, yaml_file, where, value):
    line = refusal(spec_from_yaml, yaml_file(changed(tiny_values, where, value)))
    assert where.split(".")[0] in line


def test_sizes_that_are_large_together_are_never_allocated(tiny_values, yaml_file):
    sam = {"embed_dim": 16_384, "depth": 200, "num_heads": 16, "global_attn_indexes": []}
    path = yaml_file(tiny_values | {"sam": sam})
    assert "weights or" in refusal(load_model, path, allow_random_weights=True)
    assert "weights or" in refusal(describe_model, path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[" * 20_000 + b"]" * 20_000, "nested"),
        (b"name: " + b"{a: " * 20_000, "nested"),
        ("\n".join(" " * i + "a:" for i in range(300)).encode(), "nested"),
        (b"a: &a [*a]", "*a"),
        (b"name: x\nmpp: 0.5\nmpp: 1.0", "'mpp' twice (line 3)"),
        (b"!!python/object/apply:os.system ['touch ran']", "YAML"),
        (b"name: 2020-99-99", "cannot be read"),
        (b"tile: " + b"9" * 5000, "cannot be read"),
        (b"name: !!bool x", "cannot be read"),
        (b"name: " + b"x" * 30_000, "characters"),
        (b"- 1", "no model"),
        (b"", "no model"),
        (b"\x00\x01\xff\xfe", "UTF-8"),
        (b"x" * 300_000, "KiB"),
    ],
)
def test_yaml_that_nobody_writes(yaml_file, tmp_path, monkeypatch, content, said):
    monkeypatch.chdir(tmp_path)
    assert said in refusal(spec_from_yaml, yaml_file(content))
    assert not (tmp_path / "ran").exists()


def test_aliases_that_unfold_to_billions(yaml_file):
    rows = ["a: &a [x,x,x,x,x,x,x,x,x]"]
    for before, name in zip("abcdefghij", "bcdefghijk", strict=True):
        rows.append(f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]")
    assert "unfolds" in refusal(spec_from_yaml, yaml_file("\n".join(rows).encode()))


def test_aliases_of_an_ordinary_file_are_welcome(tiny_values, yaml_file):
    values = {**tiny_values, "mean": "*s", "std": "*s"}
    lines = [f"{key}: {json.dumps(value)}" for key, value in values.items()]
    text = "\n".join(lines).replace('mean: "*s"', "mean: &s [0.5, 0.5, 0.5]")
    spec = spec_from_yaml(yaml_file(text.replace('"*s"', "*s").encode()))
    assert spec.mean == spec.std == (0.5, 0.5, 0.5)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
@pytest.mark.parametrize("suffix", [".yaml", ".safetensors"])
def test_pipes_and_folders_are_not_models(tmp_path, suffix):
    pipe, folder = tmp_path / f"pipe{suffix}", tmp_path / f"folder{suffix}"
    os.mkfifo(pipe)
    folder.mkdir()
    for path in (pipe, folder):
        assert "is not a file" in refusal(load_model, path, allow_random_weights=True)


@pytest.mark.parametrize("where", SIZES)
def test_a_header_that_claims_other_sizes_than_the_file_holds(saved, where):
    header, body = parts_of(saved)
    values = json.loads(header["__metadata__"][HEADER_KEY])
    header["__metadata__"][HEADER_KEY] = json.dumps(changed(values, where, BIG))
    assert where in refusal(load_checkpoint, put(saved, header, body))


def test_a_plausible_size_that_the_file_does_not_hold_is_not_allocated(saved):
    header, body = parts_of(saved)
    values = json.loads(header["__metadata__"][HEADER_KEY])
    values["sam"] |= {"embed_dim": 8192, "depth": 2}
    header["__metadata__"][HEADER_KEY] = json.dumps(values)
    put(saved, header, body)
    assert "of another shape" in refusal(load_checkpoint, saved)
    assert "of another shape" in refusal(describe_model, saved)


def test_headers_that_lie(saved):
    header, body = parts_of(saved)
    first, second = [name for name in header if name != "__metadata__"][:2]
    lies = {
        "beyond the file": {"data_offsets": [10**12, 10**12 + 8]},
        "overlapping": {"data_offsets": header[second]["data_offsets"]},
        "type": {"dtype": "Q7"},
        "shape": {"shape": [10**9, 10**9]},
    }
    for lie in lies.values():
        assert "damaged" in refusal(
            load_checkpoint, put(saved, {**header, first: header[first] | lie}, body)
        )
    assert "damaged" in refusal(load_checkpoint, put(saved, header, body[:-100]))
    assert "absurdly" in refusal(load_checkpoint, put(saved, header, body, length=2**60))
    deep = b'{"a":' * 20_000 + b"1" + b"}" * 20_000
    assert "damaged" in refusal(load_checkpoint, put(saved, deep, body))
    twice = json.dumps(header).replace("{", f'{{"{first}": {json.dumps(header[first])}, ', 1)
    assert "twice" in refusal(load_checkpoint, put(saved, twice.encode(), body))
    nested = {**header, "__metadata__": {HEADER_KEY: "[" * 20_000}}
    assert "JSON" in refusal(load_checkpoint, put(saved, nested, body))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"\x01", "damaged"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"<!DOCTYPE html>", "web page"),
        (b"\x80\x04\x95", "pickle"),
        (b"PK\x03\x04", "torch.save"),
    ],
)
def test_other_files_under_the_name_of_a_model(tmp_path, content, said):
    path = tmp_path / "a.safetensors"
    path.write_bytes(content + bytes(100) if content else b"")
    assert said in refusal(load_model, path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda one: one.fill_(float("nan")), "not finite"),
        (lambda one: one.fill_(float("inf")), "not finite"),
        (lambda one: one.to(torch.int8), "neck.1.bias int8"),
        (lambda one: one.to(torch.complex64), "neck.1.bias complex64"),
    ],
)
def test_weights_that_are_no_numbers(saved, tiny_model, change, said):
    tensors = load_file(saved)
    tensors["neck.1.bias"] = change(tensors["neck.1.bias"])
    save_file(tensors, saved, metadata={HEADER_KEY: tiny_model.spec.to_json()})
    assert said in refusal(load_checkpoint, saved)
    assert said in refusal(describe_model, saved)


def test_a_diverged_model_is_not_saved_and_large_weights_are_kept(tiny_model, tmp_path):
    model = copy.deepcopy(tiny_model)
    with torch.no_grad():
        model.neck[1].bias[0] = 1e6
    path = save_checkpoint(model, tmp_path / "a.safetensors")
    assert load_checkpoint(path).neck[1].bias[0] == 1e6
    with torch.no_grad():
        model.neck[1].bias[0] = float("nan")
    assert "diverged" in refusal(save_checkpoint, model, tmp_path / "b.safetensors")
    assert not (tmp_path / "b.safetensors").exists()


def published(model, change):
    state = {
        f"model.{name}": one for name, one in to_published(model.state_dict(), model.spec).items()
    }
    state["model.fusion_neck.1.bias"] = change(state["model.fusion_neck.1.bias"])
    return {"state_dict": state}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda one: torch.zeros(1).expand(10**12), "of another shape"),
        (lambda one: torch.full_like(one, float("nan")), "not finite"),
        (lambda one: one.to_sparse(), "plain tensor"),
        (lambda one: one.to("meta"), "plain tensor"),
        (lambda one: one.to(torch.int16), "int16"),
    ],
)
def test_published_files_with_odd_tensors(tiny_model, tmp_path, change, said):
    tiny_model.spec.to_yaml(tmp_path / "a.yaml")
    torch.save(published(tiny_model, change), tmp_path / "a.ckpt")
    assert said in refusal(load_model, tmp_path / "a.yaml", weights=tmp_path / "a.ckpt")


def test_archives_that_unpack_to_more_than_they_are(tmp_path):
    path = tmp_path / "a.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(50_000_000))
    assert path.stat().st_size < 100_000
    assert "packed" in refusal(read_published, path)


def test_tensors_that_claim_more_than_the_archive_holds(tiny_model, tmp_path):
    torch.save(published(tiny_model, lambda one: one), tmp_path / "a.ckpt")
    with (
        zipfile.ZipFile(tmp_path / "a.ckpt") as whole,
        zipfile.ZipFile(tmp_path / "b.ckpt", "w") as cut,
    ):
        for one in whole.infolist():
            content = whole.read(one)
            cut.writestr(one.filename, content[:4] if one.filename.endswith("/data/0") else content)
    assert "claim more" in refusal(read_published, tmp_path / "b.ckpt")
    assert read_published(tmp_path / "a.ckpt").kind is published_files.Kind.SAM_PATH


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.floats(),
    st.text(max_size=20),
    st.lists(st.integers(-5, 10**9), max_size=4),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=2),
)


@settings(max_examples=150, deadline=None)
@example(where="sam", value="{")
@given(
    where=st.sampled_from([*SIZES, "mpp", "mean", "std", "classes", "sam", "name"]), value=LEAVES
)
def test_any_value_makes_a_specification_or_one_line(tiny_spec, where, value):
    values = tiny_spec.model_dump(mode="json")
    line = None
    try:
        spec = parse_spec(changed(values, where, value), "a.yaml")
    except WsiError as error:
        line = error.line()
    assert 32 <= spec.tile <= 8192 if line is None else "\n" not in line


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_damage_to_a_header_is_one_line_or_a_model(damage_case, data):
    path, content = damage_case
    end = 8 + int.from_bytes(content[:8], "little")
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, end - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(damaged)
    line = ""
    try:
        load_checkpoint(path)
    except WsiError as error:
        line = error.line()
    assert "\n" not in line


@pytest.fixture(scope="module")
def damage_case(tiny_model, tmp_path_factory):
    path = save_checkpoint(tiny_model, tmp_path_factory.mktemp("damage") / "a.safetensors")
    return path, path.read_bytes()


SAID = [
    ("classes.0.color", "red", "#1f77b4"),
    ("classes.0.color", None, "in quotes"),
    ("classes", ["other", "gland"], "block of 'key: value' lines"),
    ("classes", {"other": "#aaaaaa"}, "must be a list"),
    ("classes", [{"name": f"c{i}", "color": "#aaaaaa"} for i in range(300)], "more than 254"),
    ("classes.0.name", False, "in quotes"),
    ("mean", "0.5,0.5,0.5", "must be a list"),
    ("mpp", "0,5", "decimal point"),
    ("mpp", "0.5 um", "without a unit"),
    ("tile", 64.5, "whole number"),
    ("architecture", "unet", "must be 'sam_path', 'patho_sam', 'sam' or"),
    ("name", "a\u2028b", "control characters"),
    ("name", "\u202eevil", "control characters"),
    ("pathology", "timm:" + "a" * 5000, "more than 200 characters"),
    ("pathology", "timm:../../etc/passwd", "timm knows no model"),
    ("pathology", "timm:hf-hub:somebody/UNI", "timm knows no model"),
    ("pathology", "https://evil.example/x.pth", "is neither hipt_vits16 nor"),
]


@pytest.mark.parametrize(("where", "value", "said"), SAID)
def test_wrong_values_are_explained_to_who_writes_yaml(tiny_values, yaml_file, where, value, said):
    values = copy.deepcopy(tiny_values)
    part = values
    *steps, last = where.split(".")
    for step in steps:
        part = part[int(step) if step.isdigit() else step]
    part[last] = value
    assert said in refusal(load_model, yaml_file(values), allow_random_weights=True)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("hipt-vit256", "wsi-models import"),
        ("nonsense", "known: gland-mini"),
        ("x" * 300, "known: gland-mini"),
        (".", "neither a .safetensors file nor"),
        ("x" * 300 + ".safetensors", "cannot be read"),
        ("a\0.safetensors", "cannot be read"),
        ("https://evil.example/m.safetensors", "there is no such file"),
    ],
)
def test_names_that_are_not_models(tmp_path, monkeypatch, name, said):
    monkeypatch.chdir(tmp_path)
    assert said in refusal(load_model, name)
    assert said in refusal(describe_model, name)


def test_links_that_lead_nowhere_are_not_models(tiny_model, tmp_path):
    tiny_model.spec.to_yaml(tmp_path / "a.yaml")
    for name in ("loop.safetensors", "loop.yaml", "loop.ckpt"):
        (tmp_path / name).symlink_to(name)
    for name in ("loop.safetensors", "loop.yaml"):
        assert "cannot be read" in refusal(load_model, tmp_path / name, allow_random_weights=True)
    refusal(load_model, tmp_path / "a.yaml", weights=tmp_path / "loop.ckpt")
