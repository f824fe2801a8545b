from __future__ import annotations

import errno
import os
import sys

import numpy as np
import pytest
from PIL import Image

from wsi_sampath.data.grouping import read_grouping
from wsi_sampath.data.patches import open_patches
from wsi_sampath.data.prepare import plan_patches, prepare
from wsi_sampath.errors import UsageError, WsiError


def paint(folder, names, *, suffix="png", size=(9, 7), values=(0, 255), mask_name="{}"):
    rng = np.random.default_rng(1)
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for name in names:
        image = Image.fromarray(rng.integers(0, 255, (*size, 3), np.uint8))
        image.save(folder / "images" / f"{name}.{suffix}")
        mask = Image.fromarray(rng.choice(np.array(values, np.uint8), size))
        mask.save(folder / "masks" / f"{mask_name.format(name)}.png")
    return [folder / "images"], [folder / "masks"]


def run(plan):
    return [source.image.name for source in prepare(plan)]


def written(folder):
    return {path: path.read_bytes() for path in folder.rglob("*.*")}


def test_masks_become_labels_and_images_stay(tmp_path):
    images, masks = paint(tmp_path, ["p1-a", "p1-b", "p2-a", "p3-a"], suffix="jpg")
    out = tmp_path / "out"
    run(plan_patches(images, masks, out, case=r"^(p\d)", test=0.25, folds=2, mpp=0.7))
    found = open_patches(out)
    assert found.mpp == 0.7
    assert [one.name for one in found.classes] == ["other", "gland"]
    assert [one.case for one in found.patches] == ["p1", "p1", "p2", "p3"]
    assert {one.split for one in found.patches} == {"train", "validation", "test"}
    for patch in found.patches:
        _, labels = found.read(patch)
        truth = np.asarray(Image.open(masks[0] / f"{patch.img_id}.png"))
        assert np.array_equal(labels, np.where(truth > 127, 2, 1))
        original = (images[0] / f"{patch.img_id}.jpg").read_bytes()
        assert found.image_path(patch.img_id).read_bytes() == original


def test_names_are_equal_however_a_system_writes_accents(tmp_path):
    images, masks = paint(tmp_path, ["Gr\u00f6\u00dfe 1"])
    mask = masks[0] / "Gr\u00f6\u00dfe 1.png"
    mask.rename(mask.with_name("Gro\u0308\u00dfe 1.PNG"))
    (masks[0] / "._Gr\u00f6\u00dfe 1.png").write_bytes(b"\0\5\26\7")
    run(plan_patches(images, masks, tmp_path / "out"))
    assert [one.img_id for one in open_patches(tmp_path / "out").patches] == ["Gr\u00f6\u00dfe 1"]


def test_images_in_a_format_that_is_not_read_are_named(tmp_path):
    images, masks = paint(tmp_path, ["a"])
    np.save(masks[0] / "a.npy", np.zeros((9, 7)))
    plan_patches(images, masks, tmp_path / "out")
    np.save(masks[0] / "b.npy", np.zeros((9, 7)))
    (images[0] / "b.HEIC").write_bytes(b"x")
    with pytest.raises(WsiError, match=r"b\.HEIC cannot be read here"):
        plan_patches(images, masks, tmp_path / "out")


def test_a_stopped_run_goes_on(tmp_path):
    images, masks = paint(tmp_path, ["a", "b", "c"])
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    run(plan_patches(images, masks, whole))
    steps = prepare(plan_patches(images, masks, stopped))
    next(steps)
    steps.close()
    assert not (stopped / "patches.csv").exists()
    first = stopped / "mask" / "a.png"
    before = first.stat().st_mtime_ns
    run(plan_patches(images, masks, stopped))
    assert first.stat().st_mtime_ns == before
    names = {path.relative_to(whole): data for path, data in written(whole).items()}
    assert {path.relative_to(stopped): data for path, data in written(stopped).items()} == names


def test_a_newer_source_is_done_again(tmp_path):
    images, masks = paint(tmp_path, ["a", "b"])
    out = tmp_path / "out"
    run(plan_patches(images, masks, out))
    Image.fromarray(np.full((9, 7), 255, np.uint8)).save(masks[0] / "a.png")
    run(plan_patches(images, masks, out))
    assert (np.asarray(Image.open(out / "mask" / "a.png")) == 2).all()


def test_other_settings_and_other_patches_are_refused(tmp_path):
    images, masks = paint(tmp_path, ["a", "b"])
    out = tmp_path / "out"
    run(plan_patches(images, masks, out))
    with pytest.raises(UsageError, match="other classes"):
        run(plan_patches(images, masks, out, grouping=read_grouping("tumor")))
    other = paint(tmp_path / "more", ["x"])
    with pytest.raises(UsageError, match=r"another source \(a, b\)"):
        run(plan_patches(*other, out))
    assert len(open_patches(out).patches) == 2


def test_an_image_that_changed_its_kind_leaves_no_other(tmp_path):
    images, masks = paint(tmp_path, ["a", "b"])
    out = tmp_path / "out"
    run(plan_patches(images, masks, out))
    Image.open(images[0] / "a.png").save(images[0] / "a.jpg")
    (images[0] / "a.png").unlink()
    run(plan_patches(images, masks, out))
    assert [one.name for one in sorted((out / "img").iterdir())] == ["a.jpg", "b.png"]


def test_a_folder_that_cannot_be_written_to(tmp_path):
    images, masks = paint(tmp_path, ["a", "b"])
    (tmp_path / "out").write_text("a file")
    with pytest.raises(WsiError, match="cannot be written to"):
        run(plan_patches(images, masks, tmp_path / "out"))


def test_a_full_disk(tmp_path, monkeypatch):
    def full(path, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    images, masks = paint(tmp_path, ["a", "b"])
    monkeypatch.setattr("wsi_sampath.data.prepare.write_atomically", full)
    with pytest.raises(WsiError, match="disk-full"):
        run(plan_patches(images, masks, tmp_path / "out"))


def test_missing_halves_are_named(tmp_path):
    images, masks = paint(tmp_path, ["a", "b", "c"])
    (masks[0] / "b.png").unlink()
    with pytest.raises(WsiError, match=r"no mask for b\.png"):
        plan_patches(images, masks, tmp_path / "out")
    (images[0] / "b.png").unlink()
    (images[0] / "c.png").unlink()
    with pytest.raises(WsiError, match=r"no image for mask c\.png"):
        plan_patches(images, masks, tmp_path / "out")


def test_sizes_must_agree(tmp_path):
    images, masks = paint(tmp_path, ["a"])
    Image.fromarray(np.full((9, 6), 255, np.uint8)).save(masks[0] / "a.png")
    with pytest.raises(WsiError, match="mask is 6 x 9 px, its image 7 x 9 px"):
        run(plan_patches(images, masks, tmp_path / "out"))
    assert not (tmp_path / "out" / "patches.csv").exists()


def test_masks_beside_images_as_in_glas(tmp_path):
    paint(tmp_path, ["train_1", "test_1"], suffix="bmp", values=(0, 1, 5), mask_name="{}_anno")
    for path in (tmp_path / "masks").iterdir():
        path.rename(tmp_path / "images" / path.name)
    both = [tmp_path / "images"]
    plan = plan_patches(
        both,
        both,
        tmp_path / "out",
        mask_suffix="_anno",
        grouping=read_grouping("instances"),
        test_cases="^test",
    )
    run(plan)
    found = open_patches(tmp_path / "out")
    assert {one.img_id: one.split for one in found.patches} == {
        "test_1": "test",
        "train_1": "train",
    }
    assert found.image_path("test_1").suffix == ".png"


def test_several_folders_keep_their_names_apart(tmp_path):
    one = paint(tmp_path / "polyp", ["x1"])
    two = paint(tmp_path / "normal", ["x1"])
    plan = plan_patches(one[0] + two[0], one[1] + two[1], tmp_path / "out")
    assert sorted(patch.img_id for patch in plan.patches) == ["normal__x1", "polyp__x1"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"case": "("}, "not a regular expression"),
        ({"case": "z"}, "finds no case"),
        ({"test_cases": "z"}, "matches no case"),
        ({"folds": 1}, "--folds"),
        ({"test": 1.0}, "--test"),
        ({"mpp": -1.0}, "--mpp"),
        ({"mpp": float("nan")}, "--mpp"),
        ({"mpp": float("inf")}, "--mpp"),
    ],
)
def test_bad_options(tmp_path, options, words):
    with pytest.raises(UsageError, match=words):
        plan_patches(*paint(tmp_path, ["a", "b"]), tmp_path / "out", **options)


def test_real_ebhi(data_folder, tmp_path):
    folders = [data_folder / "ebhi_seg" / kind for kind in ("polyp", "normal")]
    plan = plan_patches(
        [one / "image" for one in folders],
        [one / "label" for one in folders],
        tmp_path,
        case=r"(\d+)-\d+-400",
    )
    run(plan)
    found = open_patches(tmp_path)
    assert len(found.patches) == 96
    image, labels = found.read(found.patches[0])
    assert image.shape == (224, 224, 3)
    assert set(np.unique(labels)) == {1, 2}
    folds = {}
    for patch in found.patches:
        assert folds.setdefault(patch.case, patch.fold) == patch.fold


def test_real_rings_and_ocdc(data_folder, tmp_path):
    for name, grouping, labels in (("rings", "rings", {1, 2, 3}), ("ocdc", "tumor", {1, 2})):
        folder = data_folder / name
        plan = plan_patches(
            [folder / "images"],
            [folder / "masks"],
            tmp_path / name,
            grouping=read_grouping(grouping),
        )
        run(plan)
        found = open_patches(tmp_path / name)
        seen = set()
        for patch in found.patches:
            seen |= set(np.unique(found.read(patch)[1]).tolist())
        assert seen == labels


def test_equal_names_at_old_times_elsewhere_are_another_source(tmp_path):
    out = tmp_path / "out"
    for values in ((0, 255), (255, 255)):
        images, masks = paint(tmp_path / f"{values[0]}", ["a", "b"], values=values)
        for path in (*images[0].iterdir(), *masks[0].iterdir()):
            os.utime(path, (1e9, 1e9))
        run(plan_patches(images, masks, out))
    assert (np.asarray(Image.open(out / "mask" / "a.png")) == 2).all()


def test_an_image_that_is_lost_or_empty_is_done_again(tmp_path):
    images, masks = paint(tmp_path, ["a", "b", "c"])
    out = tmp_path / "out"
    run(plan_patches(images, masks, out))
    before = written(out)
    (out / "img" / "a.png").unlink()
    (out / "img" / "b.png").write_bytes(b"")
    (out / "mask" / "c.png").write_bytes(b"")
    run(plan_patches(images, masks, out))
    assert written(out) == before


def test_without_a_finished_patch_other_classes_begin_anew(tmp_path):
    images, masks = paint(tmp_path, ["a", "b"], values=(0, 7))
    out = tmp_path / "out"
    with pytest.raises(WsiError, match="mask holds #070707"):
        run(plan_patches(images, masks, out, grouping=read_grouping("rings")))
    run(plan_patches(images, masks, out, grouping=read_grouping("instances")))
    assert len(open_patches(out).patches) == 2


def test_folders_of_the_same_parts_have_different_names(tmp_path):
    folders = [paint(tmp_path / one / other, ["x"]) for one, other in ("pq", "qp")]
    images, masks = ([one[kind][0] for one in folders] for kind in (0, 1))
    plan = plan_patches(images, masks, tmp_path / "out")
    assert [patch.img_id for patch in plan.patches] == ["p__q__x", "q__p__x"]
    more = paint(tmp_path / "p__q", ["x"])
    with pytest.raises(WsiError, match=r"p__q__x would be the names of two images"):
        plan_patches([*images, *more[0]], [*masks, *more[1]], tmp_path / "out")


def test_a_folder_within_another_keeps_a_name(tmp_path):
    one, two = paint(tmp_path / "a", ["x"]), paint(tmp_path / "a" / "b", ["x"])
    plan = plan_patches(one[0] + two[0], one[1] + two[1], tmp_path / "out")
    assert [patch.img_id for patch in plan.patches] == ["images__x", "b__images__x"]


def test_no_image_is_taken_twice(tmp_path):
    images, masks = paint(tmp_path, ["a", "b"])
    with pytest.raises(UsageError, match="already among those of"):
        plan_patches(images * 2, masks * 2, tmp_path / "out")
    paint(tmp_path / "images", ["c"])
    within = [tmp_path / "images" / "images"]
    with pytest.raises(UsageError, match="already among those of"):
        plan_patches(images + within, masks * 2, tmp_path / "out")


def test_images_masks_and_output_lie_apart(tmp_path):
    images, masks = paint(tmp_path, ["a", "b"])
    for out in (images[0], images[0] / "out", masks[0] / "out"):
        with pytest.raises(UsageError, match="--out lies in"):
            plan_patches(images, masks, out)
    with pytest.raises(UsageError, match="--mask-suffix"):
        plan_patches(images, images, tmp_path / "out")
    images[0].rename(tmp_path / "img")
    masks[0].rename(tmp_path / "mask")
    before = written(tmp_path)
    with pytest.raises(UsageError, match="the sources .* themselves"):
        run(plan_patches([tmp_path / "img"], [tmp_path / "mask"], tmp_path))
    assert written(tmp_path) == before


def test_sixteen_bits_are_not_made_white(tmp_path):
    images, masks = paint(tmp_path, ["a", "b"])
    Image.fromarray(np.full((9, 7), 4000, np.uint16)).save(images[0] / "b.png")
    with pytest.raises(WsiError, match=r"b\.png.*more than 8 bits"):
        run(plan_patches(images, masks, tmp_path / "out"))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no file can have such a name")
def test_a_name_that_is_no_text_is_one_line(tmp_path):
    images, masks = paint(tmp_path, [os.fsdecode(b"a\xff")])
    with pytest.raises(WsiError, match=r"a\?\.png: bad-input: its name is not UTF-8"):
        plan_patches(images, masks, tmp_path / "out")
