"""``slides.csv``: one row per slide, for programs and spreadsheets."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from wsi_sampath.batch.record.journal import Record
from wsi_sampath.files import replacing
from wsi_sampath.shown import shown

_HIDDEN = {"key", "area_mm2", "nuclei", "time", "has_report", "refused"}
_PLAIN = [one.name for one in fields(Record) if one.name not in _HIDDEN]
_HEAD = b"slide,zarr,status,"
# Spreadsheets take text that begins so for a formula: as OWASP lists them, with their full-width
# twins.
_FORMULAS = tuple("=+-@\t\r\uff1d\uff0b\uff0d\uff20")


def write_table(path: Path, records: Iterable[Record], waiting: Sequence[tuple[str, str]]) -> None:
    """Write the table; it appears at once, complete.

    Parameters
    ----------
    path
        The CSV. Columns: those of `Record`, the time of finishing (ISO 8601, UTC), and
        ``area_mm2 CLASS`` for every class, ``nuclei CLASS`` where there are any. Status is
        ``done``, ``failed`` or ``waiting``. Text that a spreadsheet would take for a formula has
        an apostrophe before it.
    records
        Slides done or failed.
    waiting
        (slide, zarr) of those without a record.
    """
    rows = [_row(record) for record in records]
    rows += [{"slide": slide, "zarr": zarr, "status": "waiting"} for slide, zarr in waiting]
    columns = dict.fromkeys([*_PLAIN, "finished"])
    columns |= dict.fromkeys(name for row in rows for name in row)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), restval="", lineterminator="\n")
    writer.writerow({name: quoted(name) for name in columns})
    for row in sorted(rows, key=lambda row: str(row["zarr"])):
        writer.writerow({name: _cell(value) for name, value in row.items()})
    replace_text(path, text.getvalue())


def read_waiting(path: Path) -> list[tuple[str, str]]:
    """Return (slide, zarr) of those that a table says are waiting; none where it is not ours."""
    if not is_table(path):
        return []
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, ValueError, csv.Error):
        return []
    waiting = [row for row in rows if row["status"] == "waiting" and row["zarr"]]
    return [(unquoted(row["slide"]), unquoted(row["zarr"])) for row in waiting]


def is_table(path: Path) -> bool:
    """Tell whether a file may be replaced by a table: it is one of ours, or not there."""
    try:
        with path.open("rb") as stream:
            return stream.read(len(_HEAD)) == _HEAD
    except FileNotFoundError:
        return True
    except OSError:
        return False


def _cell(value: object) -> object:
    return quoted(value) if isinstance(value, str) else value


def _row(record: Record) -> dict[str, Any]:
    values = record.as_json()
    row = {name: values[name] for name in _PLAIN if values[name] is not None}
    row["finished"] = datetime.fromtimestamp(record.time, UTC).isoformat(timespec="seconds")
    row |= {f"area_mm2 {name}": area for name, area in record.area_mm2.items()}
    return row | {f"nuclei {name}": count for name, count in record.nuclei.items()}


def replace_text(path: Path, text: str) -> None:
    """Write a text file by renaming, safely beside other processes that do the same."""
    with replacing(path, shared=True) as growing:
        growing.write_text(text, encoding="utf-8", errors="backslashreplace")


def quoted(text: str) -> str:
    """Return a cell that every spreadsheet shows as the text it is, on one line.

    Examples
    --------
    >>> quoted("=1+1.svs"), quoted("a.svs")
    ("'=1+1.svs", 'a.svs')
    """
    return f"'{shown(text)}" if text.startswith(_FORMULAS) else shown(text)


def unquoted(cell: str) -> str:
    """Return the text of a cell that `quoted` wrote with an apostrophe."""
    return cell[1:] if cell[:1] == "'" and cell[1:].startswith(_FORMULAS) else cell
