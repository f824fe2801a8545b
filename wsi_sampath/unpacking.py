"""The texts inside plain, gzip and zip files, within bounds that a machine can hold."""

from __future__ import annotations

import gzip
import io
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Literal

from wsi_sampath.errors import WsiError

Container = Literal["plain", "gzip", "zip"]

LARGEST = 2 * 2**30
"""Bytes of one text, unpacked, beyond which it is refused."""
MOST_RATIO = 100
"""Times its packed size that a text of more than `UNSUSPICIOUS` bytes may have."""
UNSUSPICIOUS = 32 * 2**20
MOST_MEMBERS = 100_000
_CHUNK = 2**20

UNREADABLE = (OSError, EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError, RuntimeError)
"""What the containers raise where they are damaged, cut, locked or packed in an unknown way."""


def container_by_name(path: Path) -> Container:
    """Return the container that a name suggests."""
    return {".gz": "gzip", ".zip": "zip"}.get(path.suffix.lower(), "plain")  # type: ignore[return-value]


def container_by_content(path: Path) -> Container:
    """Return the container by the first bytes, whatever the name.

    Raises
    ------
    OSError
        If the file can't be read.
    """
    with path.open("rb") as file:
        start = file.read(4)
    if start[:2] == b"\x1f\x8b":
        return "gzip"
    return "zip" if start in (b"PK\x03\x04", b"PK\x05\x06") else "plain"


def read_texts(path: Path, container: Container) -> Iterator[tuple[str, bytes]]:
    """Read the texts of a file, one at a time.

    Parameters
    ----------
    path
        A file.
    container
        How it is packed.

    Yields
    ------
    name, text
        Name of the member in a zip, empty otherwise, and its bytes. Members that are gzip files
        themselves are unpacked.

    Raises
    ------
    OSError, EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError, RuntimeError
        Those of `UNREADABLE`, where the file or its container can't be read.
    WsiError
        ``bad-input`` for what would unpack to more than `LARGEST` bytes, or to more than
        `MOST_RATIO` times its size.
    """
    if container == "zip":
        with zipfile.ZipFile(path) as archive:
            for member in checked_members(archive, path):
                yield member.filename, read_member(archive, member, path)
        return
    if not path.is_file() and path.exists():
        raise WsiError("bad-input", "is not a file", subject=str(path))
    with path.open("rb") as file:
        size = path.stat().st_size
        _check_size(size, size, path)
        yield "", _gunzipped(file, size, path) if container == "gzip" else file.read()


def checked_members(archive: zipfile.ZipFile, path: Path) -> list[zipfile.ZipInfo]:
    """Return the files in a zip, none of which unpacks to too much.

    Raises
    ------
    WsiError
        ``bad-input`` otherwise.
    """
    members = [member for member in archive.infolist() if not member.is_dir()]
    if len(members) > MOST_MEMBERS:
        raise WsiError("bad-input", f"has more than {MOST_MEMBERS:,} members", subject=str(path))
    # Members may share their packed bytes, so only the sum is reliable.
    _check_ratio(sum(member.file_size for member in members), path.stat().st_size, path)
    for member in members:
        _check_size(member.file_size, member.compress_size, path)
    return members


def read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> bytes:
    """Read a member of a zip; one that is a gzip file is unpacked, too.

    Raises
    ------
    OSError, EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError, RuntimeError
        Those of `UNREADABLE`.
    WsiError
        ``bad-input`` if it is too large.
    """
    raw = archive.read(member)
    if not member.filename.lower().endswith(".gz"):
        return raw
    return _gunzipped(io.BytesIO(raw), len(raw), path)


def _gunzipped(file: IO[bytes], packed: int, path: Path) -> bytes:
    # Counted before anything is kept: a bomb of gigabytes costs a megabyte.
    size = 0
    with gzip.GzipFile(fileobj=file) as stream:
        while chunk := stream.read(_CHUNK):
            size += len(chunk)
            _check_size(size, packed, path)
    file.seek(0)
    with gzip.GzipFile(fileobj=file) as stream:
        return stream.read()


def _check_size(size: int, packed: int, path: Path) -> None:
    if size > LARGEST:
        message = f"holds a text of more than {LARGEST // 2**30} GiB; split it"
        raise WsiError("bad-input", message, subject=str(path))
    _check_ratio(size, packed, path)


def _check_ratio(size: int, packed: int, path: Path) -> None:
    if size > max(UNSUSPICIOUS, MOST_RATIO * packed):
        message = (
            f"unpacks to more than {MOST_RATIO} times its size and {UNSUSPICIOUS // 2**20} MiB, "
            "which no annotations do; unpack it yourself if you trust it"
        )
        raise WsiError("bad-input", message, subject=str(path))
