import hashlib

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from wsi_sampath.errors import WsiError
from wsi_sampath.models.checkpoints import file_sha256, load_checkpoint, save_checkpoint
from wsi_sampath.models.described import HEADER_KEY, PROVENANCE_KEY
from wsi_sampath.models.shipped import bundled_models
from wsi_sampath.models.zoo import load_model


@pytest.fixture
def saved(tiny_model, tmp_path):
    return save_checkpoint(tiny_model, tmp_path / "tiny.safetensors")


def rewrite(path, model, change):
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={HEADER_KEY: model.spec.to_json()})


def refusal(load, *args, **options):
    with pytest.raises(WsiError) as caught:
        load(*args, **options)
    assert caught.value.reason == "bad-model"
    assert "\n" not in caught.value.line()
    return caught.value.line()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_a_saved_model_comes_back(tiny_model, tmp_path, dtype):
    path = save_checkpoint(tiny_model, tmp_path / "a.safetensors", dtype=dtype)
    loaded = load_checkpoint(path)
    assert loaded.spec == tiny_model.spec
    assert not loaded.training
    for name, weight in tiny_model.state_dict().items():
        back = loaded.state_dict()[name]
        assert back.dtype == torch.float32
        assert torch.equal(back, weight.to(dtype).float())
    assert [one.name for one in tmp_path.iterdir()] == ["a.safetensors"]


def test_equal_models_make_equal_files(tiny_model, tmp_path):
    paths = [tmp_path / f"{number}.safetensors" for number in range(8)]
    for path in paths:
        save_checkpoint(tiny_model, path, provenance='{"what": "µ"}')
    assert len({path.read_bytes() for path in paths}) == 1
    with safe_open(paths[0], framework="pt") as file:
        assert file.metadata()[PROVENANCE_KEY] == '{"what": "µ"}'


def test_a_saved_file_has_the_usual_permissions(saved):
    other = saved.with_name("other")
    other.touch()
    assert saved.stat().st_mode == other.stat().st_mode


def test_keys_that_differ_are_named(saved, tiny_model):
    rewrite(saved, tiny_model, lambda state: state.pop("neck.0.weight"))
    assert "missing: neck.0.weight" in refusal(load_checkpoint, saved)
    rewrite(saved, tiny_model, lambda state: state.update(extra=torch.zeros(1)))
    assert "unexpected: extra" in refusal(load_checkpoint, saved)


def test_many_keys_are_counted(saved, tiny_model):
    rewrite(saved, tiny_model, lambda state: [state.pop(name) for name in list(state)[:10]])
    assert "and 7 more" in refusal(load_checkpoint, saved)


def test_another_shape_is_named(saved, tiny_model):
    rewrite(saved, tiny_model, lambda state: state.update({"neck.1.bias": torch.zeros(3)}))
    assert "neck.1.bias (3,) for (16,)" in refusal(load_checkpoint, saved)


def test_files_that_are_no_checkpoint(saved, tmp_path):
    assert "no such file" in refusal(load_checkpoint, tmp_path / "none.safetensors")
    saved.write_bytes(saved.read_bytes()[:2000])
    assert "damaged" in refusal(load_checkpoint, saved)
    saved.write_bytes(b"")
    assert "is empty" in refusal(load_checkpoint, saved)
    save_file({"a": torch.zeros(1)}, saved)
    assert "no model description" in refusal(load_checkpoint, saved)
    save_file({"a": torch.zeros(1)}, saved, metadata={HEADER_KEY: "{}"})
    assert "name" in refusal(load_checkpoint, saved)


def test_loading_by_path(saved):
    loaded = load_model(saved)
    assert loaded.source == str(saved)
    assert loaded.weights_sha256 == hashlib.sha256(saved.read_bytes()).hexdigest()
    assert loaded.weights_sha256 == file_sha256(saved)
    assert loaded.spec == loaded.module.spec


def test_a_specification_needs_leave(tiny_spec, tmp_path):
    path = tmp_path / "a.yaml"
    tiny_spec.to_yaml(path)
    assert "without weights" in refusal(load_model, path)
    loaded = load_model(path, allow_random_weights=True)
    assert loaded.spec == tiny_spec
    assert len(loaded.weights_sha256) == 64


def test_an_unknown_name_lists_the_known_ones():
    line = refusal(load_model, "gland-mimi")
    assert "'gland-mimi'" in line
    assert "did you mean 'gland-mini'?" in line


def test_the_bundled_model():
    assert "gland-mini" in bundled_models()
    assert bundled_models()["gland-mini"].stat().st_size < 10_000_000
    loaded = load_model()
    assert [one.name for one in loaded.spec.classes] == ["other", "gland"]
    assert not loaded.module.training
