"""Masks come back as their prompts went out, in order, valid, whatever stopped the program."""

from __future__ import annotations

import errno
import json
import math

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from wsi_sampath.errors import WsiError
from wsi_sampath.outputs.nuclei.mask_outline import outline_of_mask
from wsi_sampath.outputs.qupath.packing import is_whole, read_members, run_of
from wsi_sampath.outputs.qupath.rules import judge_geojson
from wsi_sampath.prompt_files import mask_file
from wsi_sampath.prompt_files.answer import Answer, Mask, Unanswered
from wsi_sampath.prompt_files.mask_features import MaskRun, on_slide
from wsi_sampath.prompt_files.mask_file import MaskFile
from wsi_sampath.prompt_files.prompt import Prompt, PromptFile, Refused

RUN = MaskRun("ab" * 16, "wsi-sam", "0123456789abcdef" * 4, (1000, 800), (0.25, 0.5), (100, 50))
UUIDS = [f"8d54cf0a-dbb6-42f3-9264-{n:012d}" for n in range(9)]
POINT = {"points": np.array([[300.0, 300.0]]), "labels": np.array([1])}
READ = PromptFile(
    (
        Prompt(UUIDS[3], "gland 1", "Tumor", "#c80001", **POINT, where="object 1"),
        Prompt(UUIDS[1], **POINT, where="object 2"),
        Prompt(UUIDS[2], "q\n\udcff\"'", "Ignore: Me", color="#ff0102", **POINT, where="object 3"),
        Prompt(UUIDS[0], class_name="Region*", **POINT, where="object 5"),
    ),
    (Refused("object 4", "its area is empty", id=UUIDS[8], name="flat"),),
)
RING = shapely.box(200, 200, 300, 300) - shapely.box(240, 240, 260, 260)
TWO = shapely.MultiPolygon([shapely.box(200, 100, 210, 110), shapely.box(210, 110, 220.125, 120)])


def answer(number, *outlines, is_coarser=False, is_cut=False):
    masks = tuple(Mask(one, 0.9 - 0.12345678 * n) for n, one in enumerate(outlines))
    return Answer(number, masks, 0.5, is_coarser, is_cut)


ANSWERS = (
    answer(2, TWO, is_coarser=True, is_cut=True),
    Unanswered(1, "the field is glass"),
    answer(0, RING),
    answer(3, RING, TWO, shapely.box(2000, 0, 2010, 10)),
)


def write(path, answers=ANSWERS, run=RUN):
    with MaskFile(path, READ, run) as file:
        remaining = file.remaining()
        for one in answers:
            if one.prompt in remaining:
                file.add(one)
    return file.close()


def content(path):
    (raw,) = [json.loads(text) for _, text in read_members(path)]
    return raw


def test_masks_come_back_as_their_prompts_went_out(tmp_path):
    path = tmp_path / "masks.geojson"
    written = write(path)
    whole = content(path)
    features = whole["features"]
    assert [one["id"] for one in features[:3]] == [UUIDS[3], UUIDS[2], UUIDS[0]]
    assert features[0]["properties"] == {
        "objectType": "annotation",
        "name": "gland 1",
        "classification": {"name": "Tumor", "color": [200, 0, 1]},
        "measurements": {"Area µm^2": 1200.0, "quality": 0.9, "mpp": 0.5},
        "metadata": {"model": "wsi-sam", "weights": "0123456789ab"},
    }
    properties = features[1]["properties"]
    assert properties["name"] == "q\n\udcff\"'"
    assert properties["color"] == [255, 1, 2]
    seen, cut = properties["metadata"]["note"].split("; ")
    assert seen.startswith("seen at 0.5 um per pixel")
    assert cut.startswith("cut by the edge")
    hole = shapely.from_geojson(json.dumps(features[0]["geometry"]))
    assert hole.equals(shapely.transform(RING, lambda xy: xy - [100, 50]))
    assert features[1]["geometry"]["type"] == "MultiPolygon"
    assert shapely.from_geojson(json.dumps(features[1]["geometry"])).bounds == (100, 50, 120.12, 70)
    assert [one["properties"]["measurements"]["candidate"] for one in features[2:]] == [1, 2]
    assert len({one["id"] for one in features}) == 4
    assert (written.masks, written.answered) == (4, 3)
    assert [one.line() for one in written.problems] == [
        f"object 4 ('flat', id {UUIDS[8]}): its area is empty",
        f"object 2 (id {UUIDS[1]}): the field is glass",
    ]
    assert judge_geojson(path) == []
    assert run_of(path) == RUN.run
    assert is_whole(path)
    assert whole["wsi_sampath"] == {
        "run": RUN.run,
        "model": "wsi-sam",
        "weights_sha256": RUN.weights_sha256,
        "prompts": 4,
        "unanswered": [
            {"where": "object 2", "id": UUIDS[1], "reason": "the field is glass"},
        ],
        "refused": [
            {
                "where": "object 4",
                "id": UUIDS[8],
                "name": "flat",
                "reason": "its area is empty",
            },
        ],
    }
    assert [one.name for one in tmp_path.iterdir()] == ["masks.geojson"]


@pytest.mark.parametrize("suffix", [".json", ".geojson.gz", ".geojson.zip"])
def test_containers_hold_the_same(tmp_path, suffix):
    write(tmp_path / "a.geojson")
    write(tmp_path / f"b{suffix}")
    assert content(tmp_path / f"b{suffix}") == content(tmp_path / "a.geojson")
    assert judge_geojson(tmp_path / f"b{suffix}") == []


def answer_some(path, count):
    with MaskFile(path, READ, RUN) as file:
        for one in ANSWERS[:count]:
            file.add(one)
        raise KeyboardInterrupt


def stopped(path, count):
    with pytest.raises(KeyboardInterrupt):
        answer_some(path, count)
    assert not path.exists()
    return path.with_name(path.name + ".answers")


@pytest.mark.parametrize("count", range(5))
@pytest.mark.parametrize("harm", ["none", "cut", "zeros", "changed"])
def test_a_stop_changes_nothing(tmp_path, count, harm):
    written = write(tmp_path / "whole.geojson")
    assert (written.coarser, written.cut) == (1, 1)
    path = tmp_path / "masks.geojson"
    journal = stopped(path, count)
    raw = journal.read_bytes()
    whole = {
        "none": raw,
        "cut": raw[:-20],
        "zeros": raw[:-20] + bytes(20),
        "changed": raw[:-20] + b"7" + raw[-19:],
    }
    journal.write_bytes(whole[harm])
    with MaskFile(path, READ, RUN) as file:
        left = file.remaining()
        assert len(left) == 4 - (count if harm == "none" else max(0, count - 1))
        assert file.torn == (harm == "changed" and count > 0)
        for one in reversed(ANSWERS):
            if one.prompt in left:
                file.add(one)
    assert file.close() == written
    assert path.read_bytes() == (tmp_path / "whole.geojson").read_bytes()
    assert not journal.exists()


def test_a_line_torn_among_others_is_asked_for_again(tmp_path):
    journal = stopped(tmp_path / "masks.geojson", 3)
    lines = journal.read_bytes().splitlines(keepends=True)
    lines[2] = bytes(len(lines[2]) - 1) + b"\n"
    journal.write_bytes(b"".join(lines))
    with MaskFile(tmp_path / "masks.geojson", READ, RUN) as file:
        assert file.remaining() == [1, 3]
        assert file.torn == 1
        for one in (ANSWERS[1], ANSWERS[3]):
            file.add(one)
    write(tmp_path / "whole.geojson")
    assert (tmp_path / "masks.geojson").read_bytes() == (tmp_path / "whole.geojson").read_bytes()


def test_answers_of_another_run_do_not_count(tmp_path):
    stopped(tmp_path / "masks.geojson", 3)
    other = MaskRun("cd" * 16, "sam", "9" * 64, (1000, 800), (0.25, 0.5))
    assert write(tmp_path / "masks.geojson", run=other).masks == 4
    assert content(tmp_path / "masks.geojson")["wsi_sampath"]["model"] == "sam"


def test_a_foreign_file_is_not_touched(tmp_path):
    (tmp_path / "masks.geojson.answers").write_text("what I answered\nthem\n")
    with pytest.raises(WsiError, match="not ours"):
        MaskFile(tmp_path / "masks.geojson", READ, RUN)
    assert (tmp_path / "masks.geojson.answers").read_text() == "what I answered\nthem\n"
    with pytest.raises(WsiError, match="the name must end in"):
        MaskFile(tmp_path / "masks.txt", READ, RUN)


def test_a_file_with_prompts_left_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="no answer yet"):
        write(tmp_path / "masks.geojson", ANSWERS[:2])
    assert not (tmp_path / "masks.geojson").exists()
    assert write(tmp_path / "masks.geojson", ANSWERS[2:]).answered == 3


def test_a_full_disk_costs_no_answer(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as patch:
        patch.setattr(mask_file, "pack", fail)
        with pytest.raises(WsiError, match="no space left while writing the masks"):
            write(tmp_path / "masks.geojson")
    assert [one.name for one in tmp_path.iterdir()] == ["masks.geojson.answers"]
    assert write(tmp_path / "masks.geojson", ()).masks == 4


def test_a_mask_of_which_nothing_is_left_is_a_problem(tmp_path):
    far = [answer(n, shapely.box(2000, 0, 2010, 10)) for n in range(4)]
    written = write(tmp_path / "masks.geojson", [*far[:3], answer(3, RING)])
    assert written.masks == 1
    assert [one.reason for one in written.problems[1:]] == ["its mask is empty"] * 3


masks = st_numpy.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9)))
steps = st.sampled_from([0.07, 0.31, 1.0, 1.7, math.pi, 16.0])


@settings(max_examples=60)
@given(masks, st.tuples(steps, steps), st.tuples(st.integers(-40, 1000), st.integers(-40, 800)))
def test_an_outline_is_its_mask_exactly(mask, scale, origin):
    outline = outline_of_mask(mask, origin=origin, scale=scale)
    if outline is None:
        assert not mask.any()
        return
    assert outline.is_valid
    assert outline.area == pytest.approx(mask.sum() * scale[0] * scale[1])
    rows, columns = np.indices(mask.shape) + 0.5
    x, y = columns * scale[0] + origin[0], rows * scale[1] + origin[1]
    assert (shapely.contains_xy(outline, x, y) == mask).all()
    shape = on_slide(outline, RUN.slide_size, RUN.bounds_offset)
    inside = shapely.box(0, 0, 1000, 800)
    left = outline.intersection(inside).area
    if shape is None:
        assert left < 0.01
        return
    assert shape.is_valid
    assert shape.geom_type in ("Polygon", "MultiPolygon")
    points = shapely.get_coordinates(shape)
    assert (points.round(2) == points).all()
    assert inside.covers(shapely.transform(shape, lambda xy: np.round(xy + [100, 50], 2)))
    assert shape.area == pytest.approx(left, abs=0.006 * shape.length + 0.001)
