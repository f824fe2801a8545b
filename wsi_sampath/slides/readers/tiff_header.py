"""The directories of a TIFF, read with nothing but `struct`: what a header claims, unchecked.

Libraries allocate and loop by what a header says. This module reads the same numbers in bounded
time and memory, so that they can be checked first. After TIFF 6.0 and the BigTIFF design.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

_MOST_DIRECTORIES = 1000
_MOST_ENTRIES = 4096
_TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_TYPE_SIZES |= {16: 8, 17: 8, 18: 8}
_INTEGERS = {1: "u1", 3: "u2", 4: "u4", 13: "u4", 16: "u8", 18: "u8"}
_NDPI = 65420
# Limit of an offset or a count: two of them add up without overflow.
_LARGEST = np.uint64(1 << 61)
WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, SAMPLES = 256, 257, 258, 259, 262, 277
STRIP_OFFSETS, ROWS_PER_STRIP, STRIP_COUNTS, PLANAR = 273, 278, 279, 284
TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_COUNTS = 322, 323, 324, 325
_SUB_DIRECTORIES, _DEPTH = 330, 32997
_NEEDED = (STRIP_OFFSETS, STRIP_COUNTS, TILE_OFFSETS, TILE_COUNTS)


@dataclass(frozen=True)
class Entry:
    """A tag: where its values lie in the file, and how many it claims."""

    kind: int
    count: int
    position: int

    @property
    def size(self) -> int:
        """Bytes of all values, as claimed."""
        return _TYPE_SIZES.get(self.kind, 1) * self.count

    @property
    def is_whole(self) -> bool:
        """Whether its values are unsigned integers, as offsets and counts of bytes are."""
        return self.kind in _INTEGERS


@dataclass(frozen=True)
class Directory:
    """One image of a TIFF, as its header describes it.

    Attributes
    ----------
    entries
        Tags by number.
    values
        First values of the short integer tags.
    """

    entries: dict[int, Entry]
    values: dict[int, int]

    def value(self, tag: int, default: int) -> int:
        """Return the first value of an integer tag."""
        return self.values.get(tag, default)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) as claimed, 0 where not stated."""
        return self.value(WIDTH, 0), self.value(HEIGHT, 0)

    @property
    def is_tiled(self) -> bool:
        """Whether the image is cut into tiles rather than strips."""
        return TILE_OFFSETS in self.entries

    @property
    def segment(self) -> tuple[int, int]:
        """(width, height) of a tile or strip, as claimed."""
        width, height = self.size
        if self.is_tiled:
            return self.value(TILE_WIDTH, 0), self.value(TILE_HEIGHT, 0)
        return width, min(self.value(ROWS_PER_STRIP, height) or height, height)

    @property
    def planes(self) -> int:
        """How often the image's segments are listed: once, or once per sample."""
        return self.value(SAMPLES, 1) if self.value(PLANAR, 1) == 2 else 1

    @property
    def is_flat(self) -> bool:
        """Whether its size alone decides how many segments there are."""
        depth_free = self.value(_DEPTH, 1) == 1
        return depth_free and (self.is_tiled or ROWS_PER_STRIP in self.values)

    @property
    def grid(self) -> tuple[int, int]:
        """(columns, rows) of the segments that an image of this size needs."""
        (width, height), (across, down) = self.size, self.segment
        if min(width, height, across, down) < 1:
            return 0, 0
        return -(-width // across), -(-height // down)

    @property
    def segments(self) -> int:
        """Tiles or strips that an image of this size needs."""
        columns, rows = self.grid
        return columns * rows * self.planes

    @property
    def segment_bytes(self) -> int:
        """Bytes of a whole segment once decoded."""
        across, down = self.segment
        samples = 1 if self.planes > 1 else self.value(SAMPLES, 1)
        return down * -(-across * samples * self.value(BITS, 1) // 8)


@dataclass(frozen=True)
class Header:
    """The directories of a file.

    Attributes
    ----------
    path
        The file.
    file_size
        In bytes.
    order
        ``"<"`` or ``">"``.
    directories
        Those that lie inside the file, including sub-directories.
    cut_off
        Whether the chain of directories leads beyond the end of the file.
    """

    path: Path
    file_size: int
    order: str
    directories: tuple[Directory, ...]
    cut_off: bool

    def array(self, entry: Entry | None) -> NDArray[np.int64]:
        """Read the values of an integer tag; those beyond the end of the file are left out."""
        kind = None if entry is None else _INTEGERS.get(entry.kind)
        if entry is None or kind is None:
            return np.empty(0, np.int64)
        with self.path.open("rb") as stream:
            stream.seek(entry.position)
            data = stream.read(min(entry.size, max(0, self.file_size - entry.position)))
        step = _TYPE_SIZES[entry.kind]
        values = np.frombuffer(data[: len(data) // step * step], np.dtype(self.order + kind))
        return np.minimum(values.astype(np.uint64), _LARGEST).astype(np.int64)

    def bytes_at(self, offset: int, count: int) -> bytes:
        """Read bytes, fewer where the file ends."""
        with self.path.open("rb") as stream:
            stream.seek(min(max(offset, 0), self.file_size))
            return stream.read(max(0, count))


@dataclass
class _Walk:
    """A walk along the directories, which never visits one twice."""

    stream: IO[bytes]
    file_size: int
    order: str
    big: bool
    seen: set[int] = field(default_factory=set)
    cut_off: bool = False

    def along(self, offset: int) -> Iterator[Directory]:
        """Yield the directories of a chain, each followed by those below it."""
        while offset and offset not in self.seen and len(self.seen) < _MOST_DIRECTORIES:
            self.seen.add(offset)
            found = self._directory(offset)
            if found is None:
                return
            directory, offset = found
            yield directory
            for below in self._below(directory):
                yield from self.along(below)

    def _below(self, directory: Directory) -> list[int]:
        entry = directory.entries.get(_SUB_DIRECTORIES)
        if entry is None or entry.kind not in _INTEGERS or entry.count > _MOST_DIRECTORIES:
            return []
        data = self._read(entry.position, entry.size)
        kind = np.dtype(self.order + _INTEGERS[entry.kind])
        return [] if data is None else [int(number) for number in np.frombuffer(data, kind)]

    def _directory(self, offset: int) -> tuple[Directory, int] | None:
        head, wide = (8, 20) if self.big else (2, 12)
        start = self._read(offset, head)
        if start is None:
            return None
        count = self._number(start)
        body = self._read(offset + head, min(count, _MOST_ENTRIES) * wide)
        if body is None or count > _MOST_ENTRIES:
            return None
        entries = dict(self._entry(body, at, offset + head) for at in range(0, len(body), wide))
        self.cut_off |= any(self._is_cut_off(entries[tag]) for tag in _NEEDED if tag in entries)
        after = self._read(offset + head + len(body), 8 if self.big else 4, needed=False)
        values = {tag: self._first(entry) for tag, entry in entries.items()}
        plain = {tag: value for tag, value in values.items() if value is not None}
        return Directory(entries, plain), 0 if after is None else self._number(after)

    def _entry(self, body: bytes, at: int, origin: int) -> tuple[int, Entry]:
        tag, kind = struct.unpack_from(self.order + "HH", body, at)
        width = 8 if self.big else 4
        count = self._number(body[at + 4 : at + 4 + width])
        inside = _TYPE_SIZES.get(kind, 1) * count <= width
        place = at + 4 + width
        position = origin + place if inside else self._number(body[place : place + width])
        return tag, Entry(kind, count, position)

    def _is_cut_off(self, entry: Entry) -> bool:
        return entry.position + entry.size > self.file_size

    def _first(self, entry: Entry) -> int | None:
        kind = _INTEGERS.get(entry.kind)
        data = self._read(entry.position, _TYPE_SIZES.get(entry.kind, 1), needed=False)
        return None if kind is None or data is None or not entry.count else self._number(data)

    def _read(self, offset: int, count: int, *, needed: bool = True) -> bytes | None:
        if offset + count > self.file_size:
            self.cut_off |= needed
            return None
        self.stream.seek(offset)
        return self.stream.read(count)

    def _number(self, data: bytes) -> int:
        return int.from_bytes(data, "little" if self.order == "<" else "big")


def read_header(path: Path) -> Header | None:
    """Read the directories of a TIFF.

    Returns
    -------
    Header or None
        None for other files, and for NDPI, which has its own rules.
    """
    with path.open("rb") as stream:
        file_size = stream.seek(0, 2)
        stream.seek(0)
        head = stream.read(16)
        order = {b"II": "<", b"MM": ">"}.get(head[:2], "")
        version = struct.unpack(order + "H", head[2:4])[0] if order and len(head) == 16 else 0
        if version not in (42, 43):
            return None
        big = version == 43
        first = struct.unpack(order + "Q", head[8:16])[0] if big else 0
        first = first or struct.unpack(order + "I", head[4:8])[0]
        walk = _Walk(stream, file_size, order, big)
        directories = tuple(walk.along(first))
    if directories and _NDPI in directories[0].entries:
        return None
    return Header(path, file_size, order, directories, walk.cut_off)
