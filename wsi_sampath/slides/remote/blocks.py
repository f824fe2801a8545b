"""A file of a server in blocks: fetched when they are needed, several at once, and kept a while."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

from wsi_sampath.errors import WsiError
from wsi_sampath.slides.remote.wire import FIRST_TRIES, Wire, patiently

BLOCK_BYTES = 1 << 16
HELD_BLOCKS = 1024
_MOST_TOGETHER = 64
_AT_ONCE = 8
_TILES_AHEAD = 8
_MOST_AHEAD = 16
_REPLACED = "it was replaced on the server while it was read; run the command again"


class RemoteFile:
    """Random access to a file of a server, in memory of at most `HELD_BLOCKS`. Thread-safe.

    The first failure of the server is the end of it: every later read fails by the same. A state
    of the file other than that of the beginning is such a failure.

    Parameters
    ----------
    wire
        The file.

    Attributes
    ----------
    stamp
        The state of the file that is read.
    n_requests, n_bytes
        What was fetched so far.

    Raises
    ------
    WsiError
        Where it cannot be reached, or cannot be read in ranges.
    """

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._lock = threading.Lock()
        self._held: OrderedDict[int, bytes] = OrderedDict()
        self._coming: dict[int, Future[bytes]] = {}
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="remote")
        self._least_blocks = 1
        self._failure: WsiError | None = None
        self.stamp, head = patiently(partial(wire.begin, BLOCK_BYTES), tries=FIRST_TRIES)
        self._seen = time.monotonic()
        self.n_requests, self.n_bytes = 1, len(head)
        if head:
            self._held[0] = head

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self.stamp.size

    def is_current(self, within_s: float) -> bool:
        """Return whether the server has the file as it is read; asked if not within some seconds.

        Raises
        ------
        WsiError
            Where the server cannot be asked.
        """
        if self._failure is not None:
            return False
        if time.monotonic() - self._seen <= within_s:
            return True
        stamp, head = patiently(partial(self._wire.begin, 1))
        self.n_requests, self.n_bytes = self.n_requests + 1, self.n_bytes + len(head)
        self._seen = time.monotonic()
        if stamp != self.stamp:
            self._failure = WsiError("unreadable", _REPLACED)
        return stamp == self.stamp

    def pread(self, count: int, offset: int) -> bytes:
        """Return `count` bytes from `offset` on, fewer where the file ends.

        Raises
        ------
        WsiError
            ``unreachable`` where the server fails for good, ``unreadable`` where it has another
            file there by now.
        """
        stop = min(offset + count, self.size)
        if stop <= offset:
            return b""
        numbers = _numbers(offset, stop)
        data = self._blocks(numbers, self._least_blocks)
        start = offset - numbers[0] * BLOCK_BYTES
        whole = data[0] if len(data) == 1 else b"".join(data)
        return whole[start : start + stop - offset]

    def expect(self, spans: Iterable[tuple[int, int]], *, onward: bool = False) -> None:
        """Fetch (offset, count) spans that are read next: all at once, neighbours together.

        Parameters
        ----------
        spans
            What is read next.
        onward
            Whether what follows each is likely to be read as well; see `widen`.
        """
        ends = [(start, min(start + count, self.size)) for start, count in spans]
        wanted = {n for start, stop in ends if 0 <= start < stop for n in _numbers(start, stop)}
        least = self._least_blocks if onward else 1
        self._blocks(sorted(wanted)[: HELD_BLOCKS // 2], least)

    def widen(self, tile_bytes: int) -> None:
        """Fetch no less than some tiles of this size at a time."""
        self._least_blocks = min(max(1, _TILES_AHEAD * tile_bytes // BLOCK_BYTES), _MOST_AHEAD)

    def held(self) -> list[tuple[int, bytes]]:
        """Return what is in memory now, as (offset, bytes)."""
        with self._lock:
            return [(number * BLOCK_BYTES, data) for number, data in self._held.items()]

    def _blocks(self, numbers: Sequence[int], least: int) -> list[bytes]:
        here: dict[int, bytes] = {}
        with self._lock:
            if self._failure is not None:
                raise _again(self._failure)
            for number in numbers:
                if number in self._held:
                    self._held.move_to_end(number)
                    here[number] = self._held[number]
            missing = [n for n in numbers if n not in here and n not in self._coming]
            runs = self._claim(missing, least)
            coming = {number: self._coming[number] for number in numbers if number not in here}
        self._start(runs)
        for number, future in coming.items():
            here[number] = future.result()
        return [here[number] for number in numbers]

    def _claim(self, missing: Sequence[int], least: int) -> list[range]:
        """Claim missing blocks, with some that follow, as runs that are fetched together."""
        runs: list[range] = []
        for number in missing:
            together = runs and number == runs[-1].stop and len(runs[-1]) < _MOST_TOGETHER
            start = runs.pop().start if together else number
            runs.append(range(start, number + 1))
        taken = self._held.keys() | self._coming.keys() | set(missing)
        longer = []
        for run in runs:
            stop = run.stop
            while stop - run.start < least and self._is_free(stop, taken):
                taken.add(stop)
                stop += 1
            longer.append(range(run.start, stop))
        for run in longer:
            self._coming.update((number, Future()) for number in run)
        return longer

    def _is_free(self, number: int, taken: set[int]) -> bool:
        return number * BLOCK_BYTES < self.size and number not in taken

    def _start(self, runs: list[range]) -> None:
        """Fetch claimed runs: the first here, the others in threads."""
        left = list(runs)
        try:
            while len(left) > 1:
                self._pool.submit(self._fetch, left[1])
                del left[1]
        except BaseException as error:
            # No thread can be started: those who wait for these blocks would wait for ever.
            self._give_up(left, error)
            raise
        for run in left:
            self._fetch(run)

    def _give_up(self, runs: Sequence[range], error: BaseException) -> None:
        with self._lock:
            futures = [self._coming.pop(number, None) for run in runs for number in run]
        for future in futures:
            if future is not None:
                future.set_exception(_again(error) if isinstance(error, WsiError) else error)

    def _fetch(self, run: range) -> None:
        """Fetch a claimed run; those who wait for it are told of its failure."""
        start, stop = run.start * BLOCK_BYTES, min(run.stop * BLOCK_BYTES, self.size)
        try:
            data = self._read(start, stop)
        except BaseException as error:
            with self._lock:
                if isinstance(error, WsiError):
                    self._failure = self._failure or error
            self._give_up([run], error)
            if not isinstance(error, Exception):
                raise
            return
        with self._lock:
            for at, number in enumerate(run):
                block = data[at * BLOCK_BYTES : (at + 1) * BLOCK_BYTES]
                self._held[number] = block
                # Missing where the run was given up, and a thread took it on nevertheless.
                if future := self._coming.pop(number, None):
                    future.set_result(block)
            while len(self._held) > HELD_BLOCKS:
                self._held.popitem(last=False)

    def _read(self, start: int, stop: int) -> bytes:
        stamp, data = patiently(partial(self._wire.fetch, start, stop))
        if stamp != self.stamp:
            raise WsiError("unreadable", _REPLACED)
        with self._lock:
            self._seen = time.monotonic()
            self.n_requests += 1
            self.n_bytes += len(data)
        return data


def _numbers(start: int, stop: int) -> range:
    return range(start // BLOCK_BYTES, -(-stop // BLOCK_BYTES))


def _again(error: WsiError) -> WsiError:
    # Each thread gets an error of its own, to be given its own subject and traceback.
    return WsiError(error.reason, error.message)
