"""The containers of a GeoJSON: plain, gzip, or a zip of members that QuPath reads one by one.

QuPath holds the JSON of a whole file in memory, several times its size. It reads the members of
a zip one after the other, so that many polygons load in about half the memory.
"""

from __future__ import annotations

import gzip
import io
import os
import re
import shutil
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from wsi_sampath.errors import WsiError
from wsi_sampath.files import replacing
from wsi_sampath.shown import json_line
from wsi_sampath.unpacking import container_by_name, read_texts

SUFFIXES = (".geojson", ".json", ".geojson.gz", ".json.gz", ".geojson.zip")
HEAD = b'{"type":"FeatureCollection","features":['
TAIL = b"\n]}\n"
MEMBER_FEATURES = 100_000
MEMBER_BYTES = 100_000_000
# Beyond this it takes twice as long for a thirtieth less.
_DEFLATE_LEVEL = 5
_RUN = re.compile(rb'\{"type":"FeatureCollection","wsi_sampath":\{"run":"([0-9a-f]{8,64})"[,}]')
_MARK_BYTES = 256
# Of a member's header in a zip: method, lengths of name and of extra field.
_ZIP_HEAD = struct.Struct("<8xH16xHH")
# What reading a container raises that is cut off, or not a container.
BROKEN_PACKING = (
    OSError,
    EOFError,
    zlib.error,
    zipfile.BadZipFile,
    ValueError,
    LookupError,
    RuntimeError,
)
_EPOCH = (1980, 1, 1, 0, 0, 0)


def check_suffix(path: Path) -> None:
    """Refuse a name that says nothing of how to write a GeoJSON.

    Raises
    ------
    WsiError
        ``bad-input``.
    """
    if not path.name.endswith(SUFFIXES):
        message = f"can't write GeoJSON there: the name must end in {', '.join(SUFFIXES)}"
        raise WsiError("bad-input", message, subject=str(path))


def head(run: str | None, further: Mapping[str, Any] | None = None) -> bytes:
    """Return how a file begins: with the id of the run that writes it, if it has one.

    RFC 7946 (6.1) allows such a member, and QuPath ignores it.

    Parameters
    ----------
    run
        In hexadecimal.
    further
        What else to say of the run, as JSON values.
    """
    if run is None:
        return HEAD
    member = json_line({"run": run, **(further or {})}, compact=True)
    return HEAD.replace(b',"features"', f',"wsi_sampath":{member},"features"'.encode())


def run_of(path: Path) -> str | None:
    """Return the id of the run that wrote a file, by its first bytes; None for other files.

    No content of the file raises an error.
    """
    found = _RUN.match(_beginning(path))
    return found[1].decode() if found else None


def says_more(path: Path) -> bool:
    """Return whether a file's head says more of its run than its id; see `head`."""
    beginning = _beginning(path)
    found = _RUN.match(beginning)
    return found is not None and beginning[found.end() - 1 : found.end()] == b","


def _beginning(path: Path) -> bytes:
    try:
        with _unpacked(path) as stream:
            return stream.read(_MARK_BYTES)
    except BROKEN_PACKING:
        return b""


def is_whole(path: Path) -> bool:
    """Return whether a file ends as `pack` writes it: nothing of it was cut off."""
    try:
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                return archive.testzip() is None
        with _unpacked(path) as stream:
            return _end(stream, len(TAIL)) == TAIL
    except BROKEN_PACKING:
        return False


def is_without_features(path: Path) -> bool:
    """Return whether a whole file, as `pack` writes it, has no feature."""
    sought = b"[" + TAIL
    if path.suffix != ".zip":
        with _unpacked(path) as stream:
            return _end(stream, len(sought)) == sought
    with zipfile.ZipFile(path) as archive, archive.open(archive.namelist()[0]) as member:
        return _end(member, len(sought)) == sought


def _end(stream: IO[bytes], length: int) -> bytes:
    end = b""
    while block := stream.read(1 << 20):
        end = (end + block)[-length:]
    return end


def pack(plain: Path, target: Path, *, name: str | None = None) -> None:
    """Turn a finished plain file into the container that the name of `target` asks for.

    Parameters
    ----------
    plain
        `HEAD`, then one feature per line, then `TAIL`; gone afterwards.
    target
        Written atomically. The same features give the same bytes.
    name
        What `target` will be called later, for the members of a zip; None keeps its name.
    """
    if target.suffix not in (".gz", ".zip"):
        plain.replace(target)
        return
    with replacing(target) as growing, growing.open("wb") as raw:
        if target.suffix == ".gz":
            _write_gzip(plain, raw)
        else:
            _write_zip(plain, raw, (name or target.name).removesuffix(".geojson.zip"))
        raw.flush()
        os.fsync(raw.fileno())
    plain.unlink()


def unpack(packed: Path, plain: Path) -> None:
    """Turn what `pack` made back into the plain file, byte for byte."""
    with plain.open("wb") as out:
        if packed.suffix == ".zip":
            _unpack_zip(packed, out)
            return
        opener: Any = gzip.open if packed.suffix == ".gz" else open
        with opener(packed, "rb") as finished:
            shutil.copyfileobj(finished, out)


def read_members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Read the JSON texts of a file, one at a time.

    Parameters
    ----------
    path
        A file with one of `SUFFIXES`.

    Yields
    ------
    name, text
        Name of the member in a zip, empty otherwise, and its bytes.

    Raises
    ------
    OSError, EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError, RuntimeError
        Where the file or its container can't be read.
    WsiError
        ``bad-input`` if it unpacks to too much.
    """
    yield from read_texts(path, container_by_name(path))


def _write_gzip(plain: Path, raw: IO[bytes]) -> None:
    # No name and no time in the header: the same polygons, the same bytes.
    with (
        plain.open("rb") as lines,
        gzip.GzipFile("", "wb", compresslevel=_DEFLATE_LEVEL, fileobj=raw, mtime=0) as packed,
    ):
        shutil.copyfileobj(lines, packed)


def _write_zip(plain: Path, raw: IO[bytes], stem: str) -> None:
    with plain.open("rb") as lines, zipfile.ZipFile(raw, "w") as archive:
        first = lines.readline().rstrip(b"\n")
        number, feature = 1, lines.readline()
        while feature[:1] == b"{" or number == 1:
            with archive.open(_member(f"{stem}-{number:04d}.geojson"), "w") as member:
                feature = _write_member(member, first, feature, lines)
            number += 1


def _member(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name, _EPOCH)
    member.compress_type = zipfile.ZIP_DEFLATED
    # Named compress_level since Python 3.13, which knows this name as well.
    member._compresslevel = _DEFLATE_LEVEL  # type: ignore[attr-defined]
    member.create_system = 3
    member.external_attr = 0o644 << 16
    return member


def _write_member(member: IO[bytes], first: bytes, feature: bytes, lines: IO[bytes]) -> bytes:
    """Write features from `feature` on; return the first line that has no more room."""
    member.write(first)
    count = size = 0
    while feature[:1] == b"{" and count < MEMBER_FEATURES and size < MEMBER_BYTES:
        text = (b",\n" if count else b"\n") + feature.rstrip(b",\n")
        member.write(text)
        count, size = count + 1, size + len(text)
        feature = lines.readline()
    member.write(TAIL)
    return feature


def _unpack_zip(packed: Path, out: IO[bytes]) -> None:
    before = b""
    for _, text in read_members(packed):
        first, _, features = text.removesuffix(TAIL).partition(b"\n")
        if not before:
            out.write(first)
            before = b"\n"
        if features:
            out.write(before + features)
            before = b",\n"
    out.write(TAIL)


def _start_of_zip(path: Path) -> bytes:
    """Unpack the beginning of the first member, which even a zip without its end still has."""
    with path.open("rb") as stream:
        head = stream.read(_ZIP_HEAD.size)
        if len(head) < _ZIP_HEAD.size or not head.startswith(b"PK\3\4"):
            return b""
        method, name_bytes, extra_bytes = _ZIP_HEAD.unpack(head)
        stream.seek(name_bytes + extra_bytes, os.SEEK_CUR)
        packed = stream.read(4 * _MARK_BYTES)
    if method != zipfile.ZIP_DEFLATED:
        return packed[:_MARK_BYTES]
    return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, _MARK_BYTES)


@contextmanager
def _unpacked(path: Path) -> Iterator[IO[bytes]]:
    """Open the plain text of a file; of a zip, the beginning of its first member."""
    if path.suffix == ".gz":
        with gzip.open(path, "rb") as stream:
            yield stream  # type: ignore[misc]
    elif path.suffix == ".zip":
        yield io.BytesIO(_start_of_zip(path))
    else:
        with path.open("rb") as stream:
            yield stream
