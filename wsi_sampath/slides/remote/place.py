"""A path that is the address of a slide on a server, with the methods of a path."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import sys
import threading
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any, cast
from weakref import WeakValueDictionary

from wsi_sampath.errors import UsageError, WsiError
from wsi_sampath.slides.remote.address import Address, as_address, parse_address

if sys.platform == "win32":
    from pathlib import WindowsPath as _Local
else:
    from pathlib import PosixPath as _Local

from wsi_sampath.slides.remote.blocks import RemoteFile

# The server is asked whether the file is still the same, when it is opened or looked at.
FRESH_S = 2.0
_KEPT_OPEN = 2
_LOCKS = tuple(threading.Lock() for _ in range(16))
_files: WeakValueDictionary[str, RemoteFile] = WeakValueDictionary()
_latest: deque[RemoteFile] = deque(maxlen=_KEPT_OPEN)


def located(place: str | os.PathLike[str]) -> Path:
    """Return the path that a text means: that of a local file, or a `RemotePath` for a URL.

    Raises
    ------
    UsageError
        For a URL that is none of a slide; see `parse_address`.
    """
    if isinstance(place, RemotePath):
        return place
    address = as_address(place)
    return Path(place) if address is None else RemotePath(address)


def recorded(place: str) -> Path:
    """Return the path that a record names: what is no slide's URL is taken for a local path."""
    try:
        return located(place)
    except UsageError:
        return Path(place)


class RemotePath(_Local):
    """The address of one file on a server.

    A path in all that a slide is asked for: its name, its state, a stream of its bytes. As a text
    it is the address without user, password and query, which go nowhere but to the server; that
    text is all that results, reports and logs get to see.

    Parameters
    ----------
    address
        See `parse_address`.
    """

    address: Address

    def __new__(cls, address: str) -> RemotePath:
        """Take an address apart; raises `UsageError` as `parse_address`."""
        parsed = parse_address(address)
        self = super().__new__(cls, _as_parts(parsed))
        self.address = parsed
        return self

    def __init__(self, address: str) -> None:
        if sys.version_info >= (3, 12):
            super().__init__(_as_parts(parse_address(address)))

    def __str__(self) -> str:
        return self.address.shown

    def __fspath__(self) -> str:
        return self.address.shown

    def __repr__(self) -> str:
        return f"RemotePath({self.address.shown!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return RemotePath, (self.address.full,)

    def __hash__(self) -> int:
        return hash(self.address.full)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemotePath) and self.address.full == other.address.full

    def with_segments(self, *segments: str | os.PathLike[str]) -> Path:
        """Return a plain path: what is beside or above an address is not on the server."""
        return Path(*segments)

    if sys.version_info < (3, 12):

        @classmethod
        def _from_parsed_parts(cls, *parts: Any) -> Any:
            # What `with_segments` is to later versions.
            return _Local._from_parsed_parts(*parts)  # type: ignore[attr-defined]

    def open(self, *_args: Any, **_options: Any) -> IO[bytes]:  # type: ignore[override]
        """Open the file for reading in binary."""
        return cast(IO[bytes], RemoteStream(opened_file(self), str(self)))

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """Return size, and an inode that is another for another content."""
        stamp = opened_file(self).stamp
        digest = hashlib.sha256(stamp.tag.encode("utf-8", "surrogateescape")).digest()
        inode = int.from_bytes(digest[:7], "big")
        return os.stat_result((stat.S_IFREG | 0o444, inode, 0, 1, 0, 0, stamp.size, 0, 0, 0))

    def is_file(self) -> bool:
        """Return True; whether it is there is found when it is opened."""
        return True

    def exists(self, *, follow_symlinks: bool = True) -> bool:
        """Return True; whether it is there is found when it is opened."""
        return True

    def is_dir(self) -> bool:
        """Return False: an address is that of a file."""
        return False

    def is_symlink(self) -> bool:
        """Return False: where a server has it from is not seen."""
        return False

    def absolute(self) -> RemotePath:
        """Return the same: an address is absolute."""
        return self

    def resolve(self, strict: bool = False) -> RemotePath:
        """Return the same: an address is absolute."""
        return self


class RemoteStream(io.RawIOBase):
    """A file of a server as a stream of bytes.

    Parameters
    ----------
    file
        The file, shared with other streams.
    name
        As shown to people.
    """

    def __init__(self, file: RemoteFile, name: str) -> None:
        self.file, self.name = file, name
        self._at = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a byte; see `io.IOBase.seek`."""
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.file.size}[whence]
        self._at = max(0, origin + offset)
        return self._at

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        """Return up to `size` bytes from here on, as many as there are."""
        count = self.file.size - self._at if size is None or size < 0 else size
        data = self.pread(count, self._at)
        self._at += len(data)
        return data

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer from here on, and return how far."""
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def pread(self, count: int, offset: int) -> bytes:
        """See `RemoteFile.pread`."""
        if self.closed:
            raise ValueError("the file is closed")
        return self.file.pread(count, offset)

    def expect(self, spans: Iterable[tuple[int, int]]) -> None:
        """See `RemoteFile.expect`."""
        self.file.expect(spans)


def read_at(file: IO[bytes] | io.FileIO, count: int, offset: int) -> bytes:
    """Return up to `count` bytes from `offset` on, wherever the file lies; for many threads."""
    if isinstance(file, RemoteStream):
        return file.pread(count, offset)
    return os.pread(file.fileno(), count, offset)


def opened_file(path: RemotePath) -> RemoteFile:
    """Return the file of an address, one for all who read it at a time.

    Raises
    ------
    WsiError
        About the address, where the file cannot be reached or read.
    """
    full = path.address.full
    try:
        with _LOCKS[hash(full) % len(_LOCKS)]:
            file = _files.get(full)
            if file is None or not file.is_current(FRESH_S):
                file = RemoteFile(_wire(path.address))
                _files[full] = file
            if file not in _latest:
                _latest.append(file)
            return file
    except WsiError as error:
        raise error.about(str(path)) from None


def _wire(address: Address) -> Any:
    # Their libraries take a while to import, and few slides lie on servers.
    if address.is_web:
        from wsi_sampath.slides.remote.http import HttpWire

        return HttpWire(address.full)
    from wsi_sampath.slides.remote.store import open_store

    return open_store(address)


def _as_parts(address: Address) -> str:
    return f"{address.shown.rpartition('/')[0]}/{address.name}"
