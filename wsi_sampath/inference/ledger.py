"""What survives a kill: after every strip, enough to go on as if nothing had happened.

The ledger lies in the working folder beside the growing zarr. Each finished strip leaves one file,
complete or absent (written under another name, then renamed): the rows that the zarr does not hold
in full chunks yet, the blender's carry, the tracer's open regions, and counts. The newest file
says where to go on; older ones are kept only while their rows are not on disk as chunks.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numcodecs
import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]
_CODEC = numcodecs.Blosc("lz4", 1, numcodecs.Blosc.SHUFFLE)
_IDENTITY = "identity.json"


@dataclass(frozen=True)
class Strip:
    """One finished strip as the ledger keeps it.

    Attributes
    ----------
    row
        Its tile row.
    notes
        JSON values: counts, offsets.
    arrays
        Arrays by name.
    """

    row: int
    notes: dict[str, Any]
    arrays: Arrays


class Ledger:
    """The strips of one run that are safe on disk.

    Parameters
    ----------
    folder
        The ledger's own folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @staticmethod
    def is_own(path: Path) -> bool:
        """Tell by its name whether a file is one that ledgers write."""
        return path.name.removesuffix(".growing").endswith((_IDENTITY, ".strip"))

    def start(self, identity: dict[str, Any]) -> None:
        """Begin an empty ledger for the run that `identity` describes."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        _write_durably(self._folder / _IDENTITY, [json.dumps(identity).encode()])

    def identity(self) -> dict[str, Any] | None:
        """Return what the run was started with; None where there is no ledger."""
        try:
            identity = json.loads((self._folder / _IDENTITY).read_bytes())
        except (OSError, ValueError):
            return None
        return identity if isinstance(identity, dict) else None

    def save(self, strip: Strip, *, keep_from: int) -> None:
        """Make a strip durable, then forget those before row `keep_from`."""
        _write_durably(self._file(strip.row), _pack(strip))
        for row in self._rows():
            if row < min(keep_from, strip.row):
                self._file(row).unlink()

    def last(self) -> Strip | None:
        """Return the newest strip; None where none was finished."""
        rows = self._rows()
        return self._load(rows[-1]) if rows else None

    def strips(self) -> Iterator[Strip]:
        """Go through the kept strips, oldest first."""
        return (self._load(row) for row in self._rows())

    def _rows(self) -> list[int]:
        return sorted(int(path.stem) for path in self._folder.glob("*.strip"))

    def _file(self, row: int) -> Path:
        return self._folder / f"{row:08d}.strip"

    def _load(self, row: int) -> Strip:
        with self._file(row).open("rb") as stream:
            return _unpack(row, stream)


def _pack(strip: Strip) -> Iterator[bytes]:
    """Pack a strip: a line of notes, then for each array a line that describes it and its bytes."""
    yield json.dumps(strip.notes).encode() + b"\n"
    for name, array in strip.arrays.items():
        body = _encode(array)
        yield json.dumps([name, array.dtype.str, list(array.shape), len(body)]).encode() + b"\n"
        yield body


def _unpack(row: int, stream: IO[bytes]) -> Strip:
    notes = json.loads(stream.readline())
    arrays: Arrays = {}
    while head := stream.readline():
        name, dtype, shape, length = json.loads(head)
        arrays[name] = _decode(stream.read(length), dtype, shape)
    return Strip(row, notes, arrays)


def _encode(array: NDArray[Any]) -> bytes:
    return _CODEC.encode(np.ascontiguousarray(array)) if array.size else b""


def _decode(data: bytes, dtype: str, shape: list[int]) -> NDArray[Any]:
    if not data:
        return np.zeros(shape, dtype)
    return np.frombuffer(_CODEC.decode(data), dtype).reshape(shape).copy()


def _write_durably(path: Path, parts: Iterable[bytes]) -> None:
    growing = path.with_name(path.name + ".growing")
    with growing.open("wb") as stream:
        stream.writelines(parts)
        stream.flush()
        os.fsync(stream.fileno())
    growing.rename(path)
