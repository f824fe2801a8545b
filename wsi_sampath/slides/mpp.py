"""Microns per pixel: where the value comes from, and whether it can be true."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

from wsi_sampath.errors import UsageError, WsiError
from wsi_sampath.plausible import PLAUSIBLE_MPP
from wsi_sampath.slides.csv_tables import Row, Table, read_table
from wsi_sampath.slides.lengths import read_number, um_per_unit
from wsi_sampath.slides.remote.address import as_address
from wsi_sampath.slides.remote.place import RemotePath

MppSource = Literal["flag", "csv", "metadata"]
CONFLICT = 0.01
# Um per pixel times magnification, 10 in the usual scanner. A doubler or a finer camera makes it
# smaller (a 20x objective at 0.24 um is common, at 0.17 um possible), hardly anything larger.
_UM_TIMES_MAGNIFICATION = 10.0
_FINEST, _COARSEST = 0.33, 1.7
_PATH_COLUMNS = ("wsi", "slide", "path", "filename", "file")
_BETWEEN = re.compile(
    r"\s*;\s*|\s+[x\u00d7]\s+|(?<=\d)[x\u00d7](?=[\d.,])|(?<=\d)\s+(?=[\d.,])", re.IGNORECASE
)
_PER_PIXEL = re.compile(r"\s*(/|per)\s*(px|pixels?)$", re.IGNORECASE)
_VALUE = re.compile(r"([^\s\w]?[\d.,]+(?:[eE][+-]?\d+)?)\s*(.*)", re.ASCII | re.DOTALL)


@dataclass(frozen=True)
class Mpp:
    """Microns per level-0 pixel, and where they came from.

    Attributes
    ----------
    x, y
        Microns per pixel, kept apart because scanners exist whose pixels are not square.
    source
        ``"flag"`` (given by the caller), ``"csv"`` or ``"metadata"`` (read from the slide).
    stated_by
        Where in the file it is stated, such as ``"OME-XML"``; empty if it came from elsewhere.
    beside
        What the file states where the value is not its own, in words.
    """

    x: float
    y: float
    source: MppSource
    stated_by: str = ""
    beside: str = field(default="", compare=False)

    @property
    def origin(self) -> str:
        """Where the value comes from, in words, and what vouches for it.

        Examples
        --------
        >>> Mpp(0.25, 0.25, "flag", beside="the file states nothing").origin
        'given by --slide-mpp, taken on your word: the file states nothing'
        """
        if self.source == "metadata":
            return self.stated_by or "the file"
        by = {"flag": "--slide-mpp", "csv": "the mpp CSV"}[self.source]
        return f"given by {by}, taken on your word{self.beside and ': '}{self.beside}"


def resolve_mpp(
    metadata: tuple[float, float] | None,
    *,
    flag: tuple[float, float] | None = None,
    table: tuple[float, float] | None = None,
    stated_by: str = "",
    hint: str = "",
) -> tuple[Mpp, list[str]]:
    """Choose the slide's mpp: flag, then CSV, then metadata.

    Parameters
    ----------
    metadata
        (x, y) in um per level-0 pixel as the file states it, None where it states nothing.
    flag, table
        (x, y) given by the caller, and by an mpp CSV.
    stated_by
        The place in the file that states `metadata`.
    hint
        What else the file says about its scale, for the error message.

    Returns
    -------
    (Mpp, list of str)
        The chosen mpp, and warnings (for an override that contradicts the metadata).

    Raises
    ------
    WsiError
        ``no-mpp`` where no source has one, ``implausible-mpp`` outside 0.05 to 20 um.
    """
    if flag is not None:
        chosen = Mpp(*flag, source="flag", beside=_beside(flag, metadata, stated_by, hint))
    elif table is not None:
        chosen = Mpp(*table, source="csv", beside=_beside(table, metadata, stated_by, hint))
    elif metadata is not None:
        chosen = Mpp(*metadata, source="metadata", stated_by=stated_by)
    else:
        raise WsiError(
            "no-mpp",
            f"the file does not state its microns per pixel{f' ({hint})' if hint else ''}; give "
            "them with --slide-mpp, or for several slides with --mpp-csv, a table with the columns "
            "wsi,mpp: a 20x scan has about 0.5, a 40x scan about 0.25; to measure them, draw a "
            "line over something of known length in QuPath or ImageJ, and divide its um by its "
            "pixels",
        )
    _check_plausible(chosen)
    return chosen, _conflicts(chosen, metadata, stated_by)


def _beside(
    given: tuple[float, float], stated: tuple[float, float] | None, stated_by: str, hint: str
) -> str:
    if stated is None:
        return f"the file states none ({hint})" if hint else "the file states nothing"
    by = f" ({stated_by})" if stated_by else ""
    if any(differs(*pair) for pair in zip(given, stated, strict=True)):
        return f"the file states {format_mpp(*stated)}{by}"
    return f"the file states the same{by}"


def differs(first: float, second: float) -> bool:
    """Return whether two values of one mpp differ by more than 1 %."""
    return not math.isclose(first, second, rel_tol=CONFLICT)


def format_mpp(x: float, y: float) -> str:
    """Return an mpp as people read it, one number where the axes are equal.

    Examples
    --------
    >>> format_mpp(0.25, 0.25), format_mpp(0.25, 0.5)
    ('0.25 um', '0.25 x 0.5 um')
    """
    return f"{x:.5g} um" if f"{x:.5g}" == f"{y:.5g}" else f"{x:.5g} x {y:.5g} um"


def objective_doubts(mpp: Mpp, objective: float | None) -> list[str]:
    """Return a warning where the pixel size cannot belong to the stated objective.

    Parameters
    ----------
    mpp
        The chosen mpp.
    objective
        Magnification as the file states it, None if it does not.

    Examples
    --------
    >>> objective_doubts(Mpp(0.2325, 0.2325, "metadata"), 20.0)
    []
    >>> objective_doubts(Mpp(1.0, 1.0, "metadata"), 40.0)[0]
    'a 40x objective and 1 um per pixel hardly go together (about 0.25 is usual); ...'
    """
    if objective is None or not 0.5 <= objective <= 200:
        return []
    usual = _UM_TIMES_MAGNIFICATION / objective
    if _FINEST * usual <= min(mpp.x, mpp.y) and max(mpp.x, mpp.y) <= _COARSEST * usual:
        return []
    return [
        f"a {objective:g}x objective and {format_mpp(mpp.x, mpp.y)} per pixel hardly go together "
        f"(about {usual:.3g} is usual); if areas look wrong, give the true value with --slide-mpp"
    ]


def _check_plausible(mpp: Mpp) -> None:
    low, high = PLAUSIBLE_MPP
    if all(low <= value <= high for value in (mpp.x, mpp.y)):
        return
    by = f" ({mpp.stated_by})" if mpp.stated_by else ""
    origin = {"flag": "--slide-mpp says", "csv": "the mpp CSV says", "metadata": "the file says"}
    raise WsiError(
        "implausible-mpp",
        f"{origin[mpp.source]}{by} {mpp.x:.5g} x {mpp.y:.5g} um per pixel, outside "
        f"{low} to {high}{_other_unit(mpp)}; give the true value with --slide-mpp",
    )


def _other_unit(mpp: Mpp) -> str:
    if mpp.source == "metadata":
        return ""
    low, high = PLAUSIBLE_MPP
    for unit, um in (("nm", 1e-3), ("mm", 1e3)):
        if low <= mpp.x * um <= high and low <= mpp.y * um <= high:
            return f" (is it in {unit}? {mpp.x:.5g} {unit} are {mpp.x * um:.5g} um)"
    return ""


def _conflicts(chosen: Mpp, metadata: tuple[float, float] | None, stated_by: str = "") -> list[str]:
    if chosen.source == "metadata" or metadata is None:
        return []
    if not differs(chosen.x, metadata[0]) and not differs(chosen.y, metadata[1]):
        return []
    by = f" ({stated_by})" if stated_by else ""
    return [
        f"mpp {chosen.x:.5g} x {chosen.y:.5g} from the {chosen.source} overrides "
        f"{metadata[0]:.5g} x {metadata[1]:.5g} stated by the file{by}"
    ]


def parse_mpp(text: str | float, *, decimal_comma: bool = False) -> tuple[float, float]:
    """Read microns per pixel: one number, or two as X,Y, with or without a unit.

    Parameters
    ----------
    text
        ``0.5``, ``0.5,0.25``, ``0.5 x 0.25``, ``0,5;0,25``, ``0.25 um``, ``250 nm/px``.
    decimal_comma
        Whether a lone comma is certainly a decimal comma, as in a table whose cells are separated
        by semicolons. Otherwise ``0,5`` could also be X,Y, and is refused.

    Returns
    -------
    (float, float)
        (x, y) in um per pixel.

    Raises
    ------
    WsiError
        ``bad-input`` for anything that is not one or two positive numbers, or could be either.

    Examples
    --------
    >>> parse_mpp("250 nm"), parse_mpp("0,5", decimal_comma=True), parse_mpp("0.5,0.25")
    ((0.25, 0.25), (0.5, 0.5), (0.5, 0.25))
    """
    written = str(text).strip()
    values = [_um(part) for part in _parts(written, decimal_comma=decimal_comma)]
    if len(values) not in (1, 2) or any(value is None or value <= 0 for value in values):
        message = f"mpp {_short(written)} is not a positive number, nor two as X,Y"
        raise WsiError("bad-input", message)
    first, last = values[0], values[-1]
    assert first is not None
    assert last is not None
    return first, last


def _parts(written: str, *, decimal_comma: bool) -> list[str]:
    parts = _BETWEEN.split(written)
    if len(parts) > 1 or "," not in written:
        return parts
    parts = written.split(",")
    pointed = ["." in part for part in parts]
    if len(parts) == 2 and (all(pointed) or (any(pointed) and not decimal_comma)):
        return parts
    if len(parts) == 2 and decimal_comma and not any(pointed):
        return [written]
    raise WsiError(
        "bad-input",
        f"mpp {_short(written)} could be read in two ways; write numbers with a decimal point: "
        "0.25, or 0.25,0.25 as X,Y",
    )


def _um(part: str) -> float | None:
    """Read a number and its unit, um by default."""
    found = _VALUE.fullmatch(part.strip())
    number = read_number(found[1]) if found else None
    if found is None or number is None:
        return None
    unit = _PER_PIXEL.sub("", found[2]).strip()
    um = 1.0 if unit.lower() in ("", "mpp") else um_per_unit(unit)
    value = None if um is None else number * um
    return value if value is not None and math.isfinite(value) else None


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")


def read_mpp_csv(path: Path) -> dict[str, tuple[float, float]]:
    """Read a table with the columns ``wsi,mpp`` (other columns are ignored).

    Commas, semicolons or tabs separate the cells; see `read_table` and `parse_mpp`.

    Returns
    -------
    dict
        (x, y) in um per pixel by the ``wsi`` cell; rows without an mpp are left out.

    Raises
    ------
    UsageError
        Where the file or a column is missing, an mpp is not a number or could be read in two
        ways, or two rows give one slide different values.
    """
    table = read_table(path)
    column = next((name for name in _PATH_COLUMNS if name in table.columns), None)
    if column is None or "mpp" not in table.columns:
        raise UsageError("the mpp CSV needs the columns wsi,mpp", subject=str(path))
    found: dict[str, tuple[float, float]] = {}
    lines: dict[str, int] = {}
    for row in table.rows:
        if not row.cells[column] or not row.cells["mpp"]:
            continue
        cell = row.cells[column]
        name, mpp = as_address(cell) or str(PurePosixPath(cell)), row_mpp(row, table, path)
        if found.get(name, mpp) != mpp:
            message = f"lines {lines[name]} and {row.line} give {name} different values"
            raise UsageError(message, subject=str(path))
        found[name], lines[name] = mpp, row.line
    return found


def row_mpp(row: Row, table: Table, path: Path) -> tuple[float, float]:
    """Read the column ``mpp`` of a row; a bad one raises `UsageError` with file and line."""
    try:
        return parse_mpp(row.cells["mpp"], decimal_comma=table.decimal_comma)
    except WsiError as error:
        raise UsageError(error.message, subject=f"{path}: line {row.line}") from None


def lookup_mpp(table: dict[str, tuple[float, float]], slide: Path) -> tuple[float, float] | None:
    """Find a slide in an mpp table: by its path, by the longest end of it, by name, by stem."""
    full = (slide.address.full,) if isinstance(slide, RemotePath) else ()
    for key in (*full, str(slide), slide.as_posix()):
        if key in table:
            return table[key]
    resolved = str(slide.resolve())
    ends = [key for key in table if "/" in key and resolved.endswith("/" + key.lstrip("/"))]
    if ends:
        return table[max(ends, key=len)]
    return table.get(slide.name, table.get(slide.stem))


def unmatched_note(table: dict[str, tuple[float, float]], slides: Iterable[Path]) -> str | None:
    """Return a warning where a table of pixel sizes names none of the slides."""
    if any(lookup_mpp(table, slide) is not None for slide in slides):
        return None
    return f"the mpp CSV, with {len(table)} pixel sizes, names none of these slides"
