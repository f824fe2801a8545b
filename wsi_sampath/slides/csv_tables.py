"""CSV tables as people write them: any separator, encoding and spelling of the header."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from wsi_sampath.errors import UsageError

_MOST_BYTES = 100 << 20
_SEPARATORS = (",", ";", "\t")
_BYTE_ORDER_MARKS = {
    b"\xef\xbb\xbf": "utf-8-sig",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
_QUOTED = re.compile(r'"[^"]*"')
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?', re.IGNORECASE)


@dataclass(frozen=True)
class Row:
    """One row: the number of its line, and its cells by column, stripped, empty where missing."""

    line: int
    cells: dict[str, str]


@dataclass(frozen=True)
class Table:
    """A table as read.

    Attributes
    ----------
    columns
        Names in lower case, without spaces around them.
    rows
        Those that are not empty.
    decimal_comma
        Whether a comma in a number can only be a decimal comma, because something else separates
        the cells.
    """

    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    decimal_comma: bool


def read_text(path: Path) -> str:
    """Read a text file in UTF-8, UTF-16 with its mark, or else in Windows' Western encoding.

    Raises
    ------
    UsageError
        Where it cannot be read, is not a file, is larger than 100 MB or is not text.
    """
    try:
        if not path.is_file():
            raise UsageError("there is no such file", subject=str(path))
        with path.open("rb") as stream:
            data = stream.read(_MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read it: {error}", subject=str(path)) from None
    if len(data) > _MOST_BYTES:
        raise UsageError("this is more than 100 MB, not a list or a table", subject=str(path))
    text = _decoded(data, path)
    if "\0" in text:
        raise UsageError("it holds NUL bytes: this is not a text file", subject=str(path))
    return text


def read_table(path: Path) -> Table:
    """Read a table with a header, separated by commas, semicolons or tabs.

    Parameters
    ----------
    path
        The file; Excel's ``sep=;`` line is understood.

    Raises
    ------
    UsageError
        Where it cannot be read, a column is named twice, quotes are left open, or a row has more
        cells than the header (an unquoted decimal comma splits one number into two cells).
    """
    try:
        return parse_table(read_text(path))
    except UsageError as error:
        raise error.about(str(path)) from None


def parse_table(text: str) -> Table:
    """Parse the text of a table; see `read_table`."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    first, _, rest = text.partition("\n")
    stated = _SEPARATOR_LINE.fullmatch(first.strip())
    separator = stated[1] if stated else _separator(first)
    try:
        return _parsed(rest if stated else text, separator, skipped=1 if stated else 0)
    except csv.Error as error:
        raise UsageError(f"the table cannot be read: {error}") from None


def _decoded(data: bytes, path: Path) -> str:
    marked = next((c for mark, c in _BYTE_ORDER_MARKS.items() if data.startswith(mark)), None)
    try:
        if marked is not None:
            return data.decode(marked)
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            return data.decode("cp1252")
    except UnicodeDecodeError as error:
        raise UsageError(f"the text cannot be read: {error}", subject=str(path)) from None


def _separator(header: str) -> str:
    """Return the separator that splits the header into the most columns."""
    unquoted = _QUOTED.sub("", header)
    return max(_SEPARATORS, key=unquoted.count)


def _parsed(text: str, separator: str, *, skipped: int) -> Table:
    # Strict: a quote left open would silently swallow the rest of the table.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    columns = tuple(name.strip().lower() for name in next(reader, []))
    for name in columns:
        if name and columns.count(name) > 1:
            raise UsageError(f"the column {name!r} is there more than once")
    rows = tuple(_rows(reader, columns, skipped))
    return Table(columns, rows, decimal_comma=separator != ",")


def _rows(reader: Iterator[list[str]], columns: tuple[str, ...], skipped: int) -> Iterator[Row]:
    for cells in reader:
        line: int = reader.line_num + skipped  # type: ignore[attr-defined]
        stripped = [cell.strip() for cell in cells]
        if not any(stripped):
            continue
        if any(stripped[len(columns) :]):
            raise UsageError(
                f"line {line} has {len(cells)} cells for {len(columns)} columns; write numbers "
                "with a decimal point, or separate the cells by semicolons or tabs"
            )
        padded = stripped + [""] * (len(columns) - len(stripped))
        yield Row(line, dict(zip(columns, padded, strict=False)))
