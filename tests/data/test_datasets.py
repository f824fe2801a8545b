from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from wsi_sampath.classes import ClassSpec
from wsi_sampath.data.patches import (
    Patch,
    check_patches,
    open_patches,
    read_rgb,
    write_classes,
    write_table,
)
from wsi_sampath.errors import WsiError

CLASSES = (ClassSpec(name="other", color="#000000"), ClassSpec(name="gland", color="#ff0000"))
PATCHES = [Patch("a", -1, "p,1"), Patch("b", 0, "p2"), Patch("c", 1, "p3"), Patch("d", 4, "p3")]


def write_text(folder, text):
    (folder / "classes.yaml").write_text(text)


@pytest.fixture
def folder(tmp_path):
    for name in ("img", "mask"):
        (tmp_path / name).mkdir()
    for number, patch in enumerate(PATCHES):
        image = np.full((6, 8, 3), number, np.uint8)
        suffix = "jpg" if number == 1 else "png"
        Image.fromarray(image).save(tmp_path / "img" / f"{patch.img_id}.{suffix}")
        Image.fromarray(np.full((6, 8), number % 3, np.uint8)).save(
            tmp_path / "mask" / f"{patch.img_id}.png"
        )
    write_classes(tmp_path, CLASSES, mpp=0.5)
    write_table(tmp_path, PATCHES)
    return tmp_path


def test_what_is_written_is_read(folder):
    found = open_patches(folder)
    assert (found.classes, found.mpp, list(found.patches)) == (CLASSES, 0.5, PATCHES)
    assert [one.img_id for one in found.split("test")] == ["a"]
    assert [one.img_id for one in found.split("validation")] == ["b"]
    assert [one.img_id for one in found.split("train")] == ["c", "d"]
    assert len(found.split("all")) == len(list(check_patches(found))) == 4
    image, mask = found.read(PATCHES[1])
    assert image.shape == (6, 8, 3)
    assert (mask == 1).all()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: (f / "img" / "b.jpg").unlink(), "img/b.png (or .jpg)"),
        (lambda f: (f / "mask" / "c.png").unlink(), "mask/c.png"),
        (lambda f: (f / "patches.csv").write_text("img_id,fold\na,1\n"), "no column case"),
        (lambda f: (f / "patches.csv").write_text("img_id,fold,case\na,x,p\n"), "line 2"),
        (lambda f: (f / "patches.csv").write_text("img_id,fold,case\na,-2,p\n"), "line 2"),
        (lambda f: (f / "patches.csv").write_text("img_id,fold,case\n"), "no patch"),
        (
            lambda f: (f / "patches.csv").write_text("img_id,fold,case\na,1,p\na,2,p\n"),
            "names a twice",
        ),
        (lambda f: (f / "classes.yaml").write_text("classes: []\n"), "classes"),
        (
            lambda f: write_text(f, "classes: [{name: a, color: '#000000'}]\nmpps: 1"),
            "unknown key 'mpps'; did you mean 'mpp'",
        ),
        (
            lambda f: write_text(
                f, "classes: [{name: A, color: '#000000'}, {name: a, color: '#000000'}]"
            ),
            "not 'A' and 'a'",
        ),
        (lambda f: (f / "classes.yaml").write_text("a: [\n"), "is not YAML"),
        (lambda f: (f / "classes.yaml").unlink(), "there is no such file"),
    ],
)
def test_what_is_wrong_with_the_folder_is_named(folder, spoil, words):
    spoil(folder)
    with pytest.raises(WsiError, match="bad-input") as error:
        open_patches(folder)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (np.zeros((6, 7), np.uint8), "mask is 7 x 6 px, its image 8 x 6 px"),
        (np.full((6, 8), 3, np.uint8), "holds label 3, but classes.yaml has 2 classes"),
        (np.zeros((6, 8, 3), np.uint8), "uint8 with 3 axes"),
    ],
)
def test_masks_are_checked(folder, mask, words):
    Image.fromarray(mask).save(folder / "mask" / "c.png")
    with pytest.raises(WsiError) as error:
        list(check_patches(open_patches(folder)))
    assert words in str(error.value)
    assert "c.png" in str(error.value)


def test_large_images_come_without_a_warning(folder, monkeypatch, recwarn):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)
    assert read_rgb(folder / "img" / "a.png").shape == (6, 8, 3)
    assert not list(recwarn)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    with pytest.raises(WsiError, match="cannot be read"):
        read_rgb(folder / "img" / "a.png")


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float32])
def test_more_than_eight_bits_are_refused(tmp_path, kind):
    path = tmp_path / "deep.tif"
    Image.fromarray(np.full((4, 5), 999, kind)).save(path)
    with pytest.raises(WsiError, match=r"deep\.tif.*more than 8 bits; save it as 8 bits"):
        read_rgb(path)


def test_a_damaged_header_is_one_line(folder):
    path = folder / "img" / "a.png"
    # The length of the first chunk, which must be 13.
    path.write_bytes(path.read_bytes()[:11] + b"\x05" + path.read_bytes()[12:])
    with pytest.raises(WsiError, match=r"a\.png: bad-input: cannot be read"):
        read_rgb(path)
