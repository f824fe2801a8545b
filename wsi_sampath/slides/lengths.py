"""Numbers and lengths as people and files write them: decimal commas, units and spellings."""

from __future__ import annotations

import math
import re

# One digit group, then at most one decimal sign: "1_0", "1.000,5" and "nan" are not numbers here.
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?", re.ASCII)
UM_PER = {
    "km": 1e9,
    "m": 1e6,
    "dm": 1e5,
    "cm": 1e4,
    "mm": 1e3,
    "um": 1.0,
    "\u00b5m": 1.0,
    "\u03bcm": 1.0,
    "\u00b5": 1.0,
    "\u03bc": 1.0,
    "nm": 1e-3,
    "pm": 1e-6,
    "\u00c5": 1e-4,
    "\u212b": 1e-4,
    "in": 25400.0,
    "ft": 304800.0,
    "yd": 914400.0,
    "pt": 25400.0 / 72,
    "mil": 25.4,
    "thou": 25.4,
}
# A micro sign that went through another encoding, as in "\u00c2\u00b5m" and "?m".
_MANGLED = frozenset(
    f"{sign}m" for sign in ("\u00c2\u00b5", "\u00ce\u00bc", "\ufffd", "\ufffd\ufffd", "?", "??")
)
# Beyond the symbols, of which "mm" and "Mm" differ by capitals, names are read in any case.
_NAMES = {
    "meter": 1e6,
    "metre": 1e6,
    "centimeter": 1e4,
    "centimetre": 1e4,
    "millimeter": 1e3,
    "millimetre": 1e3,
    "micron": 1.0,
    "micrometer": 1.0,
    "micrometre": 1.0,
    "nanometer": 1e-3,
    "nanometre": 1e-3,
    "picometer": 1e-6,
    "picometre": 1e-6,
    "angstrom": 1e-4,
    "inch": 25400.0,
    "inches": 25400.0,
}


def read_number(text: object) -> float | None:
    """Read a number with a decimal point or a decimal comma.

    Returns
    -------
    float or None
        None for anything else, for infinity, and for numbers beyond a float.

    Examples
    --------
    >>> read_number("0,25"), read_number(" .5 "), read_number("1_0"), read_number("1,000.5")
    (0.25, 0.5, None, None)
    """
    written = str(text).strip()
    if not _NUMBER.fullmatch(written):
        return None
    value = float(written.replace(",", "."))
    return value if math.isfinite(value) else None


def um_per_unit(unit: str) -> float | None:
    """Return the um in a unit of length, None for other units (``pixel``, ``reference frame``).

    Examples
    --------
    >>> um_per_unit("mm"), um_per_unit("Microns"), um_per_unit("pixel")
    (1000.0, 1.0, None)
    """
    written = unit.strip()
    if written in UM_PER:
        return UM_PER[written]
    if written in _MANGLED:
        return 1.0
    lowered = written.lower()
    # Shouted symbols: mega and its kind are written with one capital.
    if len(written) > 1 and written.isupper() and lowered in UM_PER:
        return UM_PER[lowered]
    return _NAMES.get(lowered, _NAMES.get(lowered.removesuffix("s")))
