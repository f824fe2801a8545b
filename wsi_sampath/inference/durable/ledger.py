"""The record that survives a kill: enough to resume from, after a strip that was finished.

The ledger lies in the working folder beside the growing zarr. Each finished strip leaves one file,
complete or absent (written under another name, then renamed): the rows that the zarr does not hold
in full chunks yet, the blender's carry, the tracer's open regions, and counts. The newest file with
a carry says where to go on; older ones are kept only while their rows are not on disk as chunks.
Each begins with its length and digest: one that a power loss tore is passed over.
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
Bytes = bytes | memoryview
_CODEC = numcodecs.Blosc("lz4", 1, numcodecs.Blosc.SHUFFLE)
# Where tissue is dense, packing blended sums takes the processor longer than writing them plain.
_SAMPLE_VALUES, _SAMPLES, _WORTH = 4096, 64, 0.25
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


@dataclass(frozen=True)
class PackedStrip:
    """A strip as the bytes of its file; what it was made of may change meanwhile.

    Attributes
    ----------
    row
        Its tile row.
    needed_from
        Row of the oldest strip that a run which resumes after it reads; None where none does.
    parts
        The bytes, to be written one after another.
    """

    row: int
    needed_from: int | None
    parts: tuple[Bytes, ...]


def pack(strip: Strip, *, keep_from: int | None) -> PackedStrip:
    """Pack a strip for `Ledger.write`, after which those before row `keep_from` are not needed.

    With None its rows are kept for a later strip, and no run resumes after it.
    """
    needed_from = None if keep_from is None else min(keep_from, strip.row)
    return PackedStrip(strip.row, needed_from, _sealed(tuple(_pack(strip, needed_from))))


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

    def write(self, packed: PackedStrip) -> None:
        """Make a strip durable, then forget those that it does not need."""
        with replacing(self._file(packed.row), durable=True) as growing, growing.open("wb") as file:
            file.writelines(packed.parts)
        if packed.needed_from is None:
            return
        for row in self._rows():
            if row < packed.needed_from:
                self._file(row).unlink()

    def candidates(self) -> Iterator[Strip]:
        """Yield the strips after which a run may resume, newest first.

        A strip counts where its file and those of all strips that it needs are whole; what a power
        loss tore is passed over.
        """
        for row in reversed(self._rows()):
            strip = self._load(row)
            if strip is None or _holds_rows_alone(strip):
                continue
            if all(map(self._load, range(strip.notes[_NEEDED], row))):
                yield strip

    def is_empty(self) -> bool:
        """Return whether a run could have resumed after no strip, nor after a torn one."""
        return self._hold_rows_alone(self._rows())

    def is_newest(self, strip: Strip) -> bool:
        """Return whether a run could have resumed after no later strip, nor after a torn one."""
        return self._hold_rows_alone([row for row in self._rows() if row > strip.row])

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

    def _hold_rows_alone(self, rows: Iterable[int]) -> bool:
        found = map(self._load, rows)
        return all(strip is not None and _holds_rows_alone(strip) for strip in found)

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


def _holds_rows_alone(strip: Strip) -> bool:
    return strip.notes[_NEEDED] is None


def _sealed(parts: tuple[Bytes, ...]) -> tuple[Bytes, ...]:
    """Prefix a text with its digest and length, which tell later whether it is whole."""
    return (_seal(parts) + b"\n", *parts)


def _unsealed(data: bytes) -> bytes | None:
    seal, _, body = data.partition(b"\n")
    return body if seal == _seal((body,)) else None


def _seal(parts: Iterable[Bytes]) -> bytes:
    digest, length = xxhash.xxh3_64(), 0
    for part in parts:
        digest.update(part)
        length += len(part)
    return f"{digest.hexdigest()} {length}".encode()


def _pack(strip: Strip, needed_from: int | None) -> Iterator[Bytes]:
    """Pack a strip: a line of notes, then for each array a line that describes it and its bytes."""
    yield json.dumps({**strip.notes, _NEEDED: needed_from}).encode() + b"\n"
    for name, array in strip.arrays.items():
        flat = np.ascontiguousarray(array).reshape(-1)
        shrinks = _shrinks(flat)
        body = _CODEC.encode(flat) if shrinks else flat.copy().view(np.uint8).data
        head = [name, array.dtype.str, list(array.shape), len(body), shrinks]
        yield json.dumps(head).encode() + b"\n"
        yield body


def _unpack(row: int, stream: IO[bytes]) -> Strip:
    notes = json.loads(stream.readline())
    arrays: Arrays = {}
    while head := stream.readline():
        name, dtype, shape, length, shrunk = json.loads(head)
        body = stream.read(length)
        values = np.frombuffer(_CODEC.decode(body) if shrunk else body, dtype)
        arrays[name] = values.reshape(shape).copy()
    return Strip(row, notes, arrays)


def _shrinks(flat: NDArray[Any]) -> bool:
    """Tell by samples whether an array is worth compressing."""
    step = max(_SAMPLE_VALUES, len(flat) // _SAMPLES)
    starts = range(0, len(flat), step)
    sample = np.concatenate([flat[:0], *(flat[at : at + _SAMPLE_VALUES] for at in starts)])
    return bool(len(sample)) and len(_CODEC.encode(sample)) < _WORTH * sample.nbytes
