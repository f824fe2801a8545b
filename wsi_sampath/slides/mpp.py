"""Microns per pixel: where the value comes from, and whether it can be true."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from wsi_sampath.errors import WsiError

MppSource = Literal["flag", "csv", "metadata"]
PLAUSIBLE_MPP = (0.05, 20.0)
_CONFLICT = 0.02


@dataclass(frozen=True)
class Mpp:
    """Microns per level-0 pixel, and where they came from.

    Attributes
    ----------
    x, y
        Microns per pixel, kept apart because scanners exist whose pixels are not square.
    source
        ``"flag"`` (given by the caller), ``"csv"`` or ``"metadata"`` (read from the slide).
    """

    x: float
    y: float
    source: MppSource


def resolve_mpp(
    metadata: tuple[float, float] | None,
    *,
    flag: tuple[float, float] | None = None,
    table: tuple[float, float] | None = None,
) -> tuple[Mpp, list[str]]:
    """Choose the slide's mpp: flag, then CSV, then metadata.

    Parameters
    ----------
    metadata
        (x, y) in um per level-0 pixel as the file states it, None where it states nothing.
    flag, table
        (x, y) given by the caller, and by an mpp CSV.

    Returns
    -------
    (Mpp, list of str)
        The chosen mpp and the warnings it deserves (an override that contradicts the metadata).

    Raises
    ------
    WsiError
        ``no-mpp`` where no source has one, ``implausible-mpp`` outside 0.05 to 20 um.
    """
    if flag is not None:
        chosen = Mpp(*flag, source="flag")
    elif table is not None:
        chosen = Mpp(*table, source="csv")
    elif metadata is not None:
        chosen = Mpp(*metadata, source="metadata")
    else:
        raise WsiError(
            "no-mpp",
            "the file does not state its microns per pixel; give them with --slide-mpp or "
            "--mpp-csv",
        )
    _check_plausible(chosen)
    return chosen, _conflicts(chosen, metadata)


def _check_plausible(mpp: Mpp) -> None:
    low, high = PLAUSIBLE_MPP
    if all(low <= value <= high for value in (mpp.x, mpp.y)):
        return
    origin = {"flag": "--slide-mpp says", "csv": "the mpp CSV says", "metadata": "the file says"}
    raise WsiError(
        "implausible-mpp",
        f"{origin[mpp.source]} {mpp.x:.5g} x {mpp.y:.5g} um per pixel, outside "
        f"{low} to {high}; give the true value with --slide-mpp",
    )


def _conflicts(chosen: Mpp, metadata: tuple[float, float] | None) -> list[str]:
    if chosen.source == "metadata" or metadata is None:
        return []
    pairs = ((chosen.x, metadata[0]), (chosen.y, metadata[1]))
    if all(math.isclose(given, stated, rel_tol=_CONFLICT) for given, stated in pairs):
        return []
    return [
        f"mpp {chosen.x:.5g} x {chosen.y:.5g} from the {chosen.source} overrides "
        f"{metadata[0]:.5g} x {metadata[1]:.5g} stated by the file"
    ]


def parse_mpp(text: str | float) -> tuple[float, float]:
    """Read ``"0.5"`` or ``"0.5,0.25"`` (x,y) as microns per pixel.

    Raises
    ------
    WsiError
        ``bad-input`` for anything that is not one or two positive numbers.
    """
    parts = str(text).split(",")
    try:
        values = [float(part) for part in parts]
    except ValueError:
        values = []
    if len(values) not in (1, 2) or not all(math.isfinite(v) and v > 0 for v in values):
        raise WsiError("bad-input", f"mpp {text!r} is not a positive number, nor two as X,Y")
    return values[0], values[-1]


def read_mpp_csv(path: Path) -> dict[str, tuple[float, float]]:
    """Read a CSV with the columns ``wsi,mpp`` (other columns are ignored).

    Returns
    -------
    dict
        The ``wsi`` cell as written, to (x, y) in um per pixel.

    Raises
    ------
    WsiError
        ``bad-input`` where the file or a column is missing or an mpp is no number.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise WsiError(
            "bad-input", f"cannot read the mpp CSV: {error}", subject=str(path)
        ) from None
    if rows and not {"wsi", "mpp"} <= set(rows[0]):
        raise WsiError("bad-input", "the mpp CSV needs the columns wsi,mpp", subject=str(path))
    try:
        return {row["wsi"].strip(): parse_mpp(row["mpp"]) for row in rows if row["mpp"]}
    except WsiError as error:
        raise error.about(str(path)) from None


def lookup_mpp(table: dict[str, tuple[float, float]], slide: Path) -> tuple[float, float] | None:
    """Find a slide in an mpp table: by the path as written, by file name, then by stem."""
    for key in (str(slide), slide.as_posix(), slide.name, slide.stem):
        if key in table:
            return table[key]
    resolved = str(slide.resolve())
    suffixes = [key for key in table if "/" in key and resolved.endswith("/" + key)]
    return table[max(suffixes, key=len)] if suffixes else None
