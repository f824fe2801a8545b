from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from wsi_sampath.data.bcss import (
    SCANNED_AT_20X,
    SIDE_PX,
    TEST_INSTITUTIONS,
    differs,
    measured_mpp,
    parse_region,
    plan_bcss,
    region_patches,
    split_patches,
    tile_offsets,
    warnings_about,
)
from wsi_sampath.data.patches import open_patches
from wsi_sampath.data.prepare import prepare
from wsi_sampath.errors import UsageError, WsiError


@given(st.integers(1, 12000))
def test_the_fewest_tiles_cover_an_axis_evenly(length):
    offsets = tile_offsets(length)
    assert len(offsets) == max(1, -(-length // SIDE_PX))
    assert offsets[0] == 0
    if length >= SIDE_PX:
        assert offsets[-1] + SIDE_PX == length
    steps = np.diff(offsets)
    assert not len(steps) or (steps.max() <= SIDE_PX and steps.max() - steps.min() <= 1)


def test_names_of_regions():
    region = parse_region("TCGA-OL-A5D6-DX1_xmin115108_ymin40554_MPP-0.2500")
    assert (region.case, region.institution, region.mpp) == ("TCGA-OL-A5D6", "OL", 0.25)
    assert list(region_patches(region, 1024, 1500))[1].endswith("MPP-0.2500_476_0")
    with pytest.raises(WsiError, match="is not a region of BCSS"):
        parse_region("something")


# Where the authors' tiles lie: the last offsets of their published table give the images' sizes.
AUTHORS = {
    "TCGA-A1-A0SK-DX1_xmin45749_ymin25055": ((0, 722, 1443), (0, 790, 1580, 2370)),
    "TCGA-A2-A0YE-DX1_xmin59206_ymin33505": ((0, 938, 1875, 2812), (0, 923, 1846, 2769)),
    "TCGA-AO-A124-DX1_xmin16436_ymin1748": ((0, 723, 1446, 2169), (0, 622, 1244)),
    "TCGA-E2-A158-DX1_xmin56083_ymin25872": ((0, 553, 1105), (0, 707, 1414, 2121)),
    "TCGA-E2-A1AZ-DX1_xmin50286_ymin17075": ((0, 1012, 2023), (0, 843, 1685)),
    "TCGA-E2-A14N-DX1_xmin21383_ymin66838": (
        (0, 820, 1639, 2458, 3277),
        (0, 945, 1889, 2833, 3777, 4721, 5665),
    ),
}


def authors_sizes():
    return {
        f"{name}_MPP-0.2500": (columns[-1] + SIDE_PX, rows[-1] + SIDE_PX)
        for name, (rows, columns) in AUTHORS.items()
    }


@pytest.mark.parametrize("name", AUTHORS)
def test_the_authors_tiles_come_out(name):
    rows, columns = AUTHORS[name]
    region = parse_region(f"{name}_MPP-0.2500")
    found = region_patches(region, *authors_sizes()[region.name])
    assert set(found) == {f"{region.name}_{y}_{x}" for y in rows for x in columns}


def test_the_authors_images_had_larger_pixels_than_their_names_say():
    sizes = authors_sizes()
    assert measured_mpp(sizes) == 0.3
    for name, size in sizes.items():
        assert measured_mpp({name: size}) == pytest.approx(0.3, abs=0.0101)
    assert differs(0.3, 0.25)
    assert not differs(None, 0.25)


def test_true_pixel_sizes_are_no_contradiction(data_folder):
    sizes = {}
    with (data_folder / "bcss" / "roiBounds.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            x, y, right, bottom = (int(row[name]) for name in ("xmin", "ymin", "xmax", "ymax"))
            zoom = 2 if row[""][:12] in SCANNED_AT_20X else 1
            name = f"{row['']}_xmin{x}_ymin{y}_MPP-0.2500"
            sizes[name] = (zoom * (right - x), zoom * (bottom - y))
    assert len(sizes) == 151
    assert measured_mpp(sizes) == 0.25
    assert all(measured_mpp({name: size}) == 0.25 for name, size in sizes.items())
    name = next(iter(sizes))
    assert measured_mpp({name: (100, 900)}) is None
    assert measured_mpp({"TCGA-A1-A0SK-DX1_xmin1_ymin2_MPP-0.2500": (100, 100)}) is None


def all_cases(data_folder):
    with (data_folder / "bcss" / "roiBounds.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    cases = {}
    for row in rows:
        x, y, right, bottom = (int(row[name]) for name in ("xmin", "ymin", "xmax", "ymax"))
        region = parse_region(f"{row['']}_xmin{x}_ymin{y}_MPP-0.2500")
        cases |= dict.fromkeys(region_patches(region, right - x, bottom - y), region.case)
    return cases


def test_splits_of_all_regions(data_folder):
    cases = all_cases(data_folder)
    folds = split_patches(cases)
    test = {cases[one] for one, fold in folds.items() if fold == -1}
    assert len(test) == 45
    assert test == {case for case in cases.values() if case[5:7] in TEST_INSTITUTIONS}
    by_case = {}
    for one, fold in folds.items():
        assert by_case.setdefault(cases[one], fold) == fold
    sizes = Counter(folds.values())
    assert max(sizes[fold] for fold in range(5)) - min(sizes[fold] for fold in range(5)) <= 10


def test_the_paper_s_validation_leaks_as_it_did(data_folder):
    cases = all_cases(data_folder)
    folds = split_patches(cases, paper_compatible=True)
    validated = {cases[one] for one, fold in folds.items() if fold == 0}
    trained = {cases[one] for one, fold in folds.items() if fold > 0}
    assert len(validated & trained) > 80
    assert {one for one, fold in folds.items() if fold == -1} == {
        one for one, fold in split_patches(cases).items() if fold == -1
    }


def test_slides_of_20x(data_folder):
    with (data_folder / "bcss" / "slide_magnifications.csv").open(newline="") as file:
        slow = {row[""] for row in csv.DictReader(file) if float(row["magnification"]) < 40}
    assert slow == SCANNED_AT_20X


def region_files(root, name, codes, images="rgbs_colorNormalized"):
    for folder in (images, "masks"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    rgb = np.stack([codes * 9, 255 - codes, codes], axis=-1).astype(np.uint8)
    Image.fromarray(rgb).save(root / images / f"{name}.png", compress_level=1)
    Image.fromarray(codes).save(root / "masks" / f"{name}.png", compress_level=1)


def painted(rng, height, width):
    return rng.integers(0, 22, (height, width), np.uint8)


NAMES = {
    "TCGA-OL-A5D6-DX1_xmin1_ymin2_MPP-0.2500": (1100, 1024),
    "TCGA-A8-A07C-DX1_xmin1_ymin2_MPP-0.2500": (1024, 1200),
    "TCGA-A1-A0SK-DX1_xmin1_ymin2_MPP-0.2500": (1024, 1024),
}


def test_a_painted_release(tmp_path):
    rng = np.random.default_rng(0)
    codes = {name: painted(rng, *size) for name, size in NAMES.items()}
    for name, one in codes.items():
        region_files(tmp_path, name, one)
    plan = plan_bcss(tmp_path, tmp_path / "out", folds=2)
    assert [words in warnings_about(plan)[0] for words in ("1 slide was", "TCGA-A8-A07C")] == [
        True
    ] * 2
    list(prepare(plan))
    found = open_patches(tmp_path / "out")
    assert (found.mpp, len(found.patches)) == (0.25, 5)
    assert Counter(one.split for one in found.patches) == {"test": 2, "train": 2, "validation": 1}
    for patch in found.patches:
        name, y, x = patch.img_id.rsplit("_", 2)
        box = np.s_[int(y) : int(y) + 1024, int(x) : int(x) + 1024]
        image, labels = found.read(patch)
        assert np.array_equal(image[..., 2], codes[name][box])
        assert np.array_equal(labels == 0, codes[name][box] == 0)
        assert np.array_equal(labels == 1, np.isin(codes[name][box], [1, 19, 20]))


def test_large_pixels_are_told(tmp_path):
    name = "TCGA-AO-A124-DX1_xmin16436_ymin1748_MPP-0.2500"
    region_files(tmp_path, name, np.ones((3193, 2268), np.uint8))
    plan = plan_bcss(tmp_path, tmp_path / "out")
    list(prepare(plan))
    assert open_patches(tmp_path / "out").mpp == 0.3
    told = warnings_about(plan)
    assert "scanned at 20x" in told[0]
    assert "about 0.3 um per pixel" in told[1]


def test_a_code_outside_of_the_table_is_named(tmp_path):
    name = next(iter(NAMES))
    region_files(tmp_path, name, np.full((1024, 1024), 22, np.uint8))
    with pytest.raises(WsiError, match=f"{name}.png: bad-input: mask holds 22"):
        list(prepare(plan_bcss(tmp_path, tmp_path / "out")))


def test_a_folder_that_is_no_bcss(tmp_path):
    with pytest.raises(UsageError, match="rgbs_colorNormalized"):
        plan_bcss(tmp_path, tmp_path / "out")


@pytest.mark.slow
def test_real_codes(data_folder, tmp_path):
    mask = next((data_folder / "bcss" / "masks").glob("*.png"))
    codes = np.asarray(Image.open(mask))
    name = "TCGA-A2-A0YE-DX1_xmin59206_ymin33505_MPP-0.2500"
    region_files(tmp_path, name, codes, images="images")
    plan = plan_bcss(tmp_path, tmp_path / "out", image_format="jpg")
    list(prepare(plan))
    found = open_patches(tmp_path / "out")
    assert len(found.patches) == 25
    assert {one.case for one in found.patches} == {"TCGA-A2-A0YE"}
    seen = np.zeros(codes.shape, np.uint8)
    for patch in found.patches:
        y, x = map(int, patch.img_id.rsplit("_", 2)[1:])
        seen[y : y + 1024, x : x + 1024] = found.read(patch)[1]
    expected = {0: 0, 1: 1, 2: 2, 3: 3, 7: 5, 13: 5, 18: 5}
    for code, label in expected.items():
        assert (seen[codes == code] == label).all()
    assert Path(found.image_path(found.patches[0].img_id)).suffix == ".jpg"
