"""Digests of a file's content, which notice a replaced file whatever its name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import IO, Protocol, runtime_checkable

_BLOCK = 1 << 20
_WHOLE_BYTES = 16 << 20
_END_BYTES = 1 << 20
_SAMPLES, _SAMPLE_BYTES = 64, 16 << 10


@runtime_checkable
class Expecting(Protocol):
    """A stream that is faster where it is told in advance what will be read."""

    def expect(self, spans: Iterable[tuple[int, int]]) -> None:
        """Prepare for reading (offset, count) spans."""
        ...


def sampled_digest(path: Path) -> str:
    """Return a sha256 of a file's size and content, in hexadecimal, cheap for files of any size.

    Files up to 16 MiB are read whole. Of larger ones the first and the last MiB count, and 64
    blocks of 16 KiB spread evenly between them.

    Raises
    ------
    OSError
        Where the file cannot be read.
    """
    with path.open("rb") as stream:
        size = stream.seek(0, 2)
        if isinstance(stream, Expecting):
            stream.expect(_samples(size))
        digest = hashlib.sha256(str(size).encode())
        for start, length in _samples(size):
            stream.seek(start)
            for block in _blocks(stream, length):
                digest.update(block)
    return digest.hexdigest()


def whole_digest(path: Path) -> str:
    """Return the sha256 of a file, in hexadecimal; unchanged files are read once per process.

    Raises
    ------
    OSError
        Where the file cannot be read.
    """
    return _whole_digest(path, *file_state(path))


def file_state(path: Path) -> tuple[int, ...]:
    """Return what changes when a file changes during a process: inode, size, time."""
    stat = path.stat()
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


@lru_cache(maxsize=64)
def _whole_digest(path: Path, *_state: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _samples(size: int) -> Iterator[tuple[int, int]]:
    """Choose the (start, length) of the samples of a file of `size` bytes."""
    if size <= _WHOLE_BYTES:
        yield 0, size
        return
    yield 0, _END_BYTES
    between = size - 2 * _END_BYTES - _SAMPLE_BYTES
    for number in range(_SAMPLES):
        yield _END_BYTES + between * number // (_SAMPLES - 1), _SAMPLE_BYTES
    yield size - _END_BYTES, _END_BYTES


def _blocks(stream: IO[bytes], length: int) -> Iterator[bytes]:
    while length > 0 and (block := stream.read(min(length, _BLOCK))):
        length -= len(block)
        yield block
