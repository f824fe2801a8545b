from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from wsi_sampath.data.grouping import guess_grouping, known_groupings, read_grouping
from wsi_sampath.errors import UsageError, WsiError
from wsi_sampath.slides.pictures import picture_of
from wsi_sampath.slides.regions.mask_image import Mask, mask_of

CODES = {
    "tumor": [1, 19, 20],
    "stroma": [2],
    "inflammatory": [3, 10, 11],
    "necrosis": [4],
}


def as_mask(image: Image.Image) -> Mask:
    return mask_of(picture_of(image))


@given(arrays.arrays(np.uint8, (5, 6)))
def test_glands_are_cut_at_128(mask):
    found = read_grouping("glands").labels(as_mask(Image.fromarray(mask)))
    assert np.array_equal(found, np.where(mask >= 128, 2, 1))


@given(arrays.arrays(np.uint8, (5, 6), elements=st.integers(0, 21)))
def test_bcss_codes_become_the_classes_of_the_paper(mask):
    grouping = read_grouping("bcss")
    names = [one.name for one in grouping.classes]
    found = grouping.labels(as_mask(Image.fromarray(mask)))
    for name, codes in CODES.items():
        assert np.array_equal(found == names.index(name) + 1, np.isin(mask, codes))
    assert np.array_equal(found == 0, mask == 0)


def test_bcss_table_covers_the_official_codes(data_folder):
    with (data_folder / "bcss" / "gtruth_codes.tsv").open(newline="") as file:
        codes = [int(row["GT_code"]) for row in csv.DictReader(file, delimiter="\t")]
    mask = np.array([codes], np.uint8)
    found = read_grouping("bcss").labels(as_mask(Image.fromarray(mask)))
    assert len(codes) == 22
    assert (found[0] > 0).sum() == 21


def test_values_outside_of_the_table_are_named():
    mask = Image.fromarray(np.array([[0, 22, 23, 24, 25]], np.uint8))
    with pytest.raises(WsiError) as error:
        read_grouping("bcss").labels(as_mask(mask), subject="m.png")
    assert "m.png: bad-input: mask holds 22, 23, 24 and 1 more" in str(error.value)
    with pytest.raises(WsiError, match="#0000ff"):
        read_grouping("rings").labels(as_mask(Image.new("RGB", (2, 2), (0, 0, 255))))


def test_colours_and_their_tolerance(tmp_path):
    path = tmp_path / "classes.yaml"
    path.write_text(
        "classes:\n"
        '- {name: a, color: "#123456", values: ["#00ff00"]}\n'
        'ignored: ["#000000"]\ntolerance: 10\n'
    )
    pixels = np.array([[[9, 246, 0], [0, 3, 10]]], np.uint8)
    assert read_grouping(path).labels(as_mask(Image.fromarray(pixels))).tolist() == [[1, 0]]
    pixels[0, 0, 0] = 11
    with pytest.raises(WsiError, match="#0bf600"):
        read_grouping(path).labels(as_mask(Image.fromarray(pixels)))


def test_the_nearest_colour_wins(tmp_path):
    path = tmp_path / "classes.yaml"
    path.write_text(
        "classes:\n"
        '- {name: a, color: "#123456", values: ["#ff0000"]}\n'
        '- {name: b, color: "#123456", values: ["#c80000"]}\n'
        "tolerance: 60\n"
    )
    pixels = np.array([[[255, 0, 0], [200, 0, 0], [228, 0, 0], [227, 9, 0]]], np.uint8)
    assert read_grouping(path).labels(as_mask(Image.fromarray(pixels))).tolist() == [[1, 2, 1, 2]]


@pytest.mark.parametrize("mode", ["L", "1", "I;16", "I", "P", "RGB", "RGBA", "LA"])
def test_kinds_of_files(mode):
    grey = Image.fromarray(np.array([[0, 255]], np.uint8))
    mask = Image.fromarray(np.array([[0, 255]], np.uint16)) if mode == "I;16" else grey
    if mode == "P":
        mask = Image.frombytes("P", (2, 1), bytes([0, 255]))
    found = read_grouping("glands").labels(
        as_mask(mask if mask.mode == mode else mask.convert(mode))
    )
    assert found.tolist() == [[1, 2]]


def test_instances_of_sixteen_bits():
    mask = Image.fromarray(np.array([[0, 1, 700]], np.uint16))
    assert read_grouping("crag").labels(as_mask(mask)).tolist() == [[1, 2, 2]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("classes: []", "classes"),
        ('classes: [{name: a, color: "#000000", values: [1, "1-3"]}]', "two classes: 1"),
        ('classes: [{name: a, color: "#000000", values: ["x"]}]', "'x' is not a number"),
        ('classes: [{name: a, color: "#000000", values: [70000]}]', "0..65535"),
        ('classes: [{name: a, color: "#000000", values: [1, "#00ff00"]}]', "all colours"),
        ('clases: [{name: a, color: "#000000", values: [1]}]', "'clases'; did you mean 'classes'"),
        ("classes: [{name: a, colour: x, values: [1]}]", "did you mean 'classes.0.color'"),
        ('classes: [{name: a, color: "#000000", values: ["#0f0"]}]', "'#0f0' is not a colour"),
        (
            'classes: [{name: a, color: "#000000", values: ["#00ff00"]}]\nignored: ["#00FF00"]',
            "two classes: #00ff00",
        ),
        (
            'classes: [{name: Fat, color: "#000000", values: [1]}, '
            '{name: fat, color: "#000000", values: [2]}]',
            "not 'Fat' and 'fat'",
        ),
        ("a: [", "is not YAML"),
    ],
)
def test_bad_tables_are_explained(tmp_path, text, words):
    path = tmp_path / "classes.yaml"
    path.write_text(text)
    with pytest.raises(UsageError) as error:
        read_grouping(path)
    assert words in str(error.value)


def test_unknown_names_list_the_known():
    assert {"bcss", "crag", "glands", "rings"} <= set(known_groupings())
    with pytest.raises(UsageError, match="known by name: bcss, consep, crag"):
        read_grouping("nonsense")


def guessed(*masks, lossy=False):
    read = (as_mask(Image.fromarray(np.array(one, np.uint8))) for one in masks)
    guess = guess_grouping((Path("m.png"), replace(one, lossy=lossy)) for one in read)
    return guess.grouping


def test_only_plain_masks_are_guessed():
    assert guessed([[0]], [[0, 3, 255]]) == read_grouping("glands")
    assert guessed([[0, 1]]) == read_grouping("instances")
    assert guessed([[0, 8]], [[3, 250]], lossy=True) == read_grouping("glands")
    with pytest.raises(UsageError, match="labels up to 7"):
        guessed([[0, 7]])
    with pytest.raises(UsageError, match="all masks are empty"):
        guessed([[0]])
    with pytest.raises(UsageError, match=r"coloured.*--classes"):
        guessed([[[255, 0, 0]]])


def test_every_mask_is_looked_at():
    with pytest.raises(UsageError, match="labels up to 3"):
        guessed([[0, 1]], [[0, 1, 2, 3]], [[0, 255]])
    with pytest.raises(UsageError, match=r"m\.png.*different values; say what.*--classes"):
        guessed([[0, 1]], [[0]], [[0, 255]])
    with pytest.raises(UsageError, match="labels up to 7"):
        guessed([[0, 255]], [[0, 7]])


def test_areas_of_grey_are_labels_and_soft_edges_are_not():
    labels = np.arange(201).repeat(16).reshape(-1, 4)
    with pytest.raises(UsageError, match="areas of 1, 2, 3 and"):
        guessed(labels)
    with pytest.raises(UsageError, match="areas of 1, not only black and white"):
        guessed(np.array([0, 1, 255]).repeat(16).reshape(-1, 4))
    y, x = np.indices((60, 60))
    distance = np.hypot(y - 30, x - 29)
    soft = np.clip(128 + 40 * (20 - distance), 0, 255)
    assert guessed(soft) == read_grouping("glands")
    # EBHI-Seg has masks whose white is 253 with a few pixels of 255.
    assert guessed(np.where(distance < 20, 253 + 2 * (x == 29), 0)) == read_grouping("glands")
    noisy = np.where(distance < 20, 250, 5)
    assert guessed(noisy, lossy=True) == read_grouping("glands")


def test_a_guess_says_what_became_what():
    def why(*masks):
        read = (as_mask(Image.fromarray(np.array(one, np.uint8))) for one in masks)
        return guess_grouping((Path("m.png"), one) for one in read).notes

    (told,) = why([[0, 255]])
    assert told == (
        "classes: other (black), gland (white), because the masks are black and white; name them "
        "with --classes (tumor, or a file)"
    )
    (told,) = why([[0, 1]])
    assert "other (0), gland (1), because the masks hold only 0 and 1" in told
    assert "tumor" not in told
    assert why([[255, 255]])[1] == "no mask has any black: every pixel is gland"
    assert len(why([[255, 255]], [[0, 0]])) == 1


def jpeg(values):
    return replace(as_mask(Image.fromarray(np.array(values, np.uint8))), lossy=True)


def test_lossy_compression_keeps_black_and_white_alone():
    ringing = jpeg([[0, 7, 16, 240, 255]])
    assert read_grouping("instances").labels(ringing).tolist() == [[1, 1, 1, 2, 2]]
    assert read_grouping("glands").labels(ringing).tolist() == [[1, 1, 1, 2, 2]]
    with pytest.raises(WsiError, match=r"labels up to 40.*save it as PNG"):
        read_grouping("instances").labels(jpeg([[0, 40]]))
    assert read_grouping("instances").notes(ringing) == (
        "mask: compressed with losses, so cut into black and white at 128",
    )
    assert read_grouping("glands").notes(ringing) == ()


def test_wide_ranges_are_taken_at_their_word_in_jpeg_too(tmp_path):
    path = tmp_path / "classes.yaml"
    path.write_text(
        "classes:\n"
        '- {name: a, color: "#123456", values: ["0-63"]}\n'
        '- {name: b, color: "#123456", values: ["64-191"]}\n'
        '- {name: c, color: "#123456", values: ["192-255"]}\n'
    )
    found = read_grouping(path).labels(jpeg(np.array([9, 120, 250]).repeat(30).reshape(9, 10)))
    assert np.unique(found).tolist() == [1, 2, 3]


def test_sixteen_bit_numbers_count_before_white_of_sixteen_bits(tmp_path):
    path = tmp_path / "classes.yaml"
    path.write_text(
        'classes: [{name: a, color: "#123456", values: [0]}, '
        '{name: b, color: "#123456", values: [65535]}]'
    )
    deep = as_mask(Image.fromarray(np.array([[0, 65535]], np.uint16)))
    assert read_grouping(path).labels(deep).tolist() == [[1, 2]]
    assert read_grouping("glands").labels(deep).tolist() == [[1, 2]]
