from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from wsi_sampath.data.annotated import (
    AnnotatedSlide,
    NamedClass,
    NamedClasses,
    SlideTile,
    classes_as_found,
    plan_slides,
    read_named_classes,
)
from wsi_sampath.data.patches import open_patches
from wsi_sampath.data.prepare import prepare
from wsi_sampath.errors import UsageError, WsiError

RED = "#c80000"


def named(*classes, ignored=()):
    parts = [NamedClass(name=name, color=RED, values=values) for name, values in classes]
    return NamedClasses(classes=parts, ignored=ignored)


def test_names_mean_classes_whatever_their_capitals():
    classes = named(("tumor", ("DCIS", "Tumor")), ("Stroma", ()), ignored=("Pen",))
    found = classes.labels(["dcis", "TUMOR", "stroma", "pen"])
    assert found == {"dcis": 1, "TUMOR": 1, "stroma": 2, "pen": 0}
    with pytest.raises(WsiError, match="annotations Fat, Fold, which no class") as caught:
        classes.labels(["Fold", "Fat", "Tumor"], subject="a.geojson")
    assert caught.value.subject == "a.geojson"


def test_a_name_with_two_meanings_is_refused():
    with pytest.raises(ValidationError, match="two meanings: fat"):
        named(("a", ("Fat",)), ("b", ("fat",)))
    with pytest.raises(ValidationError, match="two meanings"):
        named(("a", ()), ignored=("A",))
    with pytest.raises(ValidationError, match="different names"):
        named(("a", ("x",)), ("A", ("y",)))


def test_classes_come_in_the_order_they_were_drawn():
    found = classes_as_found([{"Tumor": None, "Fat": "#112233"}, {"TUMOR": RED, "Nerve": None}])
    assert [one.name for one in found.classes] == ["Tumor", "Fat", "Nerve"]
    assert [one.color for one in found.classes][:2] == [RED, "#112233"]
    assert found.labels(["tumor", "Nerve"]) == {"tumor": 1, "Nerve": 3}


def test_the_classes_of_an_earlier_folder_can_be_taken(tmp_path):
    path = tmp_path / "classes.yaml"
    path.write_text(f"classes:\n- {{name: a, color: '{RED}'}}\nmpp: 0.5\n")
    assert read_named_classes(path).plain_classes[0].name == "a"
    path.write_text("classes: []\n")
    with pytest.raises(UsageError, match="classes"):
        read_named_classes(path)


def slide(tmp_path, name, columns, rows):
    for kind in (".svs", ".geojson"):
        (tmp_path / f"{name}{kind}").write_bytes(b"")
    tiles = tuple(SlideTile(8 * x, 8 * y, x, y) for y in range(rows) for x in range(columns))

    def read():
        for tile in tiles:
            yield np.full((8, 8, 3), tile.row, np.uint8), np.full((8, 8), 1, np.uint8)

    image, drawn = tmp_path / f"{name}.svs", tmp_path / f"{name}.geojson"
    return AnnotatedSlide(image, drawn, f"case of {name}", tiles, read)


def planned(slides, out, **options):
    values = {"classes": named(("a", ())), "mpp": 0.5, "options": {"tile": 8}, **options}
    return plan_slides(slides, out, **values)


def test_slides_are_split_by_case(tmp_path):
    slides = [slide(tmp_path, f"s{i}", 3, 2) for i in range(5)]
    plan = planned(slides, tmp_path / "out", folds=2)
    assert len(list(prepare(plan))) == 5
    found = open_patches(tmp_path / "out")
    assert [one.img_id for one in found.patches][:4] == ["s0_0_0", "s0_0_8", "s0_0_16", "s0_8_0"]
    folds = {(one.case, one.fold) for one in found.patches}
    assert len(folds) == 5
    assert {fold for _, fold in folds} == {-1, 0, 1}
    assert found.read(found.patches[3])[0].max() == 1


def test_blocks_split_a_slide_within_itself(tmp_path):
    plan = planned([slide(tmp_path, "s", 7, 4)], Path("out"), blocks=True, folds=2)
    assert len({one.case for one in plan.patches}) == 6
    sizes = [sum(p.case == f"case of s#{y}-{x}" for p in plan.patches) for y, x in ((0, 0), (1, 2))]
    assert sizes == [9, 1]
    assert {one.fold for one in plan.patches} == {-1, 0, 1}


def test_other_options_are_another_folder(tmp_path):
    slides = [slide(tmp_path, "s", 1, 1)]
    list(prepare(planned(slides, tmp_path / "out")))
    list(prepare(planned(slides, tmp_path / "out")))
    for changed in ({"mpp": 0.25}, {"options": {"tile": 16}}):
        with pytest.raises(UsageError, match="was begun with other"):
            list(prepare(planned(slides, tmp_path / "out", **changed)))


def test_nothing_to_cut_and_equal_names(tmp_path):
    with pytest.raises(UsageError, match="no tile has enough"):
        planned([slide(tmp_path, "s", 0, 0)], Path("out"))
    with pytest.raises(UsageError, match="two slides have the name s"):
        planned([slide(tmp_path, "s", 1, 1)] * 2, Path("out"))
