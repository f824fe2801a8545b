"""A result against annotations of its slide."""

from __future__ import annotations

import json

import numpy as np
import pytest
import shapely
from made_result import append_both, class_images, make_attributes
from stub_network import make_stub

from wsi_sampath.classes import ClassSpec
from wsi_sampath.cli import evaluate
from wsi_sampath.evaluation import slides as slide_scores
from wsi_sampath.inference.segmenter import segment_slide
from wsi_sampath.inference.settings import SegmentSettings
from wsi_sampath.outputs.omezarr.images import PyramidSpec
from wsi_sampath.outputs.omezarr.ngff import PlaneScale
from wsi_sampath.outputs.omezarr.pyramid import PyramidWriter

CLASSES = (ClassSpec(name="other", color="#9aa0a6"), ClassSpec(name="gland", color="#c83264"))
HEIGHT, WIDTH = 150, 130


@pytest.fixture
def run(command):
    return command(evaluate.main, "wsi-evaluate")


@pytest.fixture
def plane():
    rng = np.random.default_rng(0)
    labels = rng.integers(1, 3, (HEIGHT, WIDTH), np.uint8)
    labels[:, 90:] = 0
    return labels


@pytest.fixture
def result(tmp_path, plane):
    """Pixels of 8 x 4 level-0 px, 4 x 3 um."""
    attributes = make_attributes(
        model={"name": "some model", "sha256": "ab"},
        slide={"name": "case 7.mrxs", "fingerprint": "cd"},
        slide_size=[WIDTH * 8, HEIGHT * 4],
        bounds_offset=[80, 40],
        area_mm2=dict.fromkeys((one.name for one in CLASSES), 0.1),
        geojson=None,
    )
    images = class_images(CLASSES)
    spec = PyramidSpec("s", HEIGHT, WIDTH, PlaneScale(4.0, 3.0, 0.5, 0.75), images)
    writer = PyramidWriter(tmp_path / "s.zarr", spec)
    append_both(writer, 0, plane, np.zeros((2, HEIGHT, WIDTH), np.uint8))
    writer.finish(attributes)
    return tmp_path / "s.zarr"


def write(path, *areas):
    features = [
        {
            "type": "Feature",
            "geometry": json.loads(shapely.to_geojson(shape)),
            "properties": {"classification": {"name": name, "color": [1, 2, 3]}},
        }
        for name, shape in areas
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def box(x, y, width, height):
    """Pixels of the result, in level-0 px from the slide's bounds as QuPath counts."""
    return shapely.box(x * 8 - 80, y * 4 - 40, (x + width) * 8 - 80, (y + height) * 4 - 40)


@pytest.mark.parametrize("block", [(1024, 4096), (16, 32)])
def test_only_what_is_annotated_counts_and_smaller_areas_win(
    run, result, plane, tmp_path, monkeypatch, block
):
    monkeypatch.setattr(slide_scores, "_BLOCK", block)
    drawn = write(
        tmp_path / "drawn.geojson",
        ("Gland", box(20, 15, 10, 20)),
        ("OTHER", box(10, 10, 100, 90)),
        ("Ignore*", box(40, 40, 7, 5)),
        ("Pen", box(60, 50, 9, 8)),
    )
    out = tmp_path / "scores.json"
    words = ("--leave-out", "pen", "--paper-metrics", "--json", out)
    code, said, told = run(result, "--annotations", drawn, *words)
    assert code == 0, told
    truth = np.zeros_like(plane)
    truth[10:100, 10:110] = 1
    truth[15:35, 20:30] = 2
    truth[40:45, 40:47] = truth[50:58, 60:69] = 0
    scores = json.loads(out.read_text())
    expected = [[((truth == i) & (plane == j)).sum() for j in range(3)] for i in (1, 2)]
    assert scores["confusion"]["counts"] == np.array(expected).tolist()
    assert scores["not_analysed"] == pytest.approx(
        ((plane == 0) & (truth > 0)).sum() / (truth > 0).sum()
    )
    assert scores["annotated_mm2"] == pytest.approx((truth > 0).sum() * 12e-6)
    assert "some model on case 7.mrxs, against drawn.geojson" in said
    assert "4 x 3 um per pixel" in said
    assert scores["per_class"]["gland"]["dice_ci"] is None
    for name, score in (("Dice", "dice"), ("IOU_Jaccard", "iou")):
        assert scores["paper"][name]["value"] == pytest.approx(scores["micro"][score])
    assert scores["micro"]["dice"] > scores["micro"]["pixel_accuracy"]
    assert "are one number" not in scores["micro"]["is"]


def test_names_that_differ(run, result, plane, tmp_path):
    drawn = write(
        tmp_path / "drawn.geojson", ("Tumor", box(0, 0, 10, 10)), ("Fat", box(20, 0, 10, 10))
    )
    words = (result, "--annotations", drawn)
    code, _, told = run(*words, "--same", "gland=Tumor")
    assert (code, len(told.splitlines())) == (2, 1)
    assert "the result has other, gland, the annotations Tumor, Fat: say what 'Fat' is" in told
    out = tmp_path / "scores.json"
    assert run(*words, "--same", "gland=tumor", "--same", "gland=fat", "--json", out)[0] == 0
    pixels = np.concatenate([plane[:10, :10], plane[:10, 20:30]])
    found = json.loads(out.read_text())["confusion"]["counts"]
    assert found == [[0, 0, 0], [0, int((pixels == 1).sum()), int((pixels == 2).sum())]]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--same", "glands=Tumor"), "no 'glands' (but other, gland); did you mean 'gland'?"),
        (("--same", "gland=Tumour"), "no 'Tumour' (but Tumor); did you mean 'Tumor'?"),
        (("--leave-out", "Ignor*"), "did you mean 'Ignore*'?"),
        (("--same", "gland=Tumor", "--same", "other=tumor"), "'tumor' two meanings"),
        (("--same", "gland=Tumor", "--leave-out", "tumor"), "'tumor' two meanings"),
    ],
)
def test_names_that_nobody_has_are_refused(run, result, tmp_path, words, expected):
    areas = ("Tumor", box(0, 0, 10, 10)), ("Ignore*", box(20, 0, 10, 10))
    drawn = write(tmp_path / "drawn.geojson", *areas)
    code, _, told = run(result, "--annotations", drawn, *words)
    assert (code, len(told.splitlines())) == (2, 1)
    assert expected in told
    code, _, told = run(
        *(result, "--annotations", drawn),
        *("--same", "Gland=TUMOR", "--same", "gland=Tumor", "--leave-out", "ignore*"),
    )
    assert code == 0, told


def test_wrong_usage_is_one_line(run, result, tmp_path):
    drawn = write(tmp_path / "drawn.geojson", ("gland", box(500, 0, 9, 9)))
    cases = {
        (result,): "--annotations FILE.geojson",
        (result, "--annotations", drawn): "is it of the same slide?",
        (result, "--annotations", tmp_path / "no.geojson"): "there is no such file",
        (tmp_path, "--annotations", drawn): "is not a result of wsi-segment",
        (result, "--annotations", drawn, "--split", "test"): "--split is for labelled patches",
        (result, "--annotations", drawn, "-b", "2"): "--batch-size is for labelled patches",
        (tmp_path, "--leave-out", "a"): "--leave-out",
    }
    for words, expected in cases.items():
        code, _, told = run(*words)
        errors = [line for line in told.splitlines() if line.startswith("error: ")]
        assert code == 2, told
        assert len(errors) == 1
        assert expected in errors[0]
        assert "Traceback" not in told


def test_a_result_scores_perfectly_against_its_own_polygons(run, painted, tmp_path):
    values = {"workers": 2, "device": "cpu", "region": (900, 700, 700, 600), "tissue": "none"}
    settings = SegmentSettings.build({**values, "geojson": str(tmp_path / "own.geojson")})
    made = segment_slide(painted.path, tmp_path / "a.zarr", settings=settings, model=make_stub())
    out = tmp_path / "scores.json"
    code, _, told = run(made.zarr, "--annotations", made.geojson, "--json", out)
    assert code == 0, told
    scores = json.loads(out.read_text())
    assert scores["micro"]["pixel_accuracy"] == 1
    assert scores["not_analysed"] == 0
    assert scores["annotated_mm2"] == pytest.approx(sum(made.attributes["area_mm2"].values()))
