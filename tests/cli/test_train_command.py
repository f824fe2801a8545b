import importlib.util
import json
import re
import subprocess
import sys
import time

import numpy as np
import pytest
import yaml
from PIL import Image

from wsi_sampath.classes import ClassSpec
from wsi_sampath.cli import train
from wsi_sampath.data.patches import Patch, write_classes, write_table
from wsi_sampath.extras import install_hint
from wsi_sampath.models.zoo import load_model

CLASSES = (ClassSpec(name="other", color="#9aa0a6"), ClassSpec(name="gland", color="#c83264"))
MODEL = {
    "name": "tiny",
    "classes": [dict(one) for one in CLASSES],
    "mpp": 1.0,
    "tile": 64,
    "sam": {"embed_dim": 16, "depth": 1, "num_heads": 2, "global_attn_indexes": [0]},
    "decoder": {"dim": 16, "depth": 1, "num_heads": 2, "mlp_dim": 24},
}


@pytest.fixture
def run(command):
    return command(train.main, "wsi-train")


@pytest.fixture
def data(tmp_path):
    root = tmp_path / "data"
    rng = np.random.default_rng(0)
    for kind in ("img", "mask"):
        (root / kind).mkdir(parents=True)
    for number in range(3):
        mask = rng.integers(1, 3, (64, 64), np.uint8)
        Image.fromarray(mask).save(root / "mask" / f"i{number}.png")
        Image.fromarray(mask[..., None].repeat(3, 2) * 90).save(root / "img" / f"i{number}.png")
    write_classes(root, CLASSES, mpp=1.0)
    write_table(root, [Patch(f"i{n}", fold, f"c{n}") for n, fold in enumerate((1, 1, 0))])
    return f"data={root}"


@pytest.fixture
def config(tmp_path):
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(MODEL))
    values = {"model": "tiny.yaml", "allow_random_weights": True, "workers": 0, "epochs": 1}
    path = tmp_path / "train.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def _dice(out):
    return json.loads((out / "result.json").read_text())["validation_macro_dice"]


def test_a_model_comes_out(run, config, data, tmp_path):
    out = tmp_path / "out"
    code, said, errors = run(config, data, f"out={out}")
    assert code == 0
    model = out / "model.safetensors"
    assert said.splitlines() == [
        f"kept:     epoch 1 of 1: best validation macro Dice {_dice(out):.4f}, the last one",
        f"model:    {model}",
        "beside:   result.json, curve.csv, pictures/, tensorboard/ (and best.ckpt, last.ckpt, "
        "which may be deleted)",
        f"try it:   wsi-segment SLIDE --out out.zarr --model {model}",
        f"score it: wsi-evaluate {tmp_path / 'data'} --model {model} --split validation (flatters, "
        "if the epoch was chosen by it; the test split is empty)",
    ]
    begun = errors.splitlines()
    learn = r"network:  tiny, from random weights; [0-9,]+ of [0-9,]+ weights learn, the others are"
    assert re.match(learn, begun.pop(3))
    assert begun[:5] == [
        f"data:     {tmp_path / 'data'}: 2 train (2 cases, fold 1), 1 validation (1 case, fold 0), "
        "0 test",
        "classes:  other, gland",
        "scale:    patches of 64 x 64 px at 1 um per pixel; slides are read at 1 um per pixel",
        "training: 1 epoch of 1 step, 24 patches a step, learning rate 0.0001, fp32 on cpu",
        f"writes:   {out}",
    ]
    assert "epoch 1 of 1: loss " in errors
    assert [one.name for one in load_model(out / "model.safetensors").spec.classes] == [
        "other",
        "gland",
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["epohcs=3"], "did you mean 'epochs'"),
        (["batch_size=two"], "setting batch_size"),
        (["model=none.yaml"], "none.yaml"),
        (["allow_random_weights=false"], "no weights to start from"),
        (["device=cuda:77"], "no device"),
        (["data=nowhere"], "nowhere"),
    ],
)
def test_wrong_use_is_one_line(run, config, data, tmp_path, words, said):
    code, _, errors = run(config, data, f"out={tmp_path / 'out'}", *words)
    assert code == 2
    assert errors.count("\n") == 1
    assert errors.startswith("error: ")
    assert said in errors


def test_no_training_patches(run, config, data, tmp_path):
    table = tmp_path / "data" / "patches.csv"
    table.write_text("img_id,fold,case\ni0,0,c\n")
    code, _, errors = run(config, data, f"out={tmp_path / 'out'}")
    assert (code, errors.count("\n")) == (2, 1)
    assert "no training patches" in errors


def test_without_validation_the_last_epoch_is_kept(run, config, data, tmp_path):
    table = tmp_path / "data" / "patches.csv"
    table.write_text("img_id,fold,case\ni0,1,c\n")
    words = (config, data, f"out={tmp_path / 'out'}", "epochs=2")
    code, said, errors = run(*words)
    assert code == 0
    kept = "kept:     epoch 2 of 2: the last one, since there is no validation split to choose by"
    assert said.splitlines()[0] == kept
    assert said.splitlines()[-1].startswith("score it: on other patches: ")
    assert "warning: the validation split is empty" in errors
    assert "in patches.csv fold 0 is validation" in errors
    code, again, errors = run(*words)
    model = tmp_path / "out" / "model.safetensors"
    assert (code, errors) == (0, "")
    assert again.splitlines()[0].startswith(f"finished before: {model}; nothing is trained again")
    assert again.splitlines()[1] == kept
    assert any("without patches to validate on" in one for one in load_model(model).warnings)


def test_another_scale_than_the_models_is_told(run, config, data, tmp_path):
    _, _, errors = run(config, data, f"out={tmp_path / 'out'}", "mpp=2")
    assert "mpp=1 mends that" in errors


def test_without_lightning_it_says_how_to_install_it(run, config, data, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "lightning" else found(name)
    )
    code, _, errors = run(config, data)
    assert (code, errors.count("\n")) == (2, 1)
    assert install_hint("train") in errors


def test_an_interrupt_is_one_line(run, config, data, tmp_path, monkeypatch):
    def stop(_line):
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "_say", stop)
    code, _, errors = run(config, data, f"out={tmp_path / 'out'}")
    assert code == 1
    assert errors.splitlines()[-1].startswith(f"error: {tmp_path / 'out'}: interrupted: ")


def test_help_is_quick():
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", "from wsi_sampath.cli.train import main; main()", "--help"],
        capture_output=True,
        text=True,
    )
    assert "KEY=VALUE" in done.stdout
    assert time.monotonic() - began < 5
