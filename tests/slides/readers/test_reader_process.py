"""A reader for one thread, shared by many."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from wsi_sampath.slides.readers.open import TiffSlideReader, TileError, open_reader
from wsi_sampath.slides.readers.shared import SharedReader

BOXES = [(0, x, y, 200, 150) for y in range(0, 600, 150) for x in range(0, 600, 200)]


@pytest.fixture
def shared(painted):
    reader = open_reader(painted.path, reader="tiffslide")
    yield reader
    reader.close()


def read_all(reader, threads=4):
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda box: reader.read(*box), BOXES))


def test_one_thread_starts_no_process(shared):
    assert isinstance(shared, SharedReader)
    read_all(shared, threads=1)
    assert shared._processes == []


def test_many_threads_read_what_one_reads(painted, shared):
    alone = TiffSlideReader(painted.path)
    expected = [alone.read(*box) for box in BOXES]
    # However the threads fall, some box must be read elsewhere: the own handle is taken.
    with shared._own_lock:
        elsewhere = read_all(shared, threads=2)
    assert 1 <= len(shared._processes) <= 2
    for found in (elsewhere, read_all(shared)):
        assert all(np.array_equal(a, b) for a, b in zip(expected, found, strict=True))
    alone.close()


def test_a_killed_process_loses_no_box(shared):
    with shared._own_lock:
        expected = shared.read(*BOXES[0])
    (process,) = shared._processes
    process._process.kill()
    process._process.wait()
    with ThreadPoolExecutor(1) as pool:
        with shared._own_lock:
            waiting = pool.submit(shared.read, *BOXES[0])
            assert not waiting.done()
        assert np.array_equal(waiting.result(), expected)


def test_what_cannot_be_decoded_is_said_by_the_process(tmp_path, painted):
    broken = tmp_path / "cut.svs"
    data = bytearray(painted.path.read_bytes())
    data[8_000:40_000] = bytes(32_000)
    broken.write_bytes(data)
    reader = open_reader(broken, reader="tiffslide")
    here = _outcomes(reader)
    with reader._own_lock:
        there = _outcomes(reader)
    reader.close()
    assert here == there
    assert any(isinstance(one, str) for one in here)


def test_closing_ends_the_processes(painted):
    reader = open_reader(painted.path, reader="tiffslide")
    with reader._own_lock:
        reader.read(*BOXES[0])
    reader.close()
    assert all(one._process.poll() is not None for one in reader._processes)


def _outcomes(reader):
    found = []
    for box in BOXES:
        try:
            found.append(int(reader.read(*box).astype(int).sum()))
        except TileError as error:
            found.append(str(error))
    return found
