"""A reader for one thread at a time, behind the interface of one for many threads.

The first thread that reads uses the handle of this process. Threads that would have to wait get
their own processes, which open the same file and are started when they are first needed.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO, Any, cast

from wsi_sampath.slides.readers.base import Reader, Rgb, TileError

_Box = tuple[int, int, int, int, int]


class SharedReader:
    """Many threads' access to a reader that is not thread-safe.

    Parameters
    ----------
    reader
        The open reader.
    path
        Its file, for the processes to open.
    """

    def __init__(self, reader: Reader, path: Path) -> None:
        self.name, self.metadata = reader.name, reader.metadata
        self._own, self._path = reader, path
        self._own_lock = threading.Lock()
        self._processes: list[ReaderProcess] = []
        self._idle: SimpleQueue[ReaderProcess] = SimpleQueue()

    @property
    def decoded_px(self) -> int | None:
        """Not counted: the processes decode on their own."""
        return None

    def reads_wide(self, level: int) -> bool:
        """Ask the reader."""
        return self._own.reads_wide(level)

    def read(self, level: int, x: int, y: int, width: int, height: int) -> Rgb:
        """Read a box of a level; see `Reader.read`."""
        box = (level, x, y, width, height)
        if self._own_lock.acquire(blocking=False):
            try:
                return self._own.read(*box)
            finally:
                self._own_lock.release()
        process = self._process()
        try:
            answer = process.ask(box)
        except (OSError, EOFError):
            # The process was killed: it is not reused, and its box is not lost.
            with self._own_lock:
                return self._own.read(*box)
        self._idle.put(process)
        if isinstance(answer, str):
            raise TileError(answer)
        return answer

    def _process(self) -> ReaderProcess:
        try:
            return self._idle.get_nowait()
        except Empty:
            self._processes.append(ReaderProcess(self.name, self._path))
            return self._processes[-1]

    def close(self) -> None:
        """Close the file here and in all processes."""
        self._own.close()
        for process in self._processes:
            process.close()


class ReaderProcess:
    """One reader in a process of its own; for one thread at a time.

    Parameters
    ----------
    name, path
        The reader and the file it opens.
    """

    def __init__(self, name: str, path: Path) -> None:
        # multiprocessing would run the user's script again in every child that it starts.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "wsi_sampath.slides.readers.child", name, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def ask(self, box: _Box) -> Rgb | str:
        """Return the pixels of (level, x, y, width, height), or why they cannot be decoded.

        Raises
        ------
        OSError, EOFError
            If the process has died.
        """
        send(self._process.stdin, box)
        return cast(Rgb | str, receive(self._process.stdout))

    def close(self) -> None:
        """End the process."""
        for stream in (self._process.stdin, self._process.stdout):
            # Data that a dead process did not read cannot be flushed.
            with suppress(OSError):
                cast(IO[bytes], stream).close()
        self._process.wait()


def send(stream: IO[bytes] | None, value: Any) -> None:
    """Write a value into a pipe."""
    pipe = cast(IO[bytes], stream)
    pickle.dump(value, pipe, protocol=5)
    pipe.flush()


def receive(stream: IO[bytes] | None) -> Any:
    """Read a value that `send` wrote; raises EOFError where the other side is gone."""
    return pickle.load(cast(IO[bytes], stream))  # noqa: S301 - from our own child
