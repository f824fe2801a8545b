"""Names of classes, which must be the same in every file and program that a result goes through.

QuPath splits a name at ":" and strips its parts; an empty part or a line break is an error there
which costs the whole file. So a name has one form here, the one that QuPath gives it.
"""

from __future__ import annotations

import colorsys
import unicodedata
import zlib
from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator, Field

from wsi_sampath.settings import Frozen, Help

_LONGEST = 500
# Control characters, halves of surrogate pairs, line and paragraph separators.
_UNFIT = ("Cc", "Cs", "Zl", "Zp")


def class_name(name: str) -> str:
    """Return a name in the form in which QuPath and everything else here keep it.

    Parameters
    ----------
    name
        ``"Tumor"``, or parts between colons: ``"Tumor: Positive"``.

    Returns
    -------
    str
        Its parts without white space around them, joined by ``": "``.

    Raises
    ------
    ValueError
        For an empty part, a line break or another control character, half a surrogate pair, or a
        star at the end, which is QuPath's mark of what is to be left out.

    Examples
    --------
    >>> class_name(" Tumor:Positive")
    'Tumor: Positive'
    """
    joined = drawn_class_name(name)
    if joined.endswith("*"):
        message = f"the class name {name!r} ends in '*', which in QuPath marks what to leave out"
        raise ValueError(message)
    return joined


def drawn_class_name(name: str) -> str:
    """Return the name of a class of annotations: as `class_name`, but it may end in a star.

    Raises
    ------
    ValueError
        As `class_name`.
    """
    if len(name) > _LONGEST:
        raise ValueError(f"the class name {name[:20]!r}... has {len(name):,} characters")
    parts = [part.strip() for part in name.split(":")]
    if not all(parts):
        raise ValueError(f"the class name {name!r} is empty, or has an empty part beside a colon")
    odd = next(
        (letter for letter in "".join(parts) if unicodedata.category(letter) in _UNFIT), None
    )
    if odd is not None:
        raise ValueError(f"the class name {name!r} has {odd!r} in it, which is not text")
    return ": ".join(parts)


def is_ignored_class(name: str) -> bool:
    """Return whether QuPath treats a class as none: names such as ``Ignore*``, ``Region*``."""
    return name.strip().endswith("*") or is_cut_out_class(name)


def is_cut_out_class(name: str) -> bool:
    """Return whether a class marks what to leave out: ``Ignore*`` does, ``Region*`` does not."""
    parts = (part.strip().casefold() for part in name.split(":"))
    return any(part.startswith("ignore") and part.endswith("*") for part in parts)


ClassName = Annotated[str, Field(min_length=1), AfterValidator(class_name)]
"""A field of a pydantic model: a name in the form of `class_name`."""


class ClassSpec(Frozen):
    """Name and colour of one class, the one such pair of models, data and outputs."""

    name: Annotated[ClassName, Help("Name of a class, as QuPath has it.")]
    color: Annotated[
        str, Field(pattern=r"^#[0-9a-fA-F]{6}$"), Help("Its colour, '#rrggbb', in quotes.")
    ]


def color_of(name: str) -> str:
    """Return a colour, "#rrggbb", for a class that came without one; the same for the same name."""
    hue = zlib.crc32(name_key(name).encode("utf-8", "replace")) / 2**32
    channels = colorsys.hsv_to_rgb(hue, 0.8, 0.8)
    return "#" + "".join(f"{round(255 * one):02x}" for one in channels)


def alike(names: Iterable[str]) -> tuple[str, str] | None:
    """Return the first two names that are equal by `name_key`, or None."""
    seen: dict[str, str] = {}
    for name in names:
        key = name_key(name)
        if key in seen:
            return seen[key], name
        seen[key] = name
    return None


def check_class_names(names: Iterable[str]) -> None:
    """Refuse names that differ only in capitals, outer spaces, or invisible characters.

    Raises
    ------
    ValueError
        Names two of them.
    """
    pair = alike(names)
    if pair:
        both = f"'{pair[0]}' and '{pair[1]}'"
        raise ValueError(f"classes must have different names, not {both}; capitals do not count")


def name_key(name: str) -> str:
    """Return the key by which names are equal: capitals and spaces do not count.

    Examples
    --------
    >>> name_key("tumor :positive") == name_key("Tumor: Positive")
    True
    """
    # Zero-width characters and accents as separate characters are invisible differences, too.
    visible = "".join(letter for letter in name if unicodedata.category(letter) != "Cf")
    parts = (part.strip() for part in unicodedata.normalize("NFC", visible).split(":"))
    return ": ".join(parts).casefold()
