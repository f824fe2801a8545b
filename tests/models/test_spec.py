from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from wsi_sampath.errors import WsiError
from wsi_sampath.models.parse import parse_spec, spec_from_json, spec_from_yaml
from wsi_sampath.models.parts.specs import SamSpec, nearest_multiple
from wsi_sampath.models.patho_sam.spec import PathoSamSpec
from wsi_sampath.models.sam_path.spec import SamPathSpec

CONFIGS = sorted((Path(__file__).parents[2] / "configs" / "models").glob("*.yaml"))


def refusal(values):
    with pytest.raises(WsiError) as caught:
        parse_spec(values, "a.yaml")
    assert caught.value.reason == "bad-model"
    return caught.value.line()


@pytest.mark.parametrize(
    ("path", "wrong", "near"),
    [
        ((), "clases", "classes"),
        ((), "mmp", "mpp"),
        (("sam",), "embed_dims", "embed_dim"),
        (("decoder",), "mlpdim", "mlp_dim"),
        (("pathology",), "strides", "stride"),
        (("pathology", "encoder"), "patchs", "patch"),
        (("classes", 0), "colour", "color"),
    ],
)
def test_an_unknown_key_names_the_nearest_known_one(tiny_values, path, wrong, near):
    import copy

    values = copy.deepcopy(tiny_values)
    part = values
    for step in path:
        part = part[step]
    part[wrong] = 1
    line = refusal(values)
    assert wrong in line
    assert f"did you mean '{near}'" in line


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sam", "vit_x"),
        ("pathology", "resnet"),
        ("mpp", 0),
        ("tile", 100),
        ("classes", []),
        ("classes", [{"name": "a", "color": "red"}]),
        ("classes", [{"name": "a", "color": "#000000"}] * 2),
        ("architecture", "unet"),
        ("output_stride", 8),
    ],
)
def test_bad_values_are_refused_by_key(tiny_values, key, value):
    assert key.split("_")[0] in refusal(tiny_values | {key: value})


def test_a_model_needs_an_encoder(tiny_values):
    assert "encoder" in refusal(tiny_values | {"sam": None, "pathology": None})


def test_global_blocks_must_exist(tiny_values):
    sam = tiny_values["sam"] | {"global_attn_indexes": [2]}
    assert "global_attn_indexes" in refusal(tiny_values | {"sam": sam})


def test_json_and_yaml_keep_everything(tiny_spec, tmp_path):
    assert spec_from_json(tiny_spec.to_json()) == tiny_spec
    tiny_spec.to_yaml(tmp_path / "a.yaml")
    assert spec_from_yaml(tmp_path / "a.yaml") == tiny_spec


@pytest.mark.parametrize("text", [b"\xff\xfe\x00", b"a: [", b"- 1\n- 2", b""])
def test_a_file_that_is_no_specification(tmp_path, text):
    path = tmp_path / "a.yaml"
    path.write_bytes(text)
    with pytest.raises(WsiError, match="bad-model"):
        spec_from_yaml(path)


def test_a_missing_file(tmp_path):
    with pytest.raises(WsiError, match="no-such"):
        spec_from_yaml(tmp_path / "no-such.yaml")


def test_header_that_is_no_json():
    with pytest.raises(WsiError, match="JSON"):
        spec_from_json("{")


def test_specifications_do_not_change(tiny_spec):
    with pytest.raises(ValidationError):
        tiny_spec.mpp = 2.0


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configurations(path):
    spec = spec_from_yaml(path)
    assert spec.name == path.stem
    assert spec.grid == (24 if path.stem == "nuclei-mini" else 64)
    if isinstance(spec, SamPathSpec):
        assert spec.num_channels == len(spec.classes) + 1
    elif isinstance(spec, PathoSamSpec):
        assert spec.class_decoder == (len(spec.classes) > 1)
    else:
        assert not spec.makes_maps
        assert spec.views == ((1.0, 2.0) if path.stem.startswith("wsi-sam") else (1.0,))


@pytest.mark.parametrize(
    ("size", "dim", "depth", "heads"),
    [("vit_b", 768, 12, 12), ("vit_l", 1024, 24, 16), ("vit_h", 1280, 32, 16)],
)
def test_sam_sizes(size, dim, depth, heads):
    spec = SamSpec.model_validate(size)
    assert (spec.embed_dim, spec.depth, spec.num_heads) == (dim, depth, heads)
    assert len(spec.global_attn_indexes) == 4
    assert spec.global_attn_indexes[-1] == depth - 1


@given(st.integers(1, 5000), st.integers(1, 64))
def test_nearest_multiple(value, unit):
    near = nearest_multiple(value, unit)
    assert near > 0
    assert near % unit == 0
    assert abs(near - value) <= unit / 2 or near == unit
