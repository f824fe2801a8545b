"""Pieces of prompts out of a table of points: ``points.csv``, or QuPath's own export of points."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from wsi_sampath.errors import UsageError, WsiError
from wsi_sampath.prompt_files.pieces import Piece, sign_of
from wsi_sampath.prompt_files.prompt import Points, Refused
from wsi_sampath.slides.csv_tables import Row, read_table
from wsi_sampath.slides.lengths import read_number

SUFFIXES = (".csv", ".tsv", ".txt")

_MICRO = ("um", "\u00b5m", "\u03bcm")
_PIXELS = {axis: (axis, f"{axis}_px", f"centroid {axis} px") for axis in "xy"}
_MICRONS = {
    axis: tuple(text for um in _MICRO for text in (f"{axis}_{um}", f"centroid {axis} {um}"))
    for axis in "xy"
}
_CLASS = ("class", "classification")
_LABELS = {
    **dict.fromkeys(("", "1", "1.0", "+", "pos", "positive", "true", "foreground", "fg"), True),
    **dict.fromkeys(("0", "0.0", "-1", "-", "neg", "negative", "false", "background", "bg"), False),
}


def read_listed_pieces(
    path: Path, offset: tuple[float, float], mpp: tuple[float, float] | None
) -> list[Piece | Refused]:
    """Read a table of points, one a row.

    Parameters
    ----------
    path
        With the columns ``x,y`` (level-0 px as QuPath counts them) or ``x_um,y_um``; if it likes
        ``label`` (1 on the object, 0 beside it), ``object`` or ``id`` (rows of one object share
        it), ``class`` and ``name``.
    offset
        Added to coordinates in px.
    mpp
        Microns in a level-0 pixel along x and y, for columns in microns.

    Raises
    ------
    WsiError
        ``bad-input`` if it cannot be read, or has no such columns.
    """
    try:
        table = read_table(path)
    except UsageError as error:
        raise _bad(path, error.message) from None
    x, y, scale = _places(path, table.columns, mpp)
    key = "id" if "id" in table.columns else "object"
    per_px, shift = np.array(scale), np.array(offset)
    found: list[Piece | Refused] = []
    for number, row in enumerate(table.rows):
        place = read_number(row.cells[x]), read_number(row.cells[y])
        label = _LABELS.get(row.cells.get("label", "").lower())
        if None in place:
            why = f"'{row.cells[x]}' and '{row.cells[y]}' are not two numbers"
            found.append(Refused(f"line {row.line}", why))
        elif label is None:
            why = f"its label '{row.cells['label']}' is neither 1 nor 0"
            found.append(Refused(f"line {row.line}", why))
        else:
            xy = np.array([place], np.float64) / per_px + shift
            found.append(_piece(number, row, key, xy, is_negative=not label))
    return found


def _places(
    path: Path, columns: tuple[str, ...], mpp: tuple[float, float] | None
) -> tuple[str, str, Points]:
    """Return the columns of x and y, and their unit in level-0 px."""
    for names, scale in ((_PIXELS, (1.0, 1.0)), (_MICRONS, mpp)):
        x, y = (next((one for one in names[axis] if one in columns), None) for axis in "xy")
        if x and y:
            if scale is None:
                raise _bad(path, "is in microns, and the slide has no scale: give --slide-mpp")
            return x, y, np.array(scale)
    shown = ", ".join(filter(None, columns[:8])) or "none"
    raise _bad(path, f"has no columns x and y, or x_um and y_um (its columns: {shown})")


def _piece(number: int, row: Row, key: str, xy: Points, *, is_negative: bool) -> Piece:
    cells = row.cells
    given = cells.get(key, "")
    # An id that is no UUID does not survive in QuPath; a name does.
    name = cells.get("name", "") or given
    class_name = next((cells[one] for one in _CLASS if one in cells), "")
    sign = sign_of(name, class_name, group=given, is_negative=is_negative)
    return Piece(
        number,
        f"line {row.line}",
        id=given if key == "id" else "",
        name=name,
        class_name=class_name,
        xy=xy,
        is_background=sign.is_background,
        group=sign.group,
        must_group=sign.must_group,
    )


def _bad(path: Path, why: str) -> WsiError:
    return WsiError("bad-input", f"cannot use these prompts: {why}", subject=str(path))
