"""Answers one by one, each safe as soon as it is there, whatever stops the program next.

A line is the digest of its JSON, then that JSON. The first names the run; a file of another run is
begun anew. A line that a kill cut off or a power loss tore does not fit its digest, and is as good
as never written.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import xxhash

from wsi_sampath.errors import WsiError
from wsi_sampath.outputs.growing import disk_full_named
from wsi_sampath.shown import json_line

_SYNC_S = 1.0
_DIGEST_CHARS = 16
# How a file of ours begins, whole, cut off or blanked.
_OURS = re.compile(rb"[0-9a-f]{16} \{|[0-9a-f]{0,16} ?\Z|\0{17}")


class AnswerJournal:
    """Entries by number, appended to a file.

    Parameters
    ----------
    path
        The file; its folder exists.
    run
        Id of the run. What the file holds of the same run counts, and nothing else.

    Attributes
    ----------
    torn
        Lines that could not be read.

    Raises
    ------
    WsiError
        ``bad-input`` where a file lies there that is no such journal; ``disk-full``.
    """

    def __init__(self, path: Path, run: str) -> None:
        self._path, self._run = path, run
        self._places: dict[int, int] = {}
        self._synced = time.monotonic()
        self.torn = 0
        with self._disk_full_named():
            end = self._read() if path.exists() else 0
            self._file: IO[bytes] = path.open("r+b" if end else "wb")
            self._file.truncate(end)
            self._file.seek(end)
            if not end:
                self._append({"run": run})

    def __contains__(self, number: int) -> bool:
        return number in self._places

    def __len__(self) -> int:
        return len(self._places)

    def add(self, number: int, entry: Mapping[str, Any]) -> None:
        """Append an entry; it survives a kill of this process once this returns."""
        with self._disk_full_named():
            place = self._file.tell()
            self._append({"number": number, **entry})
        self._places[number] = place

    def entry(self, number: int) -> dict[str, Any]:
        """Return an entry that is there."""
        with self._path.open("rb") as file:
            file.seek(self._places[number])
            found = _parsed(file.readline())
        if found is None:
            message = "an answer was changed on the disk while it was needed; run again"
            raise WsiError("internal", message, subject=str(self._path))
        return found

    def close(self) -> None:
        """Make the entries durable, and close the file."""
        if not self._file.closed:
            with self._disk_full_named():
                self._file.flush()
                os.fsync(self._file.fileno())
                self._file.close()

    def remove(self) -> None:
        """Close the file and delete it."""
        self._file.close()
        self._path.unlink(missing_ok=True)

    def _append(self, values: Mapping[str, Any]) -> None:
        text = json_line(values, compact=True).encode()
        self._file.write(xxhash.xxh3_64_hexdigest(text).encode() + b" " + text + b"\n")
        self._file.flush()
        if time.monotonic() - self._synced >= _SYNC_S:
            os.fsync(self._file.fileno())
            self._synced = time.monotonic()

    def _read(self) -> int:
        """Find the entries of this run; return where to go on, 0 for the beginning."""
        with self._path.open("rb") as file:
            first = file.readline()
            begin = _parsed(first)
            if begin is None and not _OURS.match(first):
                message = "a file that is not ours lies where answers are kept; move it away"
                raise WsiError("bad-input", message, subject=str(self._path))
            if begin != {"run": self._run}:
                return 0
            end = file.tell()
            while line := file.readline():
                found = _parsed(line)
                if found is not None:
                    self._places[found["number"]] = end
                elif line.endswith(b"\n"):
                    self.torn += 1
                else:
                    break
                end = file.tell()
        return end

    def _disk_full_named(self) -> Any:
        return disk_full_named("the answers", self._path)


def _parsed(line: bytes) -> dict[str, Any] | None:
    """Return what a line says, or None where it is torn."""
    digest, text = line[:_DIGEST_CHARS], line[_DIGEST_CHARS + 1 : -1]
    if not line.endswith(b"\n") or xxhash.xxh3_64_hexdigest(text).encode() != digest:
        return None
    values: dict[str, Any] = json.loads(text)
    return values
