"""A file that grows by appending, and goes on after a kill from the last point known to be safe."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from errno import ENOSPC
from pathlib import Path
from typing import IO, Any

import xxhash

from wsi_sampath.errors import WsiError

_BLOCK_BYTES = 1 << 20


class GrowingFile:
    """Bytes appended to a file, with their digest.

    Parameters
    ----------
    path
        The file. What is there is replaced, or cut back to where `resume` was taken.
    resume
        What `state` said when an earlier one stopped; None to begin.
    """

    def __init__(self, path: Path, resume: Mapping[str, Any] | None = None) -> None:
        if resume is None:
            self._file: IO[bytes] = path.open("wb")
            self._digest = xxhash.xxh3_64()
            return
        self._file = path.open("r+b")
        self._digest = _digest_of(self._file, resume["bytes"])
        self._file.truncate(resume["bytes"])
        self._file.seek(resume["bytes"])

    @property
    def is_closed(self) -> bool:
        """Whether nothing can be appended any more."""
        return self._file.closed

    def append(self, content: bytes) -> None:
        """Append bytes."""
        self._file.write(content)
        self._digest.update(content)

    def state(self) -> dict[str, Any]:
        """Make durable what was appended, and return its length, ``bytes``, and its ``digest``."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return {"bytes": self._file.tell(), "digest": self._digest.hexdigest()}

    def close(self) -> int:
        """Make durable what was appended, and return its length; nothing can be appended then."""
        length: int = self.state()["bytes"]
        self._file.close()
        return length

    def abandon(self) -> None:
        """Close the file as it is."""
        self._file.close()


def is_intact(growing: Path, state: Mapping[str, Any]) -> bool:
    """Return whether a growing file still holds what it held when `GrowingFile.state` said so."""
    try:
        with growing.open("rb") as file:
            return bool(_digest_of(file, state["bytes"]).hexdigest() == state["digest"])
    except OSError:
        return False


@contextmanager
def disk_full_named(what: str, path: Path) -> Iterator[None]:
    """Raise ``disk-full`` where there is no space left for `what`."""
    try:
        yield
    except OSError as error:
        if error.errno != ENOSPC:
            raise
        message = f"no space left while writing {what}: free some and run again"
        raise WsiError("disk-full", message, subject=str(path)) from error


def _digest_of(file: IO[bytes], length: int) -> xxhash.xxh3_64:
    digest = xxhash.xxh3_64()
    while length > 0 and (block := file.read(min(length, _BLOCK_BYTES))):
        digest.update(block)
        length -= len(block)
    return digest
