"""Models given to wsi-segment: specification and weights apart, or no weights at all."""

import json
import sys

import numpy as np
import pytest
import torch
import zarr
from tiny_spec import SPEC

from wsi_sampath import SegmentSettings, segment_slide
from wsi_sampath.cli.segment import main
from wsi_sampath.models.checkpoints import build_model
from wsi_sampath.models.sam_path.names import to_published
from wsi_sampath.models.sam_path.spec import SamPathSpec
from wsi_sampath.synthetic.painted import paint_slide


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A slide, a specification, and a checkpoint as SAM-Path's authors save it."""
    folder = tmp_path_factory.mktemp("models")
    paint_slide(folder / "a.svs", width=600, height=500, mpp=1.0, seed=2)
    spec = SamPathSpec.model_validate(SPEC)
    spec.to_yaml(folder / "tiny.yaml")
    torch.manual_seed(3)
    state = to_published(build_model(spec).state_dict(), spec)
    torch.save(
        {"state_dict": {f"model.{name}": one for name, one in state.items()}},
        folder / "authors.ckpt",
    )
    return folder


def run(monkeypatch, capsys, folder, out, *words):
    fixed = ["wsi-segment", folder / "a.svs", "--out", out, "--device", "cpu", "--tissue", "none"]
    model = ["--model", folder / "tiny.yaml", "--no-geojson", "--no-report", "--json"]
    monkeypatch.setattr(sys, "argv", [str(word) for word in [*fixed, *model, *words]])
    with pytest.raises(SystemExit) as stopped:
        main()
    return stopped.value.code, capsys.readouterr()


@pytest.mark.parametrize("given", ["weights", "random"])
def test_the_command_and_python_say_the_same(monkeypatch, capsys, folder, tmp_path, given):
    if given == "weights":
        words = ["--weights", folder / "authors.ckpt"]
        values = {"weights": str(folder / "authors.ckpt")}
    else:
        words, values = ["--allow-random-weights"], {"allow_random_weights": True}
    code, said = run(monkeypatch, capsys, folder, tmp_path / "c.zarr", *words)
    assert code == 0, said.err
    record = json.loads(said.out.splitlines()[-1])["slides"][0]["result"]
    settings = SegmentSettings.build(
        {
            "model": str(folder / "tiny.yaml"),
            "device": "cpu",
            "tissue": "none",
            "polygons": False,
            "report": False,
            **values,
        }
    )
    result = segment_slide(folder / "a.svs", tmp_path / "p.zarr", settings=settings)
    assert result.attributes["model"] == record["model"]
    planes = [
        zarr.open_group(tmp_path / name, mode="r")["labels/classes/0"][:]
        for name in ("c.zarr", "p.zarr")
    ]
    assert planes[0].any()
    assert np.array_equal(*planes)


def test_weights_of_another_model_change_the_digest(monkeypatch, capsys, folder, tmp_path):
    """So that a run with one never goes on for a run with the other."""
    run(monkeypatch, capsys, folder, tmp_path / "c.zarr", "--allow-random-weights")
    weights = ["--weights", folder / "authors.ckpt"]
    code, said = run(monkeypatch, capsys, folder, tmp_path / "c.zarr", *weights)
    assert code == 1
    assert "begun with other settings (model" in said.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "--allow-random-weights"),
        (["--weights", "none.ckpt"], "none.ckpt: bad-model: there is no such file"),
        (["--weights", "{folder}/a.svs"], "a.svs: bad-model: is damaged"),
        (["--model", "{folder}/authors.ckpt"], "--weights FILE"),
        (["--model", "gland-mini", "--weights", "x.ckpt"], "has its weights already"),
    ],
)
def test_wrong_weights_are_one_line(monkeypatch, capsys, folder, tmp_path, words, said):
    words = [word.format(folder=folder) for word in words]
    code, told = run(monkeypatch, capsys, folder, tmp_path / "c.zarr", *words)
    assert code == 2
    (line,) = told.err.splitlines()
    assert line.startswith("error: ")
    assert said in line
    assert not (tmp_path / "c.zarr").exists()
