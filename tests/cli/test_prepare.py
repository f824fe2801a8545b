from __future__ import annotations

import numpy as np
import pytest
from command_line import quick_help
from PIL import Image

from wsi_sampath.cli import prepare
from wsi_sampath.data.patches import open_patches


@pytest.fixture
def run(command):
    return command(prepare.main, "wsi-prepare")


@pytest.fixture
def folders(tmp_path):
    rng = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    for number in range(10):
        image = rng.integers(0, 255, (8, 8, 3), np.uint8)
        Image.fromarray(image).save(tmp_path / "images" / f"p{number // 2}_{number}.png")
        mask = np.where(image[..., 0] > 99, 255, 0).astype(np.uint8)
        Image.fromarray(mask).save(tmp_path / "masks" / f"p{number // 2}_{number}.png")
    return "--images", tmp_path / "images", "--masks", tmp_path / "masks"


def test_patches(run, folders, tmp_path):
    out = tmp_path / "out"
    code, said, told = run("patches", *folders, "--out", out, "--case", "^(p.)")
    assert (code, said) == (
        0,
        f"{out}: 10 patches of 5 cases: 6 train, 2 validation, 2 test; classes: other, gland\n",
    )
    assert told.splitlines() == [
        "note: classes: other (black), gland (white), because the masks are black and white; name "
        "them with --classes (tumor, or a file)",
        "warning: the pixel size of the images is unknown, so wsi-train cannot tell at which scale "
        "the model must read slides: give um per pixel with --mpp (about 0.25 for 40x, 0.5 for "
        "20x, 1 for 10x)",
        "out: 10 of 10",
    ]
    assert len(open_patches(out).patches) == 10
    code, again, _ = run("patches", *folders, "--out", out, "--case", "^(p.)")
    assert (code, again) == (0, said)


def test_what_the_user_should_know(run, folders, tmp_path):
    code, _, told = run("patches", *folders, "--out", tmp_path / "out")
    assert code == 0
    assert "without --case" in told
    code, _, told = run("patches", *folders, "--out", tmp_path / "one", "--case", "^p")
    assert code == 0
    assert "the test split is empty" in told
    code, _, told = run("patches", *folders, "--out", tmp_path / "all", "--test-cases", ".")
    assert code == 0
    assert "the train split is empty: the test split has 10 of 10 cases" in told


def test_a_named_pixel_size_and_named_classes_leave_nothing_to_say(run, folders, tmp_path):
    words = ("--out", tmp_path / "out", "--case", "^(p.)", "--mpp", "0.5", "--classes", "tumor")
    code, _, told = run("patches", *folders, *words)
    assert (code, told) == (0, "out: 10 of 10\n")


def test_a_class_without_any_pixel_is_said(run, folders, tmp_path):
    for path in (tmp_path / "masks").iterdir():
        Image.fromarray((np.asarray(Image.open(path)) > 0).astype(np.uint8)).save(path)
    words = ("--out", tmp_path / "out", "--case", "^(p.)", "--mpp", "0.5", "--classes", "tumor")
    for _ in range(2):
        code, _, told = run("patches", *folders, *words)
        assert code == 0
        assert "warning: no pixel of any mask is tumor: do the masks hold what" in told


def test_what_was_done_to_images_and_masks_is_said_with_their_number(run, folders, tmp_path):
    for path in sorted((tmp_path / "masks").iterdir())[:3]:
        grey = Image.open(path)
        white = Image.new("L", grey.size, 255)
        Image.merge("LA", (white, grey)).save(path)
    code, _, told = run("patches", *folders, "--out", tmp_path / "out", "--case", "^(p.)")
    assert code == 0
    expected = "warning: p0_0.png and 2 more images: mask: transparent parts counted as black (0)"
    assert expected in told.splitlines()


def test_nuclei(run, folders, tmp_path):
    words = ("nuclei", *folders[:2], "--instances", tmp_path / "masks", "--out", tmp_path / "out")
    code, _, told = run(*words)
    assert code == 2
    assert "its nuclei are not told apart" in told.splitlines()[-1]
    for path in (tmp_path / "masks").iterdir():
        Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8)).save(path)
    code, said, told = run(*words, "--case", "^(p.)", "--mpp", "0.25")
    assert (code, told) == (0, "out: 10 of 10\n")
    assert said.endswith("6 train, 2 validation, 2 test; classes: nucleus\n")
    assert "wsi-train" in run(*words)[2]


def test_crag_and_bcss(run, tmp_path):
    for split in ("train", "valid"):
        for kind in ("Images", "Annotation"):
            folder = tmp_path / "crag" / split / kind
            folder.mkdir(parents=True)
            for number in range(5):
                pixels = np.full((8, 8), number, np.uint8)
                Image.fromarray(pixels).save(folder / f"{split}_{number}.png")
    code, said, _ = run("crag", tmp_path / "crag", "--out", tmp_path / "out")
    assert code == 0
    assert (
        "10 patches of 10 cases: 4 train, 1 validation, 5 test; classes: background, gland" in said
    )
    for kind in ("images", "masks"):
        (tmp_path / "bcss" / kind).mkdir(parents=True)
        Image.fromarray(np.ones((1024, 1025), np.uint8)).save(
            tmp_path / "bcss" / kind / "TCGA-AO-A03U-DX1_xmin1_ymin2_MPP-0.2500.png"
        )
    words = ("bcss", tmp_path / "bcss", "--out", tmp_path / "b", "--paper-compatible")
    code, said, told = run(*words, "--image-format", "jpg")
    assert code == 0
    assert "2 patches of 1 case:" in said
    assert "warning: 1 slide was scanned at 20x" in told
    assert "shares patients" in told


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ("patches", "--images", "no", "--masks", "no", "--out", "x"),
            "no: bad-input: there is no",
        ),
        (("patches", "--out", "x"), "--images"),
        (("nuclei", "--images", ".", "--out", "x"), "--instances"),
        (("patches", "--images", ".", "--images", ".", "--masks", ".", "--out", "x"), "as many"),
        (("crag", ".", "--out", "x"), "is this the folder of CRAG"),
        (("crag", ".", "--out", "x", "--folds", "1"), "--folds"),
        (("bcss", ".", "--out", "x"), "rgbs_colorNormalized"),
        (("bcss", ".", "--out", "x", "--image-format", "gif"), "--image-format"),
        (("bcss", ".", "--out", "x", "--classes", "none"), "known by name"),
        (("nonsense",), "nonsense"),
    ],
)
def test_wrong_usage_is_one_line(run, tmp_path, monkeypatch, words, expected):
    monkeypatch.chdir(tmp_path)
    code, _, told = run(*words)
    assert code == 2
    assert told.startswith("error: ")
    assert expected in told
    assert len(told.splitlines()) == 1
    assert not (tmp_path / "x").exists()


def test_help_is_quick():
    text = quick_help("wsi-prepare", "patches", without={"torch", "numpy", "PIL"})
    assert "--masks" in text
