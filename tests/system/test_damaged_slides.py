"""Damaged slides: what is lost is counted and located, the rest is complete."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from stub_network import make_stub

from wsi_sampath.errors import WsiError
from wsi_sampath.inference.segmenter import segment_slide
from wsi_sampath.inference.settings import SegmentSettings


def damage(source: Path, target: Path, tiles: list[int]) -> list[tuple[int, int]]:
    """Erase level-0 tiles; return their level-0 corners."""
    data = bytearray(source.read_bytes())
    with tifffile.TiffFile(source) as tiff:
        page = tiff.pages[0]
        across = -(-page.imagewidth // page.tilewidth)
        for index in tiles:
            start, count = page.dataoffsets[index], page.databytecounts[index]
            data[start : start + count] = bytes(count)
        target.write_bytes(data)
        return [(i % across * page.tilewidth, i // across * page.tilelength) for i in tiles]


def run(path: Path, out: Path, **values):
    settings = SegmentSettings.build(
        {"tissue": "none", "overlap": 0, "device": "cpu", "report": False, **values}
    )
    return segment_slide(path, out, settings=settings, model=make_stub())


@pytest.mark.parametrize("reader", ["tiff", "openslide"])
def test_erased_tiles_are_counted_located_and_left_out(painted, tmp_path, reader):
    path = tmp_path / "damaged.svs"
    corners = damage(painted.path, path, [31, 32, 66])
    made = run(path, tmp_path / "a.zarr", reader=reader, max_bad_tiles=0.1)
    tiles = made.attributes["tiles"]
    boxes = [one["box"] for one in tiles["failures"]]
    assert tiles["failed"] == len(boxes) == 3
    assert sorted(tuple(box[:2]) for box in boxes) == sorted(corners)
    labels = zarr.open_group(made.zarr, mode="r")["labels/classes/0"][:]
    for x, y, width, height in boxes:
        hole = labels[y // 4 : (y + height) // 4, x // 4 : (x + width) // 4]
        assert not hole.any()
        hole[:] = 1
    assert labels.all()


def test_too_many_bad_tiles_fail_the_slide_with_its_reason(painted, tmp_path):
    path = tmp_path / "damaged.svs"
    damage(painted.path, path, [31, 32, 66])
    with pytest.raises(WsiError, match="3 of") as caught:
        run(path, tmp_path / "a.zarr", max_bad_tiles=0.01)
    assert caught.value.reason == "unreadable"
    assert caught.value.subject == str(path)
    assert not (tmp_path / "a.zarr").exists()
    # The limit is no part of the result: with a wider one the same run goes on to its end.
    made = run(path, tmp_path / "a.zarr", max_bad_tiles=0.5)
    assert made.attributes["tiles"]["failed"] == 3


@pytest.mark.parametrize("share", [0.05, 0.5, 0.9, 0.999])
def test_a_truncated_slide_fails_or_says_what_is_missing(painted, tmp_path, share):
    data = painted.path.read_bytes()
    path = tmp_path / "cut.svs"
    path.write_bytes(data[: int(len(data) * share)])
    try:
        made = run(path, tmp_path / "a.zarr")
    except WsiError as error:
        assert error.reason in ("unreadable", "no-mpp")  # noqa: PT017 - both ways are right
        assert not (tmp_path / "a.zarr").exists()
    else:
        labels = zarr.open_group(made.zarr, mode="r")["labels/classes/0"][:]
        assert np.mean(labels > 0) > 0.98
