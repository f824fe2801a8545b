"""The record that survives a kill: after every strip, enough to resume from.

The ledger lies in the working folder beside the growing zarr. Each finished strip leaves one file,
complete or absent (written under another name, then renamed): the rows that the zarr does not hold
in full chunks yet, the blender's carry, the tracer's open regions, and counts. The newest file
says where to go on; older ones are kept only while their rows are not on disk as chunks. Each
begins with its length and digest: one that a power loss tore is passed over.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numcodecs
import numpy as np
import xxhash
from numpy.typing import NDArray

from wsi_sampath.files import GROWING, replacing

Arrays = dict[str, NDArray[Any]]
_CODEC = numcodecs.Blosc("lz4", 1, numcodecs.Blosc.SHUFFLE)
_IDENTITY = "identity.json"
_NEEDED = "needed_from"
_TORN = (ValueError, LookupError, TypeError, RuntimeError)


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


def under(prefix: str, arrays: Arrays) -> Arrays:
    """Return the arrays whose names begin with a prefix, without it."""
    return {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }


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
        return path.name.removesuffix(GROWING).endswith((_IDENTITY, ".strip"))

    def start(self, identity: dict[str, Any]) -> None:
        """Begin an empty ledger for the run that `identity` describes."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        with replacing(self._folder / _IDENTITY, durable=True) as growing:
            growing.write_text(json.dumps(identity), encoding="utf-8")

    def identity(self) -> dict[str, Any] | None:
        """Return what the run was started with; None where there is no ledger, or a torn one."""
        try:
            identity = json.loads((self._folder / _IDENTITY).read_bytes())
        except (OSError, ValueError, RecursionError):
            return None
        return identity if isinstance(identity, dict) else None

    def save(self, strip: Strip, *, keep_from: int) -> None:
        """Make a strip durable, then forget those before row `keep_from`."""
        needed_from = min(keep_from, strip.row)
        with replacing(self._file(strip.row), durable=True) as growing:
            growing.write_bytes(_sealed(_pack(strip, needed_from)))
        for row in self._rows():
            if row < needed_from:
                self._file(row).unlink()

    def candidates(self) -> Iterator[Strip]:
        """Yield the strips after which a run may resume, newest first.

        A strip counts where its file and those of all strips that it needs are whole; what a power
        loss tore is passed over.
        """
        for row in reversed(self._rows()):
            strip = self._load(row)
            if strip is not None and all(map(self._load, range(strip.notes[_NEEDED], row))):
                yield strip

    def is_empty(self) -> bool:
        """Return whether no strip was finished."""
        return not self._rows()

    def is_newest(self, strip: Strip) -> bool:
        """Return whether no later strip was finished, whole or torn."""
        return strip.row == self._rows()[-1]

    def forget_after(self, row: int) -> None:
        """Remove the strips after `row`, which are to be made again."""
        for later in self._rows():
            if later > row:
                self._file(later).unlink()

    def needed_by(self, strip: Strip) -> Iterator[Strip]:
        """Go through the strips whose rows the zarr may lack at `strip`, oldest first, with it."""
        for row in range(strip.notes[_NEEDED], strip.row + 1):
            if (kept := self._load(row)) is not None:
                yield kept

    def _rows(self) -> list[int]:
        files = self._folder.glob("*.strip")
        return sorted(int(path.stem) for path in files if path.stem.isdecimal())

    def _file(self, row: int) -> Path:
        return self._folder / f"{row:08d}.strip"

    def _load(self, row: int) -> Strip | None:
        try:
            body = _unsealed(self._file(row).read_bytes())
            return None if body is None else _unpack(row, io.BytesIO(body))
        except (FileNotFoundError, *_TORN):
            return None


def _sealed(parts: Iterable[bytes]) -> bytes:
    """Prefix a text with its digest and length, which tell later whether it is whole."""
    body = b"".join(parts)
    return _seal(body) + b"\n" + body


def _unsealed(data: bytes) -> bytes | None:
    seal, _, body = data.partition(b"\n")
    return body if seal == _seal(body) else None


def _seal(body: bytes) -> bytes:
    return f"{xxhash.xxh3_64_hexdigest(body)} {len(body)}".encode()


def _pack(strip: Strip, needed_from: int) -> Iterator[bytes]:
    """Pack a strip: a line of notes, then for each array a line that describes it and its bytes."""
    yield json.dumps({**strip.notes, _NEEDED: needed_from}).encode() + b"\n"
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
