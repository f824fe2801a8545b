import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from training_stub import paint_patches

from pipelines.table1 import reproduce
from wsi_sampath.classes import ClassSpec
from wsi_sampath.models.parse import spec_from_yaml
from wsi_sampath.training.configuration import read_settings

ROOT = Path(__file__).parents[2]
EVERY = sorted((ROOT / "configs" / "train").rglob("*.yaml"))
CONFIGS = [path for path in EVERY if "nuclei" not in path.stem and path.stem != "wsi-sam"]
BCSS = spec_from_yaml(ROOT / "configs" / "models" / "sam-path-bcss.yaml").classes
CRAG = (ClassSpec(name="background", color="#9aa0a6"), ClassSpec(name="gland", color="#c83264"))


@pytest.fixture(scope="module")
def pipeline():
    return reproduce


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_configuration_is_valid(path):
    read = read_settings(path, ["data=d", "out=o"])
    if path.stem != "own-data":
        spec = spec_from_yaml(read.model)
        assert path.stem.split("-")[0] in spec.name
        assert ("pathology" in path.stem) == (spec.pathology is None)
        assert ("without-sam" in path.stem) == (spec.sam is None)


def test_the_published_numbers_of_crag():
    read = read_settings(ROOT / "configs/train/crag-sam-path.yaml", ["data=d", "out=o"])
    assert (read.batch_size, read.accumulate, read.epochs, read.side) == (6, 1, 60, 1536)
    assert (read.optimiser.warm_up, read.optimiser.drops) == (46, (1150, 1265))
    assert (read.optimiser.learning_rate, read.optimiser.weight_decay) == (1e-4, 1e-2)
    assert (read.loss.focal, read.loss.dice, read.loss.iou) == (0.125, 0.875, 0)


def test_the_published_numbers_of_bcss():
    read = read_settings(ROOT / "configs/train/bcss-sam-path.yaml", ["data=d", "out=o"])
    assert (read.batch_size, read.accumulate, read.epochs, read.side) == (12, 2, 32, None)
    assert (read.optimiser.warm_up, read.optimiser.drops) == (72, (1800, 2088))
    assert (read.loss.focal, read.loss.dice, read.loss.iou) == (0.25, 0.75, 0.0625)
    augmentation = read.augmentation
    assert (augmentation.crop_scale, augmentation.flip, augmentation.rotate) == (
        (0.08, 1),
        0.75,
        0.5,
    )


def test_sweeps_change_one_thing(pipeline):
    for data, alpha in (("bcss", 0.25), ("crag", 0.125)):
        for path in (ROOT / "configs/train/sweeps").glob(f"{data}-*.yaml"):
            loss = read_settings(path, ["data=d", "out=o"]).loss
            _, parameter, value = path.stem.split("-")
            assert loss.focal + loss.dice == 1
            assert (loss.focal if parameter == "alpha" else loss.iou) == float(value)
            assert parameter == "alpha" or loss.focal == alpha
    assert len(pipeline.all_rows()) == 10 + 18


def test_the_published_figures_are_consistent(pipeline):
    """Corrected IoU = Dice / (2 - Dice)."""
    for row in pipeline.TABLE:
        if row.dice is not None:
            iou = row.true_iou if row.data == "crag" else row.iou
            assert iou == pytest.approx(row.dice / (2 - row.dice), abs=3e-4)


@pytest.mark.parametrize(
    ("name", "classes", "side", "published"),
    [("crag", CRAG, 128 * 3 // 2, ("0.8841", "0.7923")), ("bcss", BCSS, 128, ("0.7949", "0.6596"))],
)
def test_all_rows_end_to_end(name, classes, side, published, pipeline, tmp_path, capsys):
    data = tmp_path / "data"
    paint_patches(data / name, classes=classes)
    words = [str(data), "--out", str(tmp_path / "out"), "--small", "--set", "device=cpu"]
    assert pipeline.main([*words, "epochs=1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line for line in lines if line.startswith(f"{name} ")]
    assert len(rows) == 5
    assert all(f"[{figure}]" in rows[-1] for figure in published)
    assert not any(line.split("[")[0].rstrip().endswith("-") for line in rows)
    files = sorted((tmp_path / "out" / "rows").glob("*.json"))
    assert len(files) == 5
    scores = json.loads((tmp_path / "out" / "rows" / f"{name}-sam-path.json").read_text())
    labelled = np.sum(scores["confusion"]["counts"])
    assert labelled == pytest.approx(2 * side * side * 64 / 72, rel=0.02)
    before = [path.stat().st_mtime_ns for path in files]
    files[0].unlink()
    assert pipeline.main([*words, "epochs=1"]) == 0
    after = [path.stat().st_mtime_ns for path in files]
    assert after[0] != before[0]
    assert after[1:] == before[1:]


def test_wrong_use(pipeline, tmp_path, capsys):
    assert pipeline.main([str(tmp_path)]) == 2
    assert pipeline.main([str(tmp_path), "--rows", "crag"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert all(line.startswith("error: ") for line in said)


def test_a_row_that_fails_is_told_and_the_others_run(pipeline, tmp_path, capsys):
    data = tmp_path / "data"
    root = paint_patches(data / "crag", classes=CRAG)
    (root / "classes.yaml").write_text(
        yaml.safe_dump({"classes": [{"name": "a", "color": "#000000"}]})
    )
    names = ["--rows", "crag-sam-path", "crag-without-sam"]
    assert pipeline.main([str(data), "--out", str(tmp_path / "out"), "--small", *names]) == 1
    said = capsys.readouterr()
    assert said.err.count("error: ") == 2
    assert said.out.count("crag ") == 2
