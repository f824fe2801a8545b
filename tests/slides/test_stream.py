from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest

from wsi_sampath.slides.grid import plan_grid, select_tiles
from wsi_sampath.slides.readers.open import TileError
from wsi_sampath.slides.slide import Slide
from wsi_sampath.slides.stream import TileStream


def run(slide, *, mpp=0.5, tile=512, overlap=128, mask=None, **options):
    sampling = slide.sampling(mpp)
    grid = plan_grid(sampling, tile=tile, overlap=overlap, stride=4)
    if mask is not None:
        grid = select_tiles(grid, mask)
    stream = TileStream(slide, sampling, grid, **options)
    return stream, list(stream)


@pytest.mark.parametrize(("mpp", "tile"), [(0.5, 512), (1.0, 256), (0.8, 320)])
def test_tiles_are_what_a_direct_read_gives(painted, mpp, tile):
    with Slide.open(painted.path) as slide:
        stream, batches = run(slide, mpp=mpp, tile=tile, overlap=tile // 4, batch_size=3)
        assert sum(len(batch.tiles) for batch in batches) == stream.grid.n_tiles
        for batch in batches:
            for tile_, image in zip(batch.tiles, batch.images, strict=True):
                x, y = stream.grid.xs[tile_.column] * 4, stream.grid.ys[tile_.row] * 4
                want = slide.read_sampled(stream.sampling, x, y, tile, tile)
                assert np.abs(image.astype(int) - want).max() <= (0 if mpp != 0.8 else 2)


@pytest.mark.parametrize("reader", ["tiff", "openslide"])
def test_every_pixel_is_decoded_once(painted, reader):
    with Slide.open(painted.path, reader=reader) as slide:
        stream, _ = run(slide, tile=1024, overlap=256)
        pixels = 3000 * 2300
        assert stream.counts.read_px == stream.counts.needed_px
        assert pixels <= stream.counts.decoded_px <= 1.15 * pixels
        assert not stream._pending


def test_order_and_batches(painted):
    mask = np.zeros((40, 40), bool)
    mask[5:9, 3:6] = mask[30:33, 20:38] = True
    with Slide.open(painted.path) as slide:
        streams = [run(slide, mask=mask, batch_size=size, workers=3) for size in (1, 4, 99)]
    orders = [[tile for batch in batches for tile in batch.tiles] for _, batches in streams]
    assert orders[0] == orders[1] == orders[2]
    assert orders[0] == sorted(orders[0], key=lambda tile: (tile.row, tile.column))
    assert len(orders[0]) == streams[0][0].grid.n_tiles < streams[0][0].grid.selected.size


def test_look_ahead_is_bounded(painted):
    with Slide.open(painted.path) as slide:
        sampling = slide.sampling(0.5)
        grid = plan_grid(sampling, tile=256, overlap=0, stride=4)
        stream = TileStream(slide, sampling, grid, batch_size=2, workers=2)
        held = [len(stream._pending) for _ in stream]
        assert max(held) <= 4 * (2 + 2 + 2)


def test_a_failing_block_costs_only_its_tiles(painted, monkeypatch):
    with Slide.open(painted.path) as slide:
        read = Slide.read_sampled

        def fail_somewhere(self, plan, x, y, width, height):
            if (x, y) == (1024, 512):
                raise TileError("cosmic ray")
            return read(self, plan, x, y, width, height)

        monkeypatch.setattr(Slide, "read_sampled", fail_somewhere)
        stream, batches = run(slide, tile=512, overlap=0)
    failed = [
        (stream.grid.xs[t.column] * 4, stream.grid.ys[t.row] * 4, reason)
        for b in batches
        for t, reason in b.failed
    ]
    assert failed == [(1024, 512, "cosmic ray")]
    assert sum(len(batch.tiles) for batch in batches) == stream.grid.n_tiles - 1


def test_leaving_early_stops_the_readers(painted):
    def readers():
        return [thread for thread in threading.enumerate() if thread.name.startswith("read_")]

    with Slide.open(painted.path) as slide:
        sampling = slide.sampling(0.5)
        grid = plan_grid(sampling, tile=256, overlap=64, stride=4)
        stream = TileStream(slide, sampling, grid, batch_size=1)
        for _ in stream:
            assert readers()
            break
        assert readers() == []
        assert 0 < stream.counts.read_px < stream.counts.needed_px


class Damaged:
    """A reader that cannot decode a place, and counts its calls."""

    def __init__(self, reader, place):
        self._reader, self._place = reader, place
        self.calls = 0

    def __getattr__(self, name):
        return getattr(self._reader, name)

    def read(self, level, x, y, width, height):
        self.calls += 1
        bad_x, bad_y = self._place
        if x <= bad_x < x + width and y <= bad_y < y + height:
            raise TileError("damaged here")
        return self._reader.read(level, x, y, width, height)


def answers(stream):
    found = {}
    for batch in stream:
        found |= dict(zip(batch.tiles, batch.images, strict=True))
    return found


@pytest.mark.parametrize("mpp", [0.5, 1.0, 0.8])
def test_blocks_read_together_are_those_read_alone(painted, mpp):
    with Slide.open(painted.path, reader="openslide") as slide:
        together, _ = run(slide, mpp=mpp, tile=512, workers=3)
        alone = TileStream(slide, together.sampling, together.grid, workers=3)
        alone._is_wide = False
        assert together._is_wide == (mpp != 0.8)
        together = TileStream(slide, together.sampling, together.grid, workers=3)
        one, other = answers(together), answers(alone)
    assert list(one) == list(other)
    assert all(np.array_equal(one[tile], other[tile]) for tile in one)


def test_one_bad_place_costs_its_own_block_alone(painted):
    failed, calls = [], []
    for is_wide in (True, False):
        with Slide.open(painted.path, reader="openslide") as slide:
            reader = Damaged(slide.reader, place=(1000, 900))
            slide = replace(slide, reader=reader)
            stream, _ = run(slide, tile=1024, overlap=512)
            stream = TileStream(slide, stream.sampling, stream.grid)
            stream._is_wide = is_wide
            reader.calls = 0
            failed.append([tile for batch in stream for tile, _ in batch.failed])
            calls.append(reader.calls)
    assert failed[0] == failed[1]
    assert 1 <= len(failed[0]) <= 4
    assert calls[0] < calls[1]
