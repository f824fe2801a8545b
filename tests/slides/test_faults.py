"""Damaged slides: a reader fails for the damaged boxes alone, in one way, and goes on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tifffile

from wsi_sampath.errors import WsiError
from wsi_sampath.slides.grid import plan_grid
from wsi_sampath.slides.painted import paint_slide
from wsi_sampath.slides.readers import READERS, TileError, open_reader
from wsi_sampath.slides.slide import Slide
from wsi_sampath.slides.stream import TileStream
from wsi_sampath.slides.svs_writer import write_svs

TILE, COLUMNS, ROWS = 256, 6, 5
WIDTH, HEIGHT = 1500, 1200
DAMAGED = (9, 15, 16, 22)
KINDS = ("erased", "no header", "cut", "cut in half", "shorter", "longer", "huge", "far", "noise")


def scene(x: int, y: int, width: int, height: int) -> np.ndarray:
    """A picture that is busiest in its first column of tiles, far from the damage."""
    noise = np.random.default_rng(y).normal(0, 12, (height, WIDTH, 3))
    noise[:, :TILE] *= 4
    ground = np.linspace(90, 200, WIDTH)[None, :, None] + (y % 100) / 4
    return (ground + noise).clip(0, 255).astype(np.uint8)[:, x : x + width]


@dataclass(frozen=True)
class Sound:
    path: Path
    plane: np.ndarray


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Sound:
    path = tmp_path_factory.mktemp("faults") / "sound.svs"
    write_svs(path, scene, width=WIDTH, height=HEIGHT, mpp=0.5, levels=(1, 4))
    reader = open_reader(path, reader="openslide")
    return Sound(path, reader.read(0, 0, 0, WIDTH, HEIGHT))


def damage(source: Path, target: Path, kind: str, tiles=DAMAGED) -> Path:
    """Copy a slide with some tiles of level 0 damaged."""
    data = bytearray(source.read_bytes())
    with tifffile.TiffFile(source) as tiff:
        page = tiff.pages[0]
        counts, offsets = page.tags["TileByteCounts"], page.tags["TileOffsets"]
        for index in tiles:
            start, count = page.dataoffsets[index], page.databytecounts[index]
            _overwrite(data, kind, start, count)
            if kind in ("shorter", "longer", "huge", "none"):
                new = {"shorter": count * 2 // 3, "longer": count + 40, "huge": 2**31}
                _patch(data, counts, index, new.get(kind, 0))
            if kind == "far":
                _patch(data, offsets, index, len(data) + 10**6)
    target.write_bytes(data)
    return target


def _overwrite(data: bytearray, kind: str, start: int, count: int) -> None:
    if kind == "erased":
        data[start : start + count] = bytes(count)
    if kind == "no header":
        data[start : start + 40] = bytes(40)
    if kind == "cut":
        data[start + count - 40 : start + count] = bytes(40)
    if kind == "cut in half":
        # The tile ends as it should, but half of what it should hold is gone.
        kept = data[start : start + count // 2]
        data[start : start + count] = kept.rstrip(b"\xff") + b"\xff\xd9" + bytes(count)
        del data[start + count :][: len(data)]
    if kind == "noise":
        head = data.index(b"\xff\xda", start) + 14
        rng = np.random.default_rng(start)
        for place in rng.integers(head, start + count - 2, 12):
            data[place] ^= 1 << int(rng.integers(8))


def _patch(data: bytearray, tag, index: int, value: int) -> None:
    size = tag.valuebytecount // tag.count
    at = tag.valueoffset + index * size
    data[at : at + size] = value.to_bytes(size, "little")


def outcomes(reader) -> list[np.ndarray | None]:
    """Read tile by tile; None where the reader says that it cannot."""
    found: list[np.ndarray | None] = []
    for index in range(COLUMNS * ROWS):
        y, x = (step * TILE for step in divmod(index, COLUMNS))
        box = (x, y, min(TILE, WIDTH - x), min(TILE, HEIGHT - y))
        try:
            found.append(reader.read(0, *box))
        except TileError as error:
            assert str(error)
            found.append(None)
    return found


def expected(plane: np.ndarray, index: int) -> np.ndarray:
    y, x = (step * TILE for step in divmod(index, COLUMNS))
    return plane[y : y + TILE, x : x + TILE]
