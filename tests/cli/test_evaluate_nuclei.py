"""A PathoSAM scored on labelled nuclei, by a network that reads its maps from the picture."""

import json

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import nn

from wsi_sampath.classes import ClassSpec
from wsi_sampath.cli import evaluate
from wsi_sampath.data.patches import Patch, write_classes, write_table
from wsi_sampath.evaluation import patches as patch_scores
from wsi_sampath.evaluation.nucleus_predictor import NucleusPredictor
from wsi_sampath.models.network import LoadedModel
from wsi_sampath.models.parse import parse_spec

SMALL = {
    "name": "small",
    "architecture": "patho_sam",
    "classes": [{"name": "nucleus", "color": "#c83232"}],
    "mpp": 0.25,
    "tile": 64,
    "sam": {"embed_dim": 16, "depth": 1, "num_heads": 2, "global_attn_indexes": [0]},
    "decoder": {"widths": [16, 8, 4, 4]},
}
KINDS = ("round", "dark")
TYPED = SMALL | {
    "classes": [{"name": name, "color": "#808080"} for name in KINDS],
    "class_decoder": True,
}
CENTRES = ((12, 14), (16, 34), (40, 20), (52, 60), (70, 24))
SIZES = ((80, 80), (56, 44), (48, 100), (80, 70))


class Painted(nn.Module):
    """Foreground is red; distances are green; blue says that a nucleus is of the second class."""

    def __init__(self, n_classes):
        super().__init__()
        self.n_classes = n_classes

    def preprocess(self, tiles):
        return tiles.permute(0, 3, 1, 2).float() / 255

    def maps(self, images, side):
        red, green, blue = images.unbind(1)
        kinds = [1 - red, red * (1 - blue), red * blue] if self.n_classes == 2 else []
        return torch.stack([red, green, green, *kinds], dim=1)


def painted(size, radius=9.0, step=1):
    """An image of the discs that fit, and their numbers and types; type 1, 2, 1 and so on."""
    y, x = np.indices(size) * step
    instances, types = np.zeros(size, np.uint16), np.zeros(size, np.uint8)
    image = np.full((*size, 3), (0, 255, 0), np.uint8)
    fit = [
        (row, column) for row, column in CENTRES if max(row - y.max(), column - x.max()) < -radius
    ]
    for number, (row, column) in enumerate(fit, start=1):
        far = np.hypot(y - row, x - column) / radius
        inside = far < 1
        instances[inside], types[inside] = number, 2 - number % 2
        image[inside] = (255, 0, 255 - 255 * (number % 2))
        image[inside, 1] = 255 * far[inside]
    return image, instances, types


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return folder(tmp_path_factory.mktemp("nuclei") / "data", KINDS)


def folder(root, names, layers=("inst", "type"), mpp=0.25):
    patches = []
    for number, size in enumerate(SIZES):
        image, instances, types = painted(size)
        kinds = {"img": image, "inst": instances, "type": types, "mask": types}
        for kind in ("img", *layers):
            (root / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(kinds[kind]).save(root / kind / f"i{number}.png")
        patches.append(Patch(f"i{number}", -1, f"p{number // 2}"))
    write_classes(root, [ClassSpec(name=name, color="#112233") for name in names], mpp)
    write_table(root, patches)
    return root


@pytest.fixture
def run(command):
    return command(evaluate.main, "wsi-evaluate")


@pytest.fixture
def model(monkeypatch):
    """``model(values)`` makes every model the painted one of this specification."""

    def use(values):
        spec = parse_spec(values)
        loaded = LoadedModel(Painted(len(spec.classes)), spec, "0" * 64, "painted")
        monkeypatch.setattr(patch_scores, "load_model", lambda *_, **__: loaded)
        return loaded

    return use


def test_all_nuclei_are_found_in_patches_of_any_size(run, model, data, tmp_path):
    model(SMALL)
    out = tmp_path / "scores.json"
    code, said, told = run(data, "--model", "painted", "--json", out)
    assert (code, "warning" in told) == (0, False)
    scores = json.loads(out.read_text())
    found = scores["instances"]
    labelled = sum(len(np.unique(painted(size)[1])) - 1 for size in SIZES)
    assert found["true"] == found["found"] == labelled
    assert [found[name] for name in ("f1_50", "sa50", "sa75", "precision", "recall")] == [1] * 5
    assert min(found["mean_iou"], found["aji"], found["pq"], found["msa"]) > 0.9
    assert found["pq_ci"][0] <= found["pq"] <= found["pq_ci"][1]
    assert (scores["patches"], scores["cases"]) == (4, 2)
    assert scores["instance_classes"] is None
    assert f"{labelled} nuclei labelled, {labelled} found" in said
    assert "F1 at IoU 0.5                1.0000 [1.0000, 1.0000]" in said


def test_batches_change_nothing(run, model, data, tmp_path):
    model(TYPED)
    found = []
    for size in (1, 3):
        assert run(data, "--model", "painted", "--json", tmp_path / "out.json", "-b", size)[0] == 0
        found.append(json.loads((tmp_path / "out.json").read_text()))
    assert found[0] == found[1]


def test_classes_of_nuclei_are_matched_by_name(run, model, tmp_path):
    model(TYPED)
    out = tmp_path / "scores.json"
    swapped = folder(tmp_path / "swapped", KINDS[::-1])
    code, said, _ = run(swapped, "--model", "painted", "--json", out)
    assert code == 0
    scores = json.loads(out.read_text())["instance_classes"]
    # What the data call dark the model calls round.
    assert scores["mpq"] == 0
    total = scores["per_class"]["dark"]["true"]
    assert scores["matched"][1][2] == scores["per_class"]["round"]["found"] == total > 0
    assert (
        run(swapped, "--model", "painted", "--same", "round=dark", "--same", "dark=round")[0] == 0
    )
    assert "mPQ" in said


def test_right_classes_score_one(run, model, data, tmp_path):
    model(TYPED)
    assert run(data, "--model", "painted", "--json", tmp_path / "out.json")[0] == 0
    scores = json.loads((tmp_path / "out.json").read_text())["instance_classes"]
    assert [scores["per_class"][name]["f1_50"] for name in KINDS] == [1, 1]


def test_which_class_is_taken_for_which_is_shown(run, model, tmp_path):
    model(TYPED)
    out = tmp_path / "scores.json"
    code, said, _ = run(
        folder(tmp_path / "swapped", KINDS[::-1]), "--model", "painted", "--json", out
    )
    assert code == 0
    lines = said.splitlines()
    at = next(n for n, line in enumerate(lines) if line.startswith("  % of the nuclei"))
    dark = json.loads(out.read_text())["instance_classes"]["per_class"]["dark"]["true"]
    assert lines[at + 3].split() == ["1", "dark", "0.0", "100", str(dark)]


@pytest.mark.parametrize("specification", [SMALL, TYPED])
def test_the_worst_patches_are_drawn_in_the_colours_of_the_classes(
    run, model, data, tmp_path, specification
):
    model(specification)
    words = ("--model", "painted", "--split", "all", "--pictures", tmp_path, "--worst", 2)
    code, said, _ = run(data, *words, "--json", tmp_path / "out.json")
    assert code == 0
    assert "2 patches drawn in" in said
    shown = json.loads((tmp_path / "out.json").read_text())["worst"]
    names = [one["picture"] for one in shown]
    assert sorted(path.name for path in tmp_path.glob("*.png")) == sorted(names)
    picture = np.asarray(Image.open(tmp_path / names[0]).convert("RGB")).astype(int)
    third = picture.shape[1] // 3
    # Nuclei are marked in the second and in the third panel, but not in the first.
    bare, truth, found = (picture[60:-40, n * third : (n + 1) * third - 10] for n in range(3))
    changed = [(np.abs(one - bare).sum(axis=2) > 30).mean() for one in (truth, found)]
    assert min(changed) > 0.02


def test_other_classes_are_said_and_not_scored(run, model, tmp_path):
    model(TYPED)
    data = folder(tmp_path / "data", ("tumour", "other"))
    code, said, told = run(data, "--model", "painted")
    assert code == 0
    assert "warning: classes of nuclei are not scored: the model has round, dark" in told
    assert "mPQ" not in said
    code, _, told = run(data, "--model", "painted", "--same", "round=tumour")
    assert (code, told.count("error:"), "say what 'dark' is" in told) == (2, 1, True)


@pytest.mark.parametrize(
    ("values", "layers", "words", "line"),
    [
        (SMALL, ("mask",), (), "nuclei are not told apart (inst)"),
        (SMALL, ("inst",), ("--stretch",), "nuclei have a size of their own"),
        (SMALL, ("inst",), ("--same", "a=b"), "the model has no classes of nuclei"),
        (TYPED, ("inst",), ("--same", "a=b"), "the data have no classes of nuclei"),
    ],
)
def test_what_cannot_be_scored_is_one_line(run, model, tmp_path, values, layers, words, line):
    model(values)
    code, said, told = run(folder(tmp_path / "data", KINDS, layers), "--model", "painted", *words)
    assert (code > 0, said, told.count("\n")) == (True, "", 1)
    assert line in told


def test_a_model_of_pixels_is_refused_nuclei_without_masks(run, tmp_path):
    path = tmp_path / "tiny.yaml"
    decoder = {"dim": 16, "depth": 1, "num_heads": 2, "mlp_dim": 24}
    values = {key: SMALL[key] for key in ("name", "mpp", "tile", "sam")}
    path.write_text(yaml.safe_dump(values | {"classes": TYPED["classes"], "decoder": decoder}))
    data = folder(tmp_path / "data", KINDS, ("inst",))
    code, _, told = run(data, "--model", path, "--allow-random-weights")
    assert code > 0
    assert told.splitlines()[-1].endswith("has nuclei (inst), but no classes of pixels (mask)")


def test_an_unknown_pixel_size_is_said(run, model, tmp_path):
    model(SMALL)
    _, said, told = run(folder(tmp_path / "data", KINDS, mpp=None), "--model", "painted")
    assert "the pixel size of the patches is unknown (own pixels, taken" in told
    assert "stretched" not in said


@pytest.mark.parametrize("step", [2, 0.5])
def test_nuclei_are_told_on_the_pixels_of_the_patch(model, step):
    size = round(80 / step), round(72 / step)
    image, instances, _ = painted(size, step=step)
    (found,) = NucleusPredictor(model(SMALL), mpp=0.25 * step, device="cpu")([image])
    assert found.labels.shape == size
    assert found.labels.max() == instances.max()
    assert ((found.labels > 0) == (instances > 0)).mean() > 0.95


def test_a_small_network_is_scored_as_it_is(run, data, tmp_path):
    path, out = tmp_path / "small.yaml", tmp_path / "out.json"
    path.write_text(yaml.safe_dump(SMALL))
    assert run(data, "--model", path, "--allow-random-weights", "--json", out)[0] == 0
    found = json.loads(out.read_text())["instances"]
    assert found["true"] > 0
    assert found["per_image"]["f1_50"] is not None
