"""Read a table of nuclei back."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from wsi_sampath.classes import ClassSpec
from wsi_sampath.errors import WsiError
from wsi_sampath.files import require_file
from wsi_sampath.outputs.nuclei.columns import FORMAT, OURS, SIDES, TableInfo, table_schema

_HINT = "run wsi-segment again"


@dataclass(frozen=True)
class NucleusTable:
    """A file that is a whole table of nuclei of ours, as far as its end tells.

    Attributes
    ----------
    path
        The file.
    info
        What it says of itself.
    rows
        Number of nuclei.
    """

    path: Path
    info: TableInfo
    rows: int

    def read(self, box: tuple[float, float, float, float] | None = None) -> pa.Table:
        """Read nuclei; see `read_nuclei`."""
        try:
            with pq.ParquetFile(self.path, page_checksum_verification=True) as file:
                groups = [g for g in range(file.num_row_groups) if _touches(file.metadata, g, box)]
                table = file.read_row_groups(groups)
        except (OSError, pa.ArrowException) as error:
            _refuse(self.path, error)
        return table if box is None else _within(table, box)


def open_nuclei(path: Path, *, run: str | None = None) -> NucleusTable:
    """Check, by its end, that a file is a whole table of nuclei of ours.

    Parameters
    ----------
    path
        ``NAME.nuclei.parquet``.
    run
        Id of the run that it must be of; None for any.

    Raises
    ------
    WsiError
        ``unreadable`` where it is not there, not whole, or not ours; ``bad-input`` where it is of
        another run.
    """
    require_file(path, "unreadable")
    try:
        with pq.ParquetFile(path) as file:
            schema, rows = file.schema_arrow, file.metadata.num_rows
    except (OSError, pa.ArrowException) as error:
        _refuse(path, error)
    info = _info(path, schema, rows)
    if run is not None and info.run != run:
        message = f"is of run {info.run}, not of {run}; {_HINT}, or move it away"
        raise WsiError("bad-input", message, subject=str(path))
    return NucleusTable(path, info, rows)


def read_nuclei(
    path: Path, box: tuple[float, float, float, float] | None = None, *, run: str | None = None
) -> pa.Table:
    """Read a table of nuclei.

    Parameters
    ----------
    path
        ``NAME.nuclei.parquet``.
    box
        x, y, width and height in level-0 pixels as the table counts them; only nuclei whose own box
        touches it are returned, and parts of the file that hold none are passed over. None for all.
    run
        Id of the run that the table must be of; None for any.

    Returns
    -------
    pyarrow.Table
        One row a nucleus, in the order of the file. ``geometry`` is WKB: ``shapely.from_wkb``.

    Raises
    ------
    WsiError
        As `open_nuclei`, and ``unreadable`` where the rows are damaged.
    """
    return open_nuclei(path, run=run).read(box)


def _info(path: Path, schema: pa.Schema, rows: int) -> TableInfo:
    try:
        ours: dict[str, Any] = json.loads((schema.metadata or {})[OURS])
        classes = tuple(ClassSpec(name=one["name"], color=one["color"]) for one in ours["classes"])
        mpp, offset = map(float, ours["mpp"]), map(float, ours["bounds_offset"])
        (mpp_x, mpp_y), (offset_x, offset_y) = mpp, offset
        is_ours = ours["format"] == FORMAT and ours["rows"] == rows
        info = TableInfo(
            str(ours["run"]), str(ours["slide"]), (mpp_x, mpp_y), classes, (offset_x, offset_y)
        )
    except (LookupError, TypeError, ValueError, RecursionError):
        is_ours = False
    if not is_ours or not schema.remove_metadata().equals(table_schema()):
        message = f"is not a table of nuclei as wsi-segment writes it; {_HINT}"
        raise WsiError("unreadable", message, subject=str(path))
    return info


def _touches(metadata: Any, group: int, box: tuple[float, float, float, float] | None) -> bool:
    """Return whether a row group may hold nuclei in a box, by its statistics."""
    if box is None:
        return True
    columns = (metadata.row_group(group).column(n) for n in range(metadata.num_columns))
    known = {column.path_in_schema: column.statistics for column in columns}
    sides = [known[f"bbox.{side}"] for side in SIDES]
    if any(side is None or not side.has_min_max for side in sides):
        return True
    x, y, width, height = box
    left, top, right, bottom = sides
    return bool(
        left.min <= x + width and right.max >= x and top.min <= y + height and bottom.max >= y
    )


def _within(table: pa.Table, box: tuple[float, float, float, float]) -> pa.Table:
    x, y, width, height = box
    left, top, right, bottom = (pc.struct_field(table["bbox"], side) for side in SIDES)
    inside = pc.and_(
        pc.and_(pc.less_equal(left, x + width), pc.greater_equal(right, x)),
        pc.and_(pc.less_equal(top, y + height), pc.greater_equal(bottom, y)),
    )
    return table.filter(inside)


def _refuse(path: Path, error: Exception) -> NoReturn:
    message = f"can't be read as a table of nuclei; it may be cut off ({error}); {_HINT}"
    raise WsiError("unreadable", message, subject=str(path)) from error
