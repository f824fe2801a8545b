"""What the values or colours of a mask mean: YAML to labels."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, model_validator

from wsi_sampath.classes import check_class_names
from wsi_sampath.errors import UsageError, WsiError
from wsi_sampath.models.spec import ClassSpec
from wsi_sampath.training.datasets import several
from wsi_sampath.training.tables import read_table

_FOLDER = Path(__file__).parent / "groupings"
_VALUES = 65536
_UNKNOWN = 255
_COLOR = re.compile(r"#[0-9a-fA-F]{6}")
_RANGE = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?")
_GREY_TOLERANCE = 8
"""JPEG leaves the channels of a grey mask this far apart."""
_JPEG_NOISE = 16
_LEAST_AREAS = 0.05
"""Share of a mask's greys that lie in even areas: of soft edges none do, of labels most."""

Value = int | str


class MaskClass(ClassSpec):
    """A class and the mask values that mean it: numbers, ranges "128-255", or colours "#00ff00"."""

    values: Annotated[tuple[Value, ...], Field(min_length=1)]


class Grouping(BaseModel):
    """Mask values to classes; what is neither in a class nor ignored is an error.

    Attributes
    ----------
    classes
        In the order of the labels 1..k.
    ignored
        Values that become 0, which nobody trains on or scores.
    tolerance
        How far each channel of a colour may be off.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

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
            taken = [str(one) for value in values for one in numbers(value)]
        twice = [one for one, count in Counter(taken).items() if count > 1]
        if twice:
            raise ValueError(f"mask values in two classes: {several(twice)}")
        check_class_names(one.name for one in self.classes)
        return self

    @property
    def coloured(self) -> bool:
        """Whether masks are painted in colours."""
        return str(self.classes[0].values[0]).startswith("#")

    @property
    def plain_classes(self) -> tuple[ClassSpec, ...]:
        """Names and colours alone."""
        return tuple(ClassSpec(name=one.name, color=one.color) for one in self.classes)

    def labels(self, mask: Image.Image, *, subject: str = "") -> NDArray[np.uint8]:
        """Return uint8 (height, width): 0 ignored, 1..k.

        Raises
        ------
        WsiError
            ``bad-input`` for values that are not in the table, or a mask of the wrong kind.
        """
        if self.coloured:
            found = self._from_colours(np.asarray(mask.convert("RGB")))
        else:
            values = mask_values(mask, subject=subject)
            found = self._table()[values]
        unknown = found == _UNKNOWN
        if unknown.any():
            what = np.asarray(mask.convert("RGB"))[unknown] if self.coloured else values[unknown]
            names = [_name(one) for one in np.unique(what, axis=0)]
            message = f"mask holds {several(names)}, which no class or 'ignored' of the table has"
            raise WsiError("bad-input", message, subject=subject)
        return found

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
        for label, one in enumerate(self.classes, start=1):
            yield from ((label, value) for value in one.values)


def read_grouping(name_or_file: str | Path) -> Grouping:
    """Read a grouping: one of ours by name, or a YAML file.

    Raises
    ------
    UsageError
        If there is none, or it cannot be used.
    """
    ours = _FOLDER / f"{name_or_file}.yaml"
    if ours.is_file():
        return read_table(ours, Grouping)
    hint = f"; known by name: {', '.join(known_groupings())}"
    return read_table(Path(name_or_file), Grouping, hint)


def known_groupings() -> list[str]:
    """Return the names of the groupings that come with the package."""
    return sorted(one.stem for one in _FOLDER.glob("*.yaml"))


def guess_grouping(masks: Iterator[tuple[Path, Image.Image]]) -> Grouping:
    """Recognise grey masks that all show one thing, bright against dark; every one is looked at.

    Raises
    ------
    UsageError
        If one could mean anything else, or means it in another way: the user must say.
    """
    hint = f"say what the masks mean with --classes FILE (or {', '.join(known_groupings())})"
    first: dict[str, Path] = {}
    for path, mask in masks:
        try:
            kind = _kind(path, mask_values(mask, subject=str(path)))
        except WsiError as error:
            raise UsageError(f"{error.message}; {hint}", subject=str(path)) from error
        if kind:
            first.setdefault(kind, path)
        if len(first) > 1:
            one, other = first.values()
            message = f"{one.name} and this mask mean glands by different values; {hint}"
            raise UsageError(message, subject=str(other))
    if not first:
        raise UsageError(f"all masks are empty: {hint}")
    return read_grouping(next(iter(first)))


def _kind(path: Path, values: NDArray[np.int64]) -> str:
    """Return the grouping that a mask fits, or "" if it is empty."""
    noise = _JPEG_NOISE if path.suffix.lower() in (".jpg", ".jpeg") else 0
    largest = int(values.max(initial=0))
    if largest <= noise:
        return ""
    if largest == 1:
        return "instances"
    if not 127 < largest < 256:
        raise WsiError("bad-input", f"mask holds labels up to {largest}")
    areas = _grey_areas(values, noise, largest)
    if areas:
        raise WsiError("bad-input", f"mask holds areas of {several(areas)}, not only black, white")
    return "glands"


def _grey_areas(values: NDArray[np.int64], noise: int, largest: int) -> list[str]:
    """Return the values between black and white that fill areas, as those of soft edges do not."""
    inner = values[1:-1, 1:-1]
    grey = (inner > noise) & (inner < largest - _GREY_TOLERANCE)
    even = grey.copy()
    for beside in (values[:-2, 1:-1], values[2:, 1:-1], values[1:-1, :-2], values[1:-1, 2:]):
        even &= inner == beside
    if np.count_nonzero(even) <= _LEAST_AREAS * np.count_nonzero(grey):
        return []
    return [str(one) for one in np.unique(inner[even])]


def mask_values(mask: Image.Image, *, subject: str = "") -> NDArray[np.int64]:
    """Return the numbers of a grey, 1-bit (0, 255), 16-bit or indexed mask.

    Raises
    ------
    WsiError
        ``bad-input`` if the mask is coloured or its numbers are not in 0..65535.
    """
    if mask.mode in ("RGB", "RGBA", "CMYK", "YCbCr"):
        rgb = np.asarray(mask.convert("RGB")).astype(np.int64)
        if (rgb.max(axis=-1) - rgb.min(axis=-1)).max(initial=0) > _GREY_TOLERANCE:
            raise WsiError("bad-input", "mask is coloured, not grey or labels", subject=subject)
        return np.asarray(rgb[..., 1])
    if mask.mode in ("1", "LA"):
        mask = mask.convert("L")
    values = np.asarray(mask)
    whole = values.astype(np.int64)
    if (whole != values).any() or not 0 <= whole.min(initial=0) <= whole.max(initial=0) < _VALUES:
        raise WsiError("bad-input", "mask holds numbers outside of 0..65535", subject=subject)
    return whole


def numbers(value: Value) -> range:
    """Return the numbers that a value or a range "3-7" names.

    Raises
    ------
    ValueError
        If it is neither.
    """
    match = _RANGE.fullmatch(str(value))
    if match is None:
        raise ValueError(f"'{value}' is no number, no range like 128-255 and no colour")
    first, last = int(match[1]), int(match[2] or match[1])
    if not first <= last < _VALUES:
        raise ValueError(f"'{value}' is not within 0..65535, ascending")
    return range(first, last + 1)


def _colour(value: Value) -> str:
    if not _COLOR.fullmatch(str(value)):
        raise ValueError(f"'{value}' is no colour like #00ff00")
    return str(value).lower()


def _name(value: NDArray[np.integer]) -> str:
    return str(value) if value.ndim == 0 else "#" + "".join(f"{one:02x}" for one in value)
