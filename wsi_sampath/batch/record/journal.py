"""What became of every slide, written by several processes at once without a server or a lock.

Each process appends to a file of its own; all read everyone's. A line that a kill cut off has no
line end and is never read; one that a power loss tore is passed over and counted. Their slides are
simply found again.
"""

from __future__ import annotations

import json
import os
import socket
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

from wsi_sampath.batch.record.contents import Record
from wsi_sampath.shown import json_line


def journal_folder(out: Path) -> Path:
    """Return where the journal of an output folder lies."""
    return out / ".wsi_sampath" / "journal"


class Journal:
    """The records of a batch folder.

    Parameters
    ----------
    folder
        Where the processes' files lie; made when the first record is written.

    Attributes
    ----------
    torn
        Files of which something could not be read so far, with the number of such lines.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}.jsonl"
        self._own = folder / name
        self._read_up_to: dict[Path, int] = {}
        self._latest: dict[str, Record] = {}
        self._is_cut = False
        self.torn: dict[Path, int] = {}

    def add(self, record: Record) -> None:
        """Append a record; it survives a kill of this process once this returns."""
        self._folder.mkdir(parents=True, exist_ok=True)
        # After a write that a full disk cut short, a line of its own.
        line = ("\n" if self._is_cut else "") + json_line(record.as_json()) + "\n"
        self._is_cut = True
        with self._own.open("a", encoding="utf-8") as stream:
            stream.write(line)
            stream.flush()
            os.fsync(stream.fileno())
        self._is_cut = False

    def latest(self) -> Mapping[str, Record]:
        """Return the newest record of every slide, by its zarr's path; reads only what is new."""
        for path in sorted(self._folder.glob("*.jsonl")):
            for record in self._news(path):
                known = self._latest.get(record.zarr)
                if known is None or record.time >= known.time:
                    self._latest[record.zarr] = record
        return self._latest

    def _news(self, path: Path) -> Iterator[Record]:
        start = self._read_up_to.get(path, 0)
        try:
            if path.stat().st_size <= start:
                return
            with path.open("rb") as stream:
                stream.seek(start)
                data = stream.read()
        except OSError:
            self.torn.setdefault(path, 1)
            return
        whole = data[: data.rfind(b"\n") + 1]
        self._read_up_to[path] = start + len(whole)
        for line in filter(None, whole.splitlines()):
            try:
                yield Record.from_json(json.loads(line))
            except (ValueError, RecursionError):
                self.torn[path] = self.torn.get(path, 0) + 1
