"""``slides.csv``: one row a slide, for programs and spreadsheets."""

from __future__ import annotations

import csv
import io
import os
import socket
from collections.abc import Iterable, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from wsi_sampath.batch.outcome import Record

_HIDDEN = {"key", "area_mm2", "time", "has_report"}
_PLAIN = [one.name for one in fields(Record) if one.name not in _HIDDEN]


def write_table(path: Path, records: Iterable[Record], waiting: Sequence[tuple[str, str]]) -> None:
    """Write the table; it appears at once, complete.

    Parameters
    ----------
    path
        The CSV. Columns: those of `Record`, the time of finishing (ISO 8601, UTC), and
        ``area_mm2 CLASS`` for every class. Status is ``done``, ``failed`` or ``waiting``.
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
    writer.writeheader()
    writer.writerows(sorted(rows, key=lambda row: str(row["zarr"])))
    replace_text(path, text.getvalue())


def _row(record: Record) -> dict[str, Any]:
    values = record.as_json()
    row = {name: values[name] for name in _PLAIN if values[name] is not None}
    row["finished"] = datetime.fromtimestamp(record.time, UTC).isoformat(timespec="seconds")
    return row | {f"area_mm2 {name}": area for name, area in record.area_mm2.items()}


def replace_text(path: Path, text: str) -> None:
    """Write a text file by renaming, safely beside other processes that do the same."""
    growing = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.growing")
    growing.write_text(text, encoding="utf-8")
    growing.replace(path)
