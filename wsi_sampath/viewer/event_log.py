"""A file of JSON lines that only grows, each line safe on the disk before anything goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from wsi_sampath.errors import WsiError
from wsi_sampath.explained import explained
from wsi_sampath.files import replacing
from wsi_sampath.inference.durable.claim import Claim
from wsi_sampath.outputs.growing import disk_full_named
from wsi_sampath.shown import json_line


class EventLog:
    """Lines of a file that one server at a time may add to.

    A last line that a kill or a power loss tore was never acknowledged: it is cut off.

    Parameters
    ----------
    path
        The file. It appears, with its first line, where there is none.
    head
        What the first line says.

    Attributes
    ----------
    path
        The file.
    head
        What its first line says.
    lines
        All others that it had when it was opened.
    torn
        Whether a last line had to be cut off.

    Raises
    ------
    WsiError
        ``busy`` where another server has it open; ``bad-input`` where it is no such file or a line
        before the last is damaged, or where it cannot be written; ``disk-full``.
    """

    def __init__(self, path: Path, head: Mapping[str, Any]) -> None:
        self.path = path
        self._held = ExitStack()
        try:
            with explained(str(path)):
                self._claim = self._held.enter_context(claim_of(path))
                if not path.exists():
                    with replacing(path, durable=True) as growing:
                        growing.write_bytes(_line(head))
                self.head, self.lines, self._end, self.torn = _read(path)
                # Without a buffer: what a full disk refuses must not be written later on.
                self._file = self._held.enter_context(path.open("r+b", buffering=0))
                if self.torn:
                    self._file.truncate(self._end)
                    os.fsync(self._file.fileno())
        except BaseException:
            self._held.close()
            raise

    def append(self, values: Mapping[str, Any]) -> None:
        """Add a line; it survives a kill and a power loss once this returns.

        Raises
        ------
        WsiError
            ``busy``, ``disk-full`` or ``bad-input``; the file is then as it was.
        """
        with explained(str(self.path)), disk_full_named("the annotations", self.path):
            self._claim.check()
            self._check_untouched()
            line = _line(values)
            self._file.seek(self._end)
            try:
                rest = memoryview(line)
                while rest:
                    rest = rest[self._file.write(rest) :]
                os.fsync(self._file.fileno())
            except BaseException:
                with suppress(OSError):
                    self._file.truncate(self._end)
                raise
            self._end += len(line)

    def close(self) -> None:
        """Let others have the file."""
        self._held.close()

    def _check_untouched(self) -> None:
        """Refuse to write into a file that was moved away, replaced or written to meanwhile."""
        ours = os.fstat(self._file.fileno())
        try:
            there = self.path.stat()
        except FileNotFoundError:
            there = None
        same = there is not None and os.path.samestat(ours, there)
        if not same or ours.st_size != self._end:
            message = "another program moved or changed it; start wsi-view again to read it anew"
            raise WsiError("bad-input", message, subject=str(self.path))


def claim_of(path: Path) -> Claim:
    """Return the claim that keeps two servers off one file."""
    return Claim(path.with_name(path.name + ".claim"), option="--session")


def _line(values: Mapping[str, Any]) -> bytes:
    return json_line(values, compact=True).encode() + b"\n"


def _read(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]], int, bool]:
    """Return the first line, the others, where the last whole one ends, and whether one is torn."""
    found: list[dict[str, Any]] = []
    end = 0
    with path.open("rb") as file:
        for line in file:
            values = _parsed(line)
            if values is None:
                if file.read(1):
                    message = f"line {len(found) + 1} is damaged; cut the file off before that line"
                    raise WsiError("bad-input", message, subject=str(path))
                break
            found.append(values)
            end += len(line)
        is_torn = end < os.fstat(file.fileno()).st_size
    if not found:
        message = "is no session of wsi-view; move it away, or choose another --session"
        raise WsiError("bad-input", message, subject=str(path))
    return found[0], found[1:], end, is_torn


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return values if line.endswith(b"\n") and isinstance(values, dict) else None
