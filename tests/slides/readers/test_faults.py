"""Damaged slides: a reader fails for the damaged boxes alone, in one way, and goes on."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tifffile

from wsi_sampath.errors import WsiError
from wsi_sampath.slides.grid import plan_grid
from wsi_sampath.slides.readers.open import READERS, TileError, open_reader
from wsi_sampath.slides.readers.tiff import TiffReader
from wsi_sampath.slides.slide import Slide
from wsi_sampath.slides.stream import TileStream
from wsi_sampath.synthetic.svs_writer import write_svs

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
        kept = data[start : start + count // 2].rstrip(b"\xff") + b"\xff\xd9"
        data[start : start + count] = kept.ljust(count, b"\0")
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
            assert str(error)  # noqa: PT017 - every failure has a reason
            found.append(None)
    return found


def expected(plane: np.ndarray, index: int) -> np.ndarray:
    y, x = (step * TILE for step in divmod(index, COLUMNS))
    return plane[y : y + TILE, x : x + TILE]


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("kind", KINDS)
def test_only_the_damaged_tiles_fail(sound, tmp_path, kind, name):
    path = damage(sound.path, tmp_path / "a.svs", kind)
    found = outcomes(open_reader(path, reader=name))
    for index, pixels in enumerate(found):
        want = expected(sound.plane, index)
        if index not in DAMAGED:
            assert pixels is not None
            assert np.array_equal(pixels, want)
        elif pixels is not None:
            assert pixels.shape == want.shape


@pytest.mark.parametrize("kind", KINDS)
def test_the_direct_reader_sees_the_damage_that_openslide_sees(sound, tmp_path, kind):
    path = damage(sound.path, tmp_path / "a.svs", kind)
    ours = outcomes(open_reader(path, reader="tiff"))
    theirs = outcomes(open_reader(path, reader="openslide"))
    for index in DAMAGED:
        if kind == "noise":
            # Both decoders may go on after a few wrong bits; then they agree on the pixels.
            if ours[index] is not None and theirs[index] is not None:
                assert np.array_equal(ours[index], theirs[index])
        elif kind == "longer":
            assert np.array_equal(ours[index], expected(sound.plane, index))
            assert np.array_equal(theirs[index], ours[index])
        else:
            assert ours[index] is None
            assert theirs[index] is None


@pytest.mark.parametrize("name", ["tiff", "openslide"])
def test_a_tile_of_no_bytes_is_background(sound, tmp_path, name):
    flat = tmp_path / "flat.svs"
    write_svs(flat, scene, width=WIDTH, height=HEIGHT, mpp=0.5, levels=(1,))
    path = damage(flat, tmp_path / "a.svs", "none")
    for index, pixels in enumerate(outcomes(open_reader(path, reader=name))):
        want = np.array(255) if index in DAMAGED else expected(sound.plane, index)
        assert (pixels == want).all()


@pytest.mark.parametrize("name", READERS)
def test_one_threads_bad_tile_is_not_anothers(sound, tmp_path, name):
    path = damage(sound.path, tmp_path / "a.svs", "erased")
    reader = open_reader(path, reader=name)
    good = [index for index in range(COLUMNS * ROWS) if index not in DAMAGED]
    order = [index for near in good for index in (near, DAMAGED[near % len(DAMAGED)])]

    def read(index: int) -> bool:
        y, x = (step * TILE for step in divmod(index, COLUMNS))
        try:
            pixels = reader.read(0, x, y, 64, 64)
        except TileError:
            return False
        assert np.array_equal(pixels, expected(sound.plane, index)[:64, :64])
        return True

    with ThreadPoolExecutor(6) as pool:
        fine = list(pool.map(read, order))
    assert fine == [index not in DAMAGED for index in order]


def test_a_picture_that_ends_in_grey_is_not_damaged(tmp_path):
    grey = np.full((512, 512, 3), 128, np.uint8)
    grey[:100, :100] = 200
    path = write_svs(tmp_path / "a.svs", [grey], width=512, height=512, mpp=0.5, levels=(1,))
    assert np.abs(TiffReader(path).read(0, 0, 0, 512, 512).astype(int) - grey).mean() < 1


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("share", [0.9, 0.6, 0.3, 0.05, 0.0005])
def test_a_slide_that_was_cut_off(sound, tmp_path, name, share):
    """It is refused, or every tile is right or fails."""
    data = sound.path.read_bytes()
    path = tmp_path / "a.svs"
    path.write_bytes(data[: int(len(data) * share)])
    try:
        reader = open_reader(path, reader=name)
    except WsiError as error:
        assert error.reason == "unreadable"  # noqa: PT017 - refusing is one of two right ways
        return
    for index, pixels in enumerate(outcomes(reader)):
        # tiffslide pads the one tile through which the cut goes with grey.
        if pixels is not None and name != "tiffslide":
            assert np.array_equal(pixels, expected(sound.plane, index))


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("seed", range(6))
def test_random_bytes_anywhere_raise_nothing_else(sound, tmp_path, name, seed):
    rng = np.random.default_rng(seed)
    data = bytearray(sound.path.read_bytes())
    # The header and the directory of level 0 come first: half of the damage goes there.
    for place in (*rng.integers(0, 600, 4), *rng.integers(0, len(data), 40)):
        data[place] = int(rng.integers(256))
    path = tmp_path / "a.svs"
    path.write_bytes(data)
    try:
        reader = open_reader(path, reader=name)
    except WsiError as error:
        assert error.reason == "unreadable"  # noqa: PT017 - refusing is one of two right ways
        return
    for level, (width, height) in enumerate(reader.metadata.level_sizes):
        for x in range(0, min(width, 2000), 400):
            try:
                reader.read(level, x, min(x, height - 1), 300, 300)
            except TileError:
                continue


@pytest.mark.parametrize("name", ["tiff", "openslide"])
def test_a_header_that_asks_for_terabytes_is_refused(sound, tmp_path, name):
    """OpenSlide alone would abort the process at the first read."""
    data = bytearray(sound.path.read_bytes())
    with tifffile.TiffFile(sound.path) as tiff:
        _patch(data, tiff.pages[0].tags["TileLength"], 0, 1694499072)
    path = tmp_path / "a.svs"
    path.write_bytes(data)
    with pytest.raises(WsiError) as caught:
        open_reader(path, reader=name)
    assert caught.value.reason == "unreadable"


@pytest.mark.parametrize("name", READERS)
def test_a_stream_goes_on_past_damage(sound, tmp_path, name):
    path = damage(sound.path, tmp_path / "a.svs", "erased", tiles=(15,))
    with Slide.open(path, reader=name) as slide:
        sampling = slide.sampling(0.5)
        grid = plan_grid(sampling, tile=256, overlap=0, stride=4)
        batches = list(TileStream(slide, sampling, grid, batch_size=4, workers=2))
    failed = [(tile.row, tile.column) for batch in batches for tile, _ in batch.failed]
    assert failed
    for row, column in failed:
        assert abs(grid.ys[row] * 4 - 512) < 256
        assert abs(grid.xs[column] * 4 - 768) < 256
    assert sum(len(batch.tiles) for batch in batches) == grid.n_tiles - len(failed)


@pytest.mark.parametrize(
    "description",
    [
        "<DataObject ObjectType='DPUfsImport'></DataObject>",
        "<DataObject ObjectType='DPUfsImport'><Attribute Name='x'>",
        "<DataObject ObjectType='DPUfsImport'/><Attribute",
    ],
)
def test_a_philips_file_without_its_attributes_is_one_error(tmp_path, description):
    path = tmp_path / "a.tiff"
    tifffile.imwrite(
        path,
        scene(0, 0, 512, 512),
        tile=(256, 256),
        photometric="rgb",
        metadata=None,
        software="Philips DP v1.0",
        description=description,
    )
    with pytest.raises(WsiError) as error:
        Slide.open(path)
    assert error.value.reason in ("unreadable", "no-mpp")


def test_tifffile_says_nothing_beside_our_own_line(sound, tmp_path):
    path = tmp_path / "cut.svs"
    data = sound.path.read_bytes()
    path.write_bytes(data[: len(data) * 9 // 10])
    program = (
        "import sys; from pathlib import Path;"
        "from wsi_sampath.slides.readers.open import open_reader;"
        "open_reader(Path(sys.argv[1])).close()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False
    )
    assert "<tifffile" not in done.stderr
