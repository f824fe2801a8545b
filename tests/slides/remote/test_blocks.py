"""Blocks of a file on a server: the right bytes, few requests, bounded memory."""

from __future__ import annotations

import queue
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsi_sampath.errors import WsiError
from wsi_sampath.slides.remote import wire as wire_module
from wsi_sampath.slides.remote.blocks import BLOCK_BYTES, HELD_BLOCKS, RemoteFile
from wsi_sampath.slides.remote.wire import Broken, Stamp

CONTENT = np.random.default_rng(0).integers(0, 256, 5 * BLOCK_BYTES + 77, np.uint8).tobytes()


class Kept:
    """A file in memory, or zeros of any size; it notes what it is asked for."""

    def __init__(self, content: bytes = CONTENT, size: int | None = None) -> None:
        self.content, self.size = content, len(content) if size is None else size
        self.tag = "first"
        self.asked: list[tuple[int, int]] = []
        self.faults: list[Exception] = []
        self.gate: threading.Barrier | None = None

    def begin(self, count):
        return self.fetch(0, min(count, self.size))

    def fetch(self, start, stop):
        self.asked.append((start, stop))
        if self.gate is not None:
            self.gate.wait(10)
        if self.faults:
            raise self.faults.pop()
        data = self.content[start:stop] if self.content else bytes(stop - start)
        return Stamp(self.size, self.tag), data


@pytest.fixture
def at_once(monkeypatch):
    monkeypatch.setattr(wire_module, "WAITS_S", (0.0,) * 3)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, len(CONTENT) + 9), st.integers(0, 3 * BLOCK_BYTES))),
    st.integers(0, 1 << 18),
)
def test_any_reads_return_what_the_file_holds(reads, tile_bytes):
    file = RemoteFile(Kept())
    file.widen(tile_bytes)
    for offset, count in reads:
        assert file.pread(count, offset) == CONTENT[offset : offset + count]


def test_neighbours_come_together_and_all_runs_at_a_time():
    wire = Kept(b"", 1 << 30)
    file = RemoteFile(wire)
    wire.asked.clear()
    # Passed only if three requests are under way at a time.
    wire.gate = threading.Barrier(3)
    file.expect([(n * BLOCK_BYTES + 5, 9) for n in (3, 4, 5, 100, 101, 900)])
    runs = [(start // BLOCK_BYTES, stop // BLOCK_BYTES) for start, stop in sorted(wire.asked)]
    assert runs == [(3, 6), (100, 102), (900, 901)]
    assert (file.n_requests, file.n_bytes) == (4, 7 * BLOCK_BYTES)


def test_a_request_is_for_some_tiles_at_least():
    wire = Kept(b"", 1 << 30)
    file = RemoteFile(wire)
    file.widen(40_000)
    wire.asked.clear()
    file.pread(10, 8 * BLOCK_BYTES)
    assert wire.asked == [(8 * BLOCK_BYTES, 12 * BLOCK_BYTES)]
    file.pread(10, 11 * BLOCK_BYTES)
    assert len(wire.asked) == 1


def test_many_threads_fetch_a_block_once():
    wire = Kept()
    file = RemoteFile(wire)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: file.pread(len(CONTENT), 0), range(32)))
    assert set(found) == {CONTENT}
    assert file.n_bytes == len(CONTENT)


def test_memory_is_bounded_however_much_is_read():
    file = RemoteFile(Kept(b"", 1 << 34))
    for start in range(0, 3 * HELD_BLOCKS * BLOCK_BYTES, 32 * BLOCK_BYTES):
        file.pread(32 * BLOCK_BYTES, start)
    assert len(file.held()) == HELD_BLOCKS


def test_what_breaks_is_tried_again(at_once):
    wire = Kept()
    file = RemoteFile(wire)
    wire.faults = [Broken("the connection broke off")] * 3
    assert file.pread(50, 2 * BLOCK_BYTES) == CONTENT[2 * BLOCK_BYTES :][:50]


def test_the_first_failure_is_the_end(at_once):
    wire = Kept()
    file = RemoteFile(wire)
    wire.faults = [Broken("the connection broke off")] * 4
    for _ in range(2):
        with pytest.raises(WsiError, match=r"broke off, at 4 tries; .* to resume") as failed:
            file.pread(50, 2 * BLOCK_BYTES)
        assert failed.value.reason == "unreachable"
    assert not file.is_current(1e9)


def test_another_state_of_the_file_is_an_error_and_never_mixed_in():
    wire = Kept()
    file = RemoteFile(wire)
    assert file.is_current(0.0)
    wire.tag = "second"
    with pytest.raises(WsiError, match="replaced on the server"):
        file.pread(50, 2 * BLOCK_BYTES)
    with pytest.raises(WsiError, match="replaced on the server"):
        file.pread(50, 0)
    other = RemoteFile(wire)
    wire.size += 1
    assert not other.is_current(0.0)


def test_waits_grow_and_heed_the_server(monkeypatch):
    slept: list[float] = []
    monkeypatch.setattr(wire_module.time, "sleep", slept.append)
    wire = Kept()
    file = RemoteFile(wire)
    wire.faults = [Broken("busy", 1e6), Broken("busy"), Broken("busy", 3.0)]
    file.pread(1, 2 * BLOCK_BYTES)
    assert slept == [3.0, 1.0, 30.0]


def test_who_waits_for_what_nobody_will_fetch_is_told(monkeypatch):
    wire = Kept(b"", 1 << 30)
    file = RemoteFile(wire)
    held_up, goes_on = threading.Event(), threading.Event()
    submit, submitted = file._pool.submit, []

    def submit_one(*call):
        submitted.append(call)
        if len(submitted) == 1:
            return submit(*call)
        held_up.set()
        goes_on.wait(10)
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(file._pool, "submit", submit_one)
    spans = [(n * BLOCK_BYTES, 9) for n in (10, 20, 30, 40)]
    first = begun(lambda: file.expect(spans))
    assert held_up.wait(10)
    # All of these blocks are claimed by now, and the first thread has asked for one of them.
    others = [begun(lambda offset=offset: file.pread(9, offset)) for offset, _ in spans]
    time.sleep(0.2)
    monkeypatch.undo()
    goes_on.set()
    ends = [end.get(timeout=10) for end in (first, *others)]
    assert [type(end) for end in ends] == [RuntimeError, RuntimeError, bytes, *[RuntimeError] * 2]
    # Nothing is wrong with the file: the next one fetches it.
    assert [file.pread(9, offset) for offset, _ in spans] == [bytes(9)] * 4


def begun(call) -> queue.Queue:
    """Begin a call in a thread that nobody waits for; how it ends is put into the queue."""
    end: queue.Queue = queue.Queue()

    def run() -> None:
        try:
            end.put(call())
        except RuntimeError as error:
            end.put(error)

    threading.Thread(target=run, daemon=True).start()
    return end


def test_a_run_that_was_given_up_may_still_be_fetched():
    """Where no thread can be started, the pool keeps what it was given for one that it has."""
    file = RemoteFile(Kept())
    (run,) = file._claim([2], 1)
    file._give_up([run], RuntimeError("can't start new thread"))
    file._fetch(run)
    assert file.pread(9, 2 * BLOCK_BYTES) == CONTENT[2 * BLOCK_BYTES :][:9]
    assert file.n_requests == 2
