"""What a model says of itself is true of its weights."""

import json

import pytest
import torch
from command_line import ended

from wsi_sampath.cli.models import main
from wsi_sampath.models.checkpoints import load_checkpoint, save_checkpoint
from wsi_sampath.models.described import read_spec
from wsi_sampath.models.origin import (
    ENOUGH_STEPS,
    RANDOM_WEIGHTS,
    STEPS,
    provenance_of_start,
    warnings_of,
)
from wsi_sampath.models.sam_path.names import to_published
from wsi_sampath.models.shipped import bundled_models
from wsi_sampath.models.spec import IMAGENET_MEAN
from wsi_sampath.models.zoo import load_model


def test_random_weights_are_said(tiny_spec, tmp_path):
    tiny_spec.to_yaml(tmp_path / "a.yaml")
    loaded = load_model(tmp_path / "a.yaml", allow_random_weights=True)
    assert loaded.warnings == (RANDOM_WEIGHTS,)


def test_a_trained_model_warns_of_nothing(tiny_model, tmp_path):
    path = save_checkpoint(tiny_model, tmp_path / "a.safetensors")
    assert load_model(path).warnings == ()
    assert load_model("gland-mini").warnings == ()


@pytest.mark.parametrize(
    ("provenance", "said"),
    [
        (provenance_of_start("class tokens and neck are"), "never trained"),
        (json.dumps({STEPS: 3}), "in 3 steps only"),
        (json.dumps({STEPS: ENOUGH_STEPS}), None),
        (json.dumps({"training": {"start": "random"}, "steps": 5}), "in 5 steps only"),
        (json.dumps({"training": {"start": {"model": "0"}}, "steps": 5}), None),
        (json.dumps({"validated": False}), "without patches to validate on"),
        (json.dumps({"validated": True}), None),
        ("[" * 20_000, None),
        ("[1]", None),
        (json.dumps({STEPS: -5}), None),
        (json.dumps({STEPS: True}), None),
        (json.dumps({"untrained": "\x1b[31mall\nof it"}), "\\x1b[31mall\\nof it"),
    ],
)
def test_what_a_file_tells_of_its_training_is_said(tiny_model, tmp_path, provenance, said):
    path = save_checkpoint(tiny_model, tmp_path / "a.safetensors", provenance=provenance)
    tiny_model.spec.to_yaml(tmp_path / "a.yaml")
    for loaded in (load_model(path), load_model(tmp_path / "a.yaml", weights=path)):
        told = " ".join(loaded.warnings)
        assert said in told if said else told == ""


def test_doubtful_specifications_are_said(tiny_spec):
    reversed_mean = tiny_spec.model_copy(update={"mean": IMAGENET_MEAN[::-1]})
    assert "blue, green, red" in " ".join(warnings_of(reversed_mean, {}))
    assert "20x" in " ".join(warnings_of(tiny_spec.model_copy(update={"mpp": 20.0}), {}))


def test_a_copied_specification_claims_nothing(tmp_path, tiny_spec):
    """As when gland-mini.yaml is the template of something else."""
    bundled = read_spec(bundled_models()["gland-mini"])
    assert bundled.licence
    words = {name: getattr(bundled, name) for name in ("description", "licence", "training_data")}
    tiny_spec.model_copy(update=words).to_yaml(tmp_path / "a.yaml")
    spec = load_model(tmp_path / "a.yaml", allow_random_weights=True).spec
    assert (spec.description, spec.licence, spec.training_data) == ("", "", "")
    tiny_spec.model_copy(update={"description": "mine"}).to_yaml(tmp_path / "a.yaml")
    assert load_model(tmp_path / "a.yaml", allow_random_weights=True).spec.description == "mine"


def test_importing_takes_over_no_claims_but_those_that_are_given(
    tiny_model, tmp_path, monkeypatch, capsys
):
    spec = tiny_model.spec
    bundled = read_spec(bundled_models()["gland-mini"])
    spec.model_copy(update={"licence": bundled.licence}).to_yaml(tmp_path / "a.yaml")
    state = {
        f"model.{name}": one for name, one in to_published(tiny_model.state_dict(), spec).items()
    }
    torch.save({"state_dict": state}, tmp_path / "a.ckpt")
    out = tmp_path / "a.safetensors"
    words = [
        "wsi-models",
        "import",
        tmp_path / "a.ckpt",
        "--spec",
        tmp_path / "a.yaml",
        "--out",
        out,
    ]
    assert not ended(monkeypatch, main, *words)
    assert read_spec(out).licence == ""
    assert not ended(monkeypatch, main, *words, "--licence", "CC0", "--description", "what it is")
    spec = load_checkpoint(out).spec
    assert (spec.licence, spec.description) == ("CC0", "what it is")
    assert not ended(monkeypatch, main, "wsi-models", "info", out)
    assert "million weights" in capsys.readouterr().out
