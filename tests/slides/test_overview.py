"""Damaged levels: the overview comes from intact ones, and what is unknown stays unknown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from wsi_sampath.errors import WsiError
from wsi_sampath.slides.overview import read_overview
from wsi_sampath.slides.readers.base import TileError
from wsi_sampath.slides.regions.find import find_tissue
from wsi_sampath.slides.sampling import plan_sampling, snap_levels
from wsi_sampath.slides.slide import Slide

WIDTH, HEIGHT, TILE = 2048, 1536, 256


def tissue_on_glass() -> np.ndarray:
    rng = np.random.default_rng(1)
    picture = np.full((HEIGHT, WIDTH, 3), 244, np.float32)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    inside = ((columns - 700) / 450) ** 2 + ((rows - 800) / 380) ** 2 < 1
    picture[inside] = (180, 90, 150)
    picture += rng.normal(0, 8, picture.shape)
    return picture.clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("overview") / "whole.svs"
    rgb = tissue_on_glass()
    note = f"Aperio Image Library v11.2.1\n{WIDTH}x{HEIGHT}|AppMag = 20|MPP = 0.5"
    with tifffile.TiffWriter(path) as tiff:
        for factor in (1, 2, 4):
            cells = rgb.reshape(HEIGHT // factor, factor, WIDTH // factor, factor, 3)
            tiff.write(
                cells.mean((1, 3)).round().astype(np.uint8),
                tile=(TILE, TILE),
                photometric="rgb",
                compression="jpeg",
                description=note,
                metadata=None,
                subfiletype=int(factor > 1),
            )
    return path


def damaged(source: Path, target: Path, level: int, tiles: list[int] | None = None) -> Path:
    """Copy a slide with some tiles, or all, of a level overwritten by zeros."""
    data = bytearray(source.read_bytes())
    with tifffile.TiffFile(source) as tiff:
        page = tiff.pages[level]
        for index in range(len(page.dataoffsets)) if tiles is None else tiles:
            start, count = page.dataoffsets[index], page.databytecounts[index]
            data[start : start + count] = bytes(count)
    target.write_bytes(data)
    return target


def tissue_of(path: Path, reader: str = "auto"):
    with Slide.open(path, reader=reader) as slide:
        return slide, find_tissue(slide)


@pytest.mark.parametrize("reader", ["auto", "tiff", "openslide", "tiffslide"])
@pytest.mark.parametrize("share", [0.97, 0.95, 0.9])
def test_a_cut_off_lower_level_changes_no_tissue(whole, tmp_path, share, reader):
    data = whole.read_bytes()
    path = tmp_path / "cut.svs"
    path.write_bytes(data[: int(len(data) * share)])
    expected = tissue_of(whole)[1].mask
    try:
        slide, tissue = tissue_of(path, reader)
    except WsiError as error:
        assert reader in ("openslide", "tiffslide")  # noqa: PT017 - the others must open it
        assert error.reason == "unreadable"  # noqa: PT017
        return
    assert abs(tissue.mask.sum() / expected.sum() - 1) < 0.02
    assert (tissue.mask != expected).mean() < 0.01
    assert not tissue.unknown.any()
    assert slide.warnings or tissue.warnings


@pytest.mark.parametrize("reader", ["tiff", "openslide"])
def test_erased_tiles_of_a_lower_level_are_read_from_a_finer_one(whole, tmp_path, reader):
    path = damaged(whole, tmp_path / "a.svs", 2, [0, 1])
    expected = tissue_of(whole, reader)[1].mask
    try:
        slide, tissue = tissue_of(path, reader)
    except WsiError:
        pytest.skip("the level is refused as a whole")
    assert (tissue.mask != expected).mean() < 0.01
    assert not tissue.unknown.any()
    assert slide.warnings or tissue.warnings


def test_two_damaged_levels_are_read_from_level_0(whole, tmp_path):
    half = damaged(whole, tmp_path / "half.svs", 2, [1])
    path = damaged(half, tmp_path / "a.svs", 1, [1, 2, 5])
    tissue = tissue_of(path)[1]
    assert (tissue.mask != tissue_of(whole)[1].mask).mean() < 0.01
    assert not tissue.unknown.any()


def test_what_no_level_shows_is_unknown_tried_and_located(whole, tmp_path):
    path = whole
    # The upper right corner: glass, which must not become tissue.
    for level, tiles in ((2, [1]), (1, [2, 3, 6, 7]), (0, [6, 7])):
        path = damaged(path, tmp_path / f"{level}.svs", level, tiles)
    slide, tissue = tissue_of(path)
    expected = tissue_of(whole)[1].mask
    assert (tissue.mask != expected).mean() < 0.01
    rows, columns = np.nonzero(tissue.unknown)
    scale = WIDTH / tissue.unknown.shape[1]
    assert columns.min() * scale == pytest.approx(1536, abs=32)
    assert (rows.max() + 1) * scale == pytest.approx(256, abs=32)
    assert tissue.to_try.sum() == (tissue.mask | tissue.unknown).sum()
    said = " ".join(tissue.warnings)
    assert "cannot be decoded on any level" in said
    assert "1536, 0, 512, 256" in said


def test_an_intact_level_under_a_level_0_that_is_mostly_lost_is_used(whole, tmp_path):
    path = damaged(whole, tmp_path / "a.svs", 0, list(range(4, 48)))
    with Slide.open(path) as slide:
        assert len(slide.levels) == 3
        found = find_tissue(slide)
    assert np.array_equal(found.mask, tissue_of(whole)[1].mask)


def test_a_slide_of_which_hardly_anything_can_be_read_costs_few_tries():
    calls = 0

    def read(plan, x, y, width, height):
        nonlocal calls
        calls += 1
        raise TileError("lost")

    levels = snap_levels(((200_000, 200_000),))
    plan = plan_sampling(levels, (0.25, 0.25), 8.0)
    assert read_overview(read, plan, levels, (255, 255, 255)).failed.all()
    assert calls < 5000


def test_a_slide_of_which_nothing_can_be_decoded_is_unreadable(whole, tmp_path):
    path = whole
    for level in (2, 1, 0):
        path = damaged(path, tmp_path / f"{level}.svs", level)
    with pytest.raises(WsiError) as caught:
        tissue_of(path, "tiff")
    assert caught.value.reason == "unreadable"


def test_an_intact_slide_has_nothing_unknown_and_no_warning(whole):
    slide, tissue = tissue_of(whole)
    assert slide.warnings == ()
    assert tissue.warnings == ()
    assert not tissue.unknown.any()
