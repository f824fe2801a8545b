from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import yaml
from command_line import quick_help
from PIL import Image

from wsi_sampath.classes import ClassSpec
from wsi_sampath.cli import evaluate
from wsi_sampath.data.patches import Patch, write_classes, write_table
from wsi_sampath.data.prepare import plan_patches, prepare
from wsi_sampath.errors import UsageError
from wsi_sampath.evaluation.class_names import match

TINY = {
    "name": "tiny",
    "classes": [{"name": "other", "color": "#9aa0a6"}, {"name": "gland", "color": "#c83264"}],
    "mpp": 1.0,
    "tile": 64,
    "sam": {"embed_dim": 16, "depth": 1, "num_heads": 2, "global_attn_indexes": [0]},
    "decoder": {"dim": 16, "depth": 1, "num_heads": 2, "mlp_dim": 24},
}
SIZES = [(40, 50), (64, 64), (100, 70), (64, 64), (30, 30), (64, 64)]


def without_warnings(told):
    return [line for line in told.splitlines() if not line.startswith("warning: ")]


@pytest.fixture
def run(command):
    return command(evaluate.main, "wsi-evaluate")


@pytest.fixture
def data(tmp_path):
    return painted(tmp_path / "data", ("other", "gland"))


def painted(root, names):
    rng = np.random.default_rng(0)
    patches = []
    for number, size in enumerate(SIZES):
        for kind in ("img", "mask"):
            (root / kind).mkdir(parents=True, exist_ok=True)
        mask = rng.integers(0, len(names) + 1, size, np.uint8)
        image = rng.integers(0, 255, (*size, 3), np.uint8)
        Image.fromarray(image).save(root / "img" / f"i{number}.png")
        Image.fromarray(mask).save(root / "mask" / f"i{number}.png")
        patches.append(Patch(f"i{number}", (-1, -1, -1, -1, 0, 1)[number], f"p{number // 2}"))
    write_classes(root, [ClassSpec(name=name, color="#112233") for name in names])
    write_table(root, patches)
    return root


@pytest.fixture
def tiny(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY))
    return "--model", path, "--allow-random-weights"


def test_all_scores_of_the_test_split(run, data, tiny, tmp_path):
    out = tmp_path / "scores.json"
    code, said, told = run(data, *tiny, "--json", out)
    assert code == 0
    assert "warning: the pixel size of the patches is unknown (own pixels, taken" in told
    assert "paper" not in said
    scores = json.loads(out.read_text())
    assert (scores["split"], scores["patches"], scores["cases"]) == ("test", 4, 2)
    assert list(scores["per_class"]) == ["other", "gland"]
    assert {"dice", "iou", "precision", "recall", "dice_ci"} <= set(scores["per_class"]["gland"])
    labelled = sum(
        int((np.asarray(Image.open(data / "mask" / f"i{i}.png")) > 0).sum()) for i in range(4)
    )
    assert np.sum(scores["confusion"]["counts"]) == labelled
    assert scores["confusion"]["predicted"] == ["none", "other", "gland"]
    assert "paper" not in scores
    assert scores["scale"] == [
        "own pixels, taken to be at the model's mpp",
        "stretched to the tile",
    ]
    assert f"Dice {scores['per_class']['gland']['dice']:.4f} [" in said
    assert "pixel accuracy" in said


def test_the_numbers_of_the_paper_are_shown_on_request(run, data, tiny, tmp_path):
    out = tmp_path / "scores.json"
    code, said, told = run(data, *tiny, "--mpp", 1.0, "--paper-metrics", "--json", out)
    assert code == 0
    paper = json.loads(out.read_text())["paper"]
    assert f"  paper Dice {paper['Dice']['value']:15.4f}  (" in said.replace("Dice  ", "Dice ")
    assert "  paper IOU_Jaccard " in said
    assert "pixel size" not in told


def test_the_confusion_is_shown_in_percent_of_each_true_class(run, data, tiny, tmp_path):
    out = tmp_path / "scores.json"
    code, said, _ = run(data, *tiny, "--json", out)
    assert code == 0
    counts = np.array(json.loads(out.read_text())["confusion"]["counts"])
    share = 100 * counts / counts.sum(axis=1, keepdims=True)
    lines = said.splitlines()
    at = next(n for n, line in enumerate(lines) if line.startswith("  % of the pixels"))
    assert lines[at + 1].split() == ["1", "2", "pixels"]
    other = [f"{one:.1f}" if one < 100 else "100" for one in share[0, 1:]]
    assert lines[at + 2].split() == ["1", "other", *other, f"{counts[0].sum():,}"]


def test_the_worst_patches_are_drawn(run, data, tiny, tmp_path):
    out, folder = tmp_path / "scores.json", tmp_path / "worst"
    words = (data, *tiny, "--mpp", 1.0, "--pictures", folder, "--json", out)
    assert run(*words)[0] == 0
    assert len([*folder.iterdir()]) == 4
    (folder / "note.txt").write_text("mine")
    code, said, _ = run(*words, "--worst", 2)
    assert code == 0
    assert f"the worst: 2 patches drawn in {folder}" in said
    shown = json.loads(out.read_text())["worst"]
    assert shown[0]["score"] <= shown[1]["score"]
    # Those of the time before are gone, and what is not ours stays.
    names = [one["picture"] for one in shown]
    assert sorted(path.name for path in folder.iterdir()) == ["note.txt", *sorted(names)]
    assert names[0] == f"worst_01_{shown[0]['patch']}.png"
    width, height = SIZES[int(shown[0]["patch"][1])][::-1]
    picture = Image.open(folder / names[0])
    zoom = -(-360 // width)
    assert picture.width > 3 * zoom * width
    assert picture.height > zoom * height


def test_pictures_of_somebody_else_are_not_replaced(run, data, tiny, tmp_path):
    folder = tmp_path / "worst"
    folder.mkdir()
    Image.new("RGB", (4, 4)).save(folder / "worst_tooth.png")
    before = (folder / "worst_tooth.png").read_bytes()
    code, _, told = run(data, *tiny, "--pictures", folder)
    assert (code, len(without_warnings(told))) == (2, 1)
    assert "worst_tooth.png: bad-input: is not a picture of wsi-evaluate" in told
    assert (folder / "worst_tooth.png").read_bytes() == before


def test_batches_change_nothing(run, data, tiny, tmp_path):
    found = []
    for size in (1, 3):
        out = tmp_path / f"{size}.json"
        assert run(data, *tiny, "--json", out, "--split", "all", "-b", size, "--mpp", 1.2)[0] == 0
        found.append(json.loads(out.read_text()))
    assert np.abs(np.subtract(*(one["confusion"]["counts"] for one in found))).sum() <= 4
    assert found[0]["scale"] == ["scaled by 1.2 to the model's mpp"]


def test_classes_are_matched_by_name(run, tiny, tmp_path):
    swapped = painted(tmp_path / "swapped", ("gland", "Other"))
    plain = painted(tmp_path / "plain", ("stroma", "gland"))
    found = {}
    for folder, words in ((swapped, ()), (plain, ("--same", "other=stroma"))):
        out = tmp_path / f"{folder.name}.json"
        assert run(folder, *tiny, *words, "--json", out)[0] == 0
        found[folder.name] = np.array(json.loads(out.read_text())["confusion"]["counts"])
    predicted = {name: counts.sum(axis=0) for name, counts in found.items()}
    # The same pixels are called gland, whatever its number.
    assert predicted["swapped"][1] == predicted["plain"][2]
    code, _, told = run(plain, *tiny)
    assert code == 2
    assert "the model has other, gland, the data stroma, gland" in told


def test_several_names_may_mean_one_class(run, tiny, tmp_path):
    data, out = painted(tmp_path / "data", ("Tumor", "other", "adenoma")), tmp_path / "out.json"
    pairs = ("GLAND=tumor", "--same", "gland=Adenoma"), ("gland=adenoma", "--same", "gland=tumor")
    found = []
    for words in pairs:
        assert run(data, *tiny, "--json", out, "--same", *words)[0] == 0
        found.append(json.loads(out.read_text()))
    assert found[0] == found[1]
    assert list(found[0]["per_class"]) == ["Tumor + adenoma", "other"]
    masks = [np.asarray(Image.open(data / "mask" / f"i{i}.png")) for i in range(4)]
    pixels = sum(int(np.isin(mask, (1, 3)).sum()) for mask in masks)
    assert found[0]["per_class"]["Tumor + adenoma"]["pixels"] == pixels
    code, _, told = run(data, *tiny, "--same", "gland=Tumour")
    assert (code, len(without_warnings(told))) == (2, 1)
    assert "no 'Tumour' (but Tumor, other, adenoma); did you mean 'Tumor'?" in told
    code, _, told = run(data, *tiny, "--same", "glands=tumor")
    assert (code, len(without_warnings(told))) == (2, 1)
    assert "did you mean 'gland'?" in told


@pytest.mark.parametrize(
    ("theirs", "pairs", "names", "of_data", "of_model"),
    [
        (["b", "A"], [], ["b", "A"], [0, 1, 2], [0, 2, 1]),
        # A finer model: two of its classes are one of the data.
        (["a"], [("b", "a")], ["a"], [0, 1], [0, 1, 1]),
        # Its own name means a class still, unless both sides are spoken of.
        (["a", "c", "b"], [("a", "c")], ["a + c", "b"], [0, 1, 1, 2], [0, 1, 2]),
        (["a", "c"], [("a", "c"), ("b", "a")], ["a", "c"], [0, 1, 2], [0, 2, 1]),
        (["x", "y", "z"], [("a", "x"), ("b", "y")], ["x", "y", "z"], [0, 1, 2, 3], [0, 1, 2]),
    ],
)
def test_which_classes_are_scored(theirs, pairs, names, of_data, of_model):
    found = match(["a", "b"], theirs, pairs, "")
    assert found.names == names
    assert (found.of_data.tolist(), found.of_model.tolist()) == (of_data, of_model)


@pytest.mark.parametrize("names", [("gland", "gland"), ("gland", "Gland")])
def test_classes_of_one_name_are_refused(run, data, tiny, names):
    with pytest.raises(UsageError, match="several classes of one name"):
        match(["gland"], names, [], "")
    listed = [{"name": name, "color": "#112233"} for name in ("other", *names)]
    (data / "classes.yaml").write_text(yaml.safe_dump({"classes": listed}))
    code, _, told = run(data, *tiny)
    assert (code, len(without_warnings(told))) == (2, 1)
    assert "classes.yaml" in told


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--split", "none"), "--split"),
        (("--mpp", "0"), "--mpp"),
        (("--mpp", "nan"), "--mpp"),
        (("--mpp", "inf"), "--mpp"),
        (("--seed", "-1"), "--seed"),
        (("--json", "."), "is not a file"),
        (("--worst", "3"), "add --pictures FOLDER"),
        (("--worst", "0", "--pictures", "p"), "--worst"),
        (("--pictures", __file__), "is not a folder"),
        (("--bootstrap", "-1"), "--bootstrap"),
        (("--batch-size", "x"), "--batch-size"),
        (("--precision", "int8"), "--precision"),
        (("--device", "toaster"), "toaster"),
        (("--same", "gland"), "MODEL=DATA"),
        (("--json", "no/where.json"), "its folder does not exist"),
        (("--model", "gland-maxi"), "did you mean 'gland-mini'"),
    ],
)
def test_wrong_usage_is_one_line(run, data, tiny, words, expected):
    code, _, told = run(data, *tiny, *words) if words[0] != "--model" else run(data, *words)
    assert code == 2
    assert expected in told
    assert len(without_warnings(told)) == 1


def test_a_folder_for_the_scores_is_refused_at_once(run, tmp_path):
    (tmp_path / "scores").mkdir()
    # The data are not looked at: there are none.
    code, _, told = run(tmp_path / "none", "--json", tmp_path / "scores")
    assert (code, len(without_warnings(told))) == (2, 1)
    assert "scores: bad-input: is not a file" in told
    assert not (tmp_path / "scores.partial").exists()


def test_faults_of_the_data_are_named(run, data, tiny, tmp_path):
    Image.fromarray(np.full(SIZES[1], 3, np.uint8)).save(data / "mask" / "i1.png")
    code, _, told = run(data, *tiny)
    assert code == 2
    assert "i1.png: bad-input: holds label 3" in told
    code, _, told = run(tmp_path / "none", *tiny)
    assert code == 2
    assert "no such folder of patches; wsi-prepare makes one" in told


def test_help_is_quick():
    text = quick_help("wsi-evaluate", without={"torch", "numpy", "PIL"})
    assert "--split" in text


@pytest.mark.slow
def test_gland_mini_on_real_patches(run, data_folder, tmp_path):
    with (data_folder / "ebhi_seg" / "index.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["class"] == "normal"][::12]
    for row in rows:
        for kind in ("image", "label"):
            source = data_folder / "ebhi_seg" / row[kind]
            (tmp_path / kind).mkdir(exist_ok=True)
            (tmp_path / kind / source.name).write_bytes(source.read_bytes())
    plan = plan_patches(
        [tmp_path / "image"], [tmp_path / "label"], tmp_path / "data", case=r"(\d+)-\d+-400"
    )
    list(prepare(plan))
    out = tmp_path / "scores.json"
    assert run(tmp_path / "data", "--split", "all", "--json", out)[0] == 0
    scores = json.loads(out.read_text())
    assert scores["patches"] == len(rows) >= 4
    # Calling everything gland would be the easy way out.
    assert scores["per_class"]["gland"]["dice"] > 0.75
    assert scores["per_class"]["other"]["dice"] > 0.5
