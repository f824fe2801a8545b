"""What the values or colours of a mask mean: YAML to labels."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from wsi_sampath.classes import ClassSpec, check_class_names
from wsi_sampath.data.class_tables import read_table
from wsi_sampath.data.patches import several
from wsi_sampath.errors import UsageError, WsiError
from wsi_sampath.settings import Frozen
from wsi_sampath.slides.regions.mask_image import (
    CUT,
    Mask,
    Numbers,
    black_and_white,
    eight_bits,
    mask_kind,
)

_FOLDER = Path(__file__).parent / "groupings"
_VALUES = 65536
_UNKNOWN = 255
_COLOR = re.compile(r"#[0-9a-fA-F]{6}")
_RANGE = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?")
_WIDE = 32
"""Least length of a range of values that survives lossy compression."""

Value = int | str


class MaskClass(ClassSpec):
    """A class and the mask values that mean it: numbers, ranges "128-255", or colours "#00ff00"."""

    values: Annotated[tuple[Value, ...], Field(min_length=1)]


class Grouping(Frozen):
    """Mask values to classes; a value neither in a class nor ignored is an error.

    Attributes
    ----------
    classes
        In the order of the labels 1..k.
    ignored
        Values that become 0, which is neither trained on nor scored.
    tolerance
        How far each channel of a colour may deviate.
    """

    classes: Annotated[tuple[MaskClass, ...], Field(min_length=1, max_length=254)]
    ignored: tuple[Value, ...] = ()
    tolerance: Annotated[int, Field(ge=0, le=127)] = 0

    @model_validator(mode="after")
    def _check(self) -> Grouping:
        values = [value for _, value in self._pairs()]
        coloured = [isinstance(value, str) and value.startswith("#") for value in values]
        if any(coloured) and not all(coloured):
            raise ValueError("values are either all colours or all numbers")
        if any(coloured):
            taken = [_colour(value) for value in values]
        else:
            taken = [str(number) for value in values for number in numbers(value)]
        twice = [number for number, count in Counter(taken).items() if count > 1]
        if twice:
            raise ValueError(f"mask values in two classes: {several(twice)}")
        check_class_names(spec.name for spec in self.classes)
        return self

    @property
    def coloured(self) -> bool:
        """Whether masks are painted in colours."""
        return str(self.classes[0].values[0]).startswith("#")

    @property
    def plain_classes(self) -> tuple[ClassSpec, ...]:
        """Names and colours alone."""
        return tuple(ClassSpec(name=spec.name, color=spec.color) for spec in self.classes)

    def labels(self, mask: Mask, *, subject: str = "") -> NDArray[np.uint8]:
        """Return uint8 (height, width): 0 ignored, 1..k.

        Raises
        ------
        WsiError
            ``bad-input`` for values that are not in the table, or a mask of the wrong kind.
        """
        if self.coloured:
            painted = mask.painted(subject=subject)
            values: NDArray[Any] = painted
            found = self._from_colours(painted)
        else:
            values, found = self._from_numbers(self._numbers(mask, subject))
        unknown = found == _UNKNOWN
        if unknown.any():
            names = [_name(value) for value in np.unique(values[unknown], axis=0)]
            message = f"mask holds {several(names)}, which no class or 'ignored' of the table has"
            raise WsiError("bad-input", message, subject=subject)
        return found

    def notes(self, mask: Mask) -> tuple[str, ...]:
        """Return what the user should know about how a mask is read."""
        notes = [f"mask: {note}" for note in mask.notes]
        if not self.coloured and mask.numbering:
            notes.append(f"mask: {mask.numbering}")
        if not self.coloured and mask.lossy and not self._is_wide():
            notes.append(f"mask: {CUT}")
        return tuple(notes)

    def _numbers(self, mask: Mask, subject: str) -> Numbers:
        """Return the numbers of a mask, those of lossy compression as black and white.

        Ranges wide enough to absorb what compression does to a value are used as they are.
        """
        if mask.numbers is None:
            raise WsiError("bad-input", "mask is coloured, not grey or labels", subject=subject)
        if not mask.lossy or self._is_wide():
            return mask.numbers
        kind, why = mask_kind(mask)
        if kind == "labels":
            message = (
                f"mask holds {why}, and lossy compression does not keep labels; save it as PNG"
            )
            raise WsiError("bad-input", message, subject=subject)
        return black_and_white(mask.numbers)

    def _is_wide(self) -> bool:
        table = self._table()[:256]
        ends = np.flatnonzero(np.diff(table.astype(np.int16))) + 1
        return bool((np.diff([0, *ends, len(table)]) >= _WIDE).all())

    def _from_numbers(self, numbers: Numbers) -> tuple[Numbers, NDArray[np.uint8]]:
        """Look numbers up; black and white of 16 bits also as of 8."""
        table = self._table()
        found = table[numbers]
        if (found == _UNKNOWN).any():
            numbers = eight_bits(numbers)
            found = table[numbers]
        return numbers, found

    def _table(self) -> NDArray[np.uint8]:
        table = np.full(_VALUES, _UNKNOWN, np.uint8)
        for label, value in self._pairs():
            table[list(numbers(value))] = label
        return table

    def _from_colours(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        found = np.full(rgb.shape[:2], _UNKNOWN, np.uint8)
        nearest = np.full(rgb.shape[:2], np.iinfo(np.int16).max, np.int16)
        for label, value in self._pairs():
            colour = np.frombuffer(bytes.fromhex(_colour(value)[1:]), np.uint8).astype(np.int16)
            off = np.abs(rgb - colour)
            distance = off.sum(axis=-1, dtype=np.int16)
            nearer = (off.max(axis=-1) <= self.tolerance) & (distance < nearest)
            found[nearer], nearest[nearer] = label, distance[nearer]
        return found

    def _pairs(self) -> Iterator[tuple[int, Value]]:
        yield from ((0, value) for value in self.ignored)
        for label, spec in enumerate(self.classes, start=1):
            yield from ((label, value) for value in spec.values)


def read_grouping(name_or_file: str | Path) -> Grouping:
    """Read a grouping: one of ours by name, or a YAML file.

    Raises
    ------
    UsageError
        If it does not exist or cannot be used.
    """
    ours = _FOLDER / f"{name_or_file}.yaml"
    if ours.is_file():
        return read_table(ours, Grouping)
    hint = f"; known by name: {', '.join(known_groupings())}"
    return read_table(Path(name_or_file), Grouping, hint)


def known_groupings() -> list[str]:
    """Return the names of the groupings that come with the package."""
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


@dataclass(frozen=True)
class Guess:
    """A grouping that was guessed, and sentences that say why."""

    grouping: Grouping
    notes: tuple[str, ...]


def guess_grouping(masks: Iterator[tuple[Path, Mask]]) -> Guess:
    """Recognise grey masks that all show one thing, bright against dark; every mask is checked.

    Raises
    ------
    UsageError
        If a mask could mean something else, or the same in another way: the user must say.
    """
    hint = f"say what the masks mean with --classes FILE (or {', '.join(known_groupings())})"
    first: dict[str, Path] = {}
    seen_black = False
    for path, mask in masks:
        kind, why = mask_kind(mask)
        if kind in ("labels", "colours"):
            what = "is coloured, not grey or labels" if kind == "colours" else f"holds {why}"
            raise UsageError(f"mask {what}; {hint}", subject=str(path))
        seen_black = seen_black or mask.numbers is None or not mask.numbers.all()
        if kind != "empty":
            first.setdefault(kind, path)
        if len(first) > 1:
            one, other = first.values()
            message = f"{one.name} and this mask mean glands by different values; {hint}"
            raise UsageError(message, subject=str(other))
    if not first:
        raise UsageError(f"all masks are empty: {hint}")
    return _guess(next(iter(first)), seen_black=seen_black)


def _guess(kind: str, *, seen_black: bool) -> Guess:
    if kind == "ones":
        grouping, meanings = read_grouping("instances"), ("0", "1")
        why, way = "hold only 0 and 1", "--classes FILE"
    else:
        grouping, meanings = read_grouping("glands"), ("black", "white")
        why, way = "are black and white", "--classes (tumor, or a file)"
    names = [f"{spec.name} ({what})" for spec, what in zip(grouping.classes, meanings, strict=True)]
    notes = [f"classes: {', '.join(names)}, because the masks {why}; name them with {way}"]
    if not seen_black:
        notes.append(f"no mask has any {meanings[0]}: every pixel is {grouping.classes[1].name}")
    return Guess(grouping, tuple(notes))


def numbers(value: Value) -> range:
    """Return the numbers that a value or a range "3-7" names.

    Raises
    ------
    ValueError
        If it is neither.
    """
    match = _RANGE.fullmatch(str(value))
    if match is None:
        raise ValueError(f"'{value}' is not a number, a range like 128-255 or a colour")
    first, last = int(match[1]), int(match[2] or match[1])
    if not first <= last < _VALUES:
        raise ValueError(f"'{value}' is not within 0..65535, ascending")
    return range(first, last + 1)


def _colour(value: Value) -> str:
    if not _COLOR.fullmatch(str(value)):
        raise ValueError(f"'{value}' is not a colour like #00ff00")
    return str(value).lower()


def _name(value: NDArray[np.integer]) -> str:
    return str(value) if value.ndim == 0 else "#" + "".join(f"{channel:02x}" for channel in value)
