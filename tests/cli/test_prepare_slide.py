"""Slides annotated in QuPath to patches, with the command line between."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import shapely

from wsi_sampath.cli import prepare
from wsi_sampath.data.patches import open_patches
from wsi_sampath.slides.slide import Slide

TUMOR = shapely.Point(1500, 1100).buffer(500).difference(shapely.Point(1500, 1100).buffer(200))


@pytest.fixture
def run(command):
    return command(prepare.main, "wsi-prepare", "slide")


def write(path, *areas):
    features = [
        {
            "type": "Feature",
            "geometry": json.loads(shapely.to_geojson(shape)),
            "properties": {"classification": {"name": name, "color": color}} if name else {},
        }
        for name, color, shape in areas
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


@pytest.fixture
def drawn(tmp_path):
    return write(
        tmp_path / "drawn.geojson",
        ("Tumor", [200, 0, 10], TUMOR),
        ("Tissue", [0, 200, 0], shapely.box(600, 400, 2600, 2400)),
        ("Ignore*", [9, 9, 9], shapely.box(700, 500, 900, 700)),
        (None, None, shapely.box(0, 0, 3000, 2300)),
    )


def labels_at(x0, y0, tile, zoom):
    centres = (np.arange(tile) + 0.5) * zoom
    x, y = np.meshgrid(x0 + centres, y0 + centres)
    truth = np.where((x > 600) & (x < 2600) & (y > 400) & (y < 2400), 2, 0)
    truth[shapely.contains_xy(TUMOR, x, y)] = 1
    truth[(x > 700) & (x < 900) & (y > 500) & (y < 700)] = 0
    truth[(x >= 3000) | (y >= 2300)] = 0
    return truth


@pytest.mark.parametrize("mpp", [0.5, 1.0])
def test_tiles_show_what_was_drawn(run, painted, drawn, tmp_path, mpp):
    out = tmp_path / "out"
    words = (painted.path, drawn, "--out", out, "--tile", 256, "--mpp", mpp)
    code, said, told = run(*words)
    assert code == 0, told
    assert "classes: Tumor, Tissue" in said
    assert "drawn.geojson: 1 area without a class left out" in told
    assert "--blocks splits within slides" in told
    found = open_patches(out)
    assert found.mpp == mpp
    assert [one.color for one in found.classes] == ["#c8000a", "#00c800"]
    assert {one.case for one in found.patches} == {"painted"}
    assert {one.split for one in found.patches} == {"train"}
    seen = 0
    with Slide.open(painted.path) as slide:
        for patch in found.patches:
            y0, x0 = map(int, patch.img_id.rsplit("_", 2)[1:])
            image, labels = found.read(patch)
            truth = labels_at(x0, y0, 256, mpp / 0.5)
            assert np.array_equal(labels, truth)
            assert np.array_equal(image, slide.read(x0=x0, y0=y0, width=256, height=256, mpp=mpp))
            seen += np.count_nonzero(labels)
    whole = labels_at(0, 0, round(3000 * 0.5 / mpp), mpp / 0.5)
    assert 0.98 * np.count_nonzero(whole) < seen <= np.count_nonzero(whole)
    assert run(*words)[0] == 0
    for other in ((*words[:-1], 0.7), (*words, "--slide-mpp", 0.4)):
        code, _, told = run(*other)
        assert code == 2
        assert "was begun with other" in told


def test_a_slide_with_bounds(run, painted, drawn, tmp_path, monkeypatch):
    monkeypatch.setattr(Slide, "bounds_offset", (-100, 60))
    assert run(painted.path, drawn, "--out", tmp_path / "out", "--tile", 512)[0] == 0
    found = open_patches(tmp_path / "out")
    for patch in found.patches[::5]:
        y0, x0 = map(int, patch.img_id.rsplit("_", 2)[1:])
        shifted = labels_at(x0 + 100, y0 - 60, 512, 1)
        beyond = (y0 + np.arange(512) >= 2300)[:, None] | (x0 + np.arange(512) >= 3000)
        assert np.array_equal(found.read(patch)[1], np.where(beyond, 0, shifted))


def test_classes_of_a_file_and_blocks(run, painted, drawn, tmp_path):
    classes = tmp_path / "classes.yaml"
    classes.write_text(
        "classes:\n- {name: all, color: '#102030', values: [tumor, Tissue]}\nignored: [Fat]\n"
    )
    out = tmp_path / "out"
    words = (painted.path, drawn, "--out", out, "--classes", classes)
    code, said, _ = run(*words, "--tile", 128, "--blocks", "--folds", 4)
    assert code == 0
    assert "classes: all" in said
    assert re.search(r"\d+ patches of \d+ blocks: ", said)
    found = open_patches(out)
    assert {one.split for one in found.patches} == {"train", "validation", "test"}
    places = {}
    for patch in found.patches:
        y0, x0 = map(int, patch.img_id.rsplit("_", 2)[1:])
        places.setdefault(patch.case, []).append((x0, y0))
    for tiles in places.values():
        assert np.ptp(tiles, axis=0).max() <= 2 * 128
    assert set(np.unique(found.read(found.patches[9])[1])) <= {0, 1}
    classes.write_text("classes:\n- {name: Tumor, color: '#102030'}\n")
    code, _, told = run(*words[:3], tmp_path / "other", *words[4:])
    assert code == 2
    assert "has annotations Tissue, which no class or 'ignored' names" in told
    classes.write_text("classes:\n- {name: Tumor, color: '#102030', values: [1]}\n")
    code, _, told = run(*words)
    assert code == 2
    assert "classes.0.values.0" in told


def test_a_list_of_slides_is_split_by_patient(run, painted, drawn, tmp_path):
    rows = ["slide,annotations,case"]
    for number in range(4):
        (tmp_path / f"s{number}.svs").symlink_to(painted.path)
        rows.append(f"s{number}.svs,{drawn.name},patient {number // 2}")
    (tmp_path / "all.csv").write_text("\n".join(rows))
    out = tmp_path / "out"
    words = ("--list", tmp_path / "all.csv", "--out", out, "--folds", 2, "--test", 0)
    code, said, told = run(*words, "--tile", 512, "--image-format", "jpg")
    assert code == 0, told
    found = open_patches(out)
    folds = {(one.case, one.fold) for one in found.patches}
    assert len(folds) == 2
    assert {case for case, _ in folds} == {"patient 0", "patient 1"}
    assert found.image_path(found.patches[0].img_id).suffix == ".jpg"
    assert len(found.patches) == 4 * len([p for p in found.patches if p.img_id.startswith("s0_")])
    assert told.count("is the same slide as s0.svs; leave one of them out") == 3


def test_wrong_usage_is_one_line(run, painted, drawn, tmp_path):
    out = ("--out", tmp_path / "out")
    (tmp_path / "bad.csv").write_text("slide,geojson\na,b\n")
    far = write(tmp_path / "far.geojson", ("a", [1, 2, 3], shapely.box(9000, 0, 9900, 900)))
    cases = {
        (painted.path, *out): "give every slide with its annotations",
        out: "either SLIDE",
        (painted.path, drawn, "--list", "x", *out): "either SLIDE",
        (painted.path, drawn, *out, "--tile", 0): "--tile",
        (painted.path, drawn, *out, "--min-labelled", 2): "--min-labelled",
        (painted.path, drawn, *out, "--min-labelled", 1): "no tile has enough labelled pixels",
        (painted.path, drawn, *out, "--mpp", -1): "--mpp",
        (painted.path, drawn, *out, "--mpp", "nan"): "--mpp",
        (painted.path, drawn, *out, "--image-format", "gif"): "--image-format",
        (painted.path, drawn, *out, "--classes", tmp_path / "no.yaml"): "there is no such file",
        (painted.path, drawn, painted.path, drawn, *out): "two slides have the name painted",
        (painted.path, painted.path, *out): "cannot be read as GeoJSON",
        (tmp_path / "none.svs", drawn, *out): "none.svs",
        ("--list", tmp_path / "bad.csv", *out): "line 2 has nothing in column slide or annotations",
        (painted.path, far, *out): "no tile has enough labelled pixels",
    }
    for words, expected in cases.items():
        code, _, told = run(*words)
        errors = [line for line in told.splitlines() if line.startswith("error: ")]
        assert code in (1, 2), told
        assert len(errors) == 1, told
        assert expected in errors[0], told
        assert "Traceback" not in told
        assert not (tmp_path / "out").exists()


def test_a_slide_that_is_not_the_annotated_one_is_told(run, painted, drawn, tmp_path):
    far = write(tmp_path / "far.geojson", ("Tumor", [1, 2, 3], shapely.box(9000, 0, 9900, 900)))
    (tmp_path / "other.svs").symlink_to(painted.path)
    code, _, told = run(painted.path, drawn, tmp_path / "other.svs", far, "--out", tmp_path / "o")
    assert code == 0, told
    assert "other.svs: no tile with enough annotations" in told
    assert "far.geojson: 1 of 1 area lies outside the slide" in told


def test_annotations_in_microns_or_far_from_tissue_are_told(run, painted, tmp_path):
    small = [("Tumor", [1, 2, 3], shapely.box(x, 5, x + 40, 60)) for x in (5, 50, 95)]
    beside = write(tmp_path / "um.geojson", *small)
    _, _, told = run(painted.path, beside, "--out", tmp_path / "o", "--min-labelled", 0)
    assert "um.geojson: only 0 % of what was drawn looks like tissue" in told
