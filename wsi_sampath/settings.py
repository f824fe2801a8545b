"""What all settings share: frozen models, marks of their fields, the nearest name."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Self, get_args

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from wsi_sampath.errors import UsageError

_TELLING = 3
"""Number of letters from which a beginning identifies a name."""
_ALIKE = 0.6


class Frozen(BaseModel):
    """Settings that refuse unknown keys and never change."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def build(
        cls, values: Mapping[str, Any], spelling: Callable[[str], str] = "setting {}".format
    ) -> Self:
        """Check `values` and build the settings.

        Parameters
        ----------
        values
            By the names of the fields.
        spelling
            Gives the name by which the user knows a field.

        Raises
        ------
        UsageError
            Naming the first wrong setting, and for an unknown one the nearest known name.
        """
        unknown = sorted(set(values) - set(cls.model_fields))
        if unknown:
            raise UsageError(
                f"no setting {unknown[0]!r}{did_you_mean(unknown[0], cls.model_fields)}"
            )
        try:
            return cls(**values)
        except ValidationError as error:
            first = error.errors()[0]
            name = spelling(str(first["loc"][0])) if first["loc"] else "settings"
            raise UsageError(f"{name}: {first['msg']} (got {first['input']!r})") from None


def parts_of(model: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """Return the blocks within settings, by field, whether alone, in a list or one of several."""
    held = {name: [*_models_in(field.annotation)] for name, field in model.model_fields.items()}
    return {name: found[0] for name, found in held.items() if found}


def _models_in(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for one in get_args(annotation):
        yield from _models_in(one)


class Neutral:
    """Mark, within ``Annotated``, of a setting that may differ between runs of equal results."""


class Added:
    """Mark of a setting that came late: while None, it leaves the identity of results as it was."""


@dataclass(frozen=True)
class Help:
    """Mark of a setting that commands offer as an option, with the sentence ``--help`` shows."""

    text: str


class Flags:
    """Mark of a setting whose option is not simply named after it.

    Parameters
    ----------
    names
        As Typer takes them: ``"--workers", "-j"``, or ``"--report/--no-report"``. A setting that is
        true by default, and has a ``--no-`` alone, is switched off by that.
    metavar
        What stands for the value in ``--help``.
    """

    def __init__(self, *names: str, metavar: str | None = None) -> None:
        self.names, self.metavar = names, metavar


class Panel(Enum):
    """Mark of a setting: the group of ``--help`` that shows it, in the order of this list."""

    INPUT = "Input and resolution"
    PATCHES = "Labelled patches"
    SLIDE = "Result of a slide"
    NETWORK = "Network"
    TISSUE = "Tissue and region"
    NUCLEI = "Nuclei (patho_sam models)"
    PROMPTS = "Prompts"
    VIEW = "Viewer"
    SCORES = "Scores"
    OUTPUT = "Output"
    BATCH = "Batch"
    REPEAT = "Settings in files"


class Belongs(Enum):
    """Mark of a setting that another run does not simply take over: what it belongs to.

    Of a setting marked `MayBeFile` it holds where that is a file.
    """

    SLIDE = "the slide"
    CALL = "the call of a command"
    MACHINE = "the machine"


class MayBeFile:
    """Mark, within ``Annotated``, of a setting that is a word or a file.

    Parameters
    ----------
    words
        The words that it knows; all else is a file. Without them, it has names that are not known
        beforehand, and a file is what has a suffix or is there.
    """

    def __init__(self, *words: str) -> None:
        self.words = words


@dataclass(frozen=True)
class Reads:
    """Mark of a setting that commands take as one word, with the function that reads the word."""

    function: Callable[[str], Any]


@dataclass(frozen=True)
class Suggests:
    """Mark of a setting for which shells suggest words, with the function that finds them."""

    find: Callable[[], Iterable[str]]


def deciding(settings: BaseModel) -> dict[str, Any]:
    """Return the settings that decide the result, those not marked `Neutral`, as JSON values."""
    fields = type(settings).model_fields
    neutral = {name for name, field in fields.items() if Neutral in field.metadata}
    unused = {
        name
        for name, field in fields.items()
        if Added in field.metadata and getattr(settings, name) is None
    }
    return settings.model_dump(mode="json", exclude=neutral | unused)


def asked(settings: BaseModel, without: Collection[Belongs] = ()) -> dict[str, Any]:
    """Return the settings that differ from their defaults, as values for YAML or JSON.

    Files are given by their whole path, so that the values mean the same from every folder.

    Parameters
    ----------
    settings
        The settings; of the blocks within them, too, only what differs is returned.
    without
        Settings that belong to these are left out.
    """
    marked = {name: belongs(field) for name, field in type(settings).model_fields.items()}
    left_out = {name for name, mark in marked.items() if mark in without}
    values = settings.model_dump(exclude_defaults=True, exclude=left_out)
    fields = type(settings).model_fields
    return {name: _as_value(value, fields[name]) for name, value in values.items()}


def _as_value(value: Any, field: FieldInfo) -> Any:
    if isinstance(value, Path):
        return os.path.abspath(value)
    if may_be_file(field) and isinstance(value, str) and is_file_name(field, value):
        return os.path.abspath(value)
    return list(value) if isinstance(value, tuple) else value


def belongs(field: FieldInfo) -> Belongs | None:
    """Return what a setting belongs to, if not to every run like it."""
    return next((mark for mark in field.metadata if isinstance(mark, Belongs)), None)


def is_of_one_slide(field: FieldInfo, value: Any) -> bool:
    """Return whether this value of a setting fits no slide but one."""
    if belongs(field) is not Belongs.SLIDE:
        return False
    return not may_be_file(field) or is_file_name(field, str(value))


def may_be_file(field: FieldInfo) -> bool:
    """Return whether a setting is marked `MayBeFile`."""
    return any(isinstance(mark, MayBeFile) for mark in field.metadata)


def is_file_name(field: FieldInfo, word: str, folder: Path = Path()) -> bool:
    """Return whether a setting marked `MayBeFile` is a file, seen from a folder, and no word."""
    words = next(mark.words for mark in field.metadata if isinstance(mark, MayBeFile))
    if words:
        return word not in words
    return Path(word).suffix != "" or (folder / word).is_file()


def merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return `values` with `changes` applied; mappings are merged, all else is replaced.

    Examples
    --------
    >>> merged({"loss": {"dice": 1, "iou": 2}}, {"loss": {"iou": 0}})
    {'loss': {'dice': 1, 'iou': 0}}
    """
    out = dict(values)
    for name, change in changes.items():
        old = out.get(name)
        if isinstance(old, Mapping) and isinstance(change, Mapping):
            out[name] = merged(old, change)
        else:
            out[name] = change
    return out


def nearest_name(name: str, known: Iterable[str], *, least: float = _ALIKE) -> str:
    """Return what is probably meant by `name`, or "" if nothing is alike.

    Parameters
    ----------
    name
        What was written.
    known
        What could have been meant.
    least
        Share of letters that must agree, 0..1; 0 always returns a known name, if there is any.

    Examples
    --------
    >>> nearest_name("overlp", ["tile", "overlap"])
    'overlap'
    """
    names = list(known)
    begins = [known for known in names if len(name) >= _TELLING and known.startswith(name)]
    alike = difflib.get_close_matches(name, names, n=1, cutoff=least)
    # With a single name, nothing else can be meant.
    return next(iter([*begins, *alike, *(names if len(names) == 1 else [])]), "")


def did_you_mean(name: str, known: Iterable[str], *, least: float = _ALIKE) -> str:
    """Return `nearest_name` as the end of an error message, or "" if nothing is alike."""
    near = nearest_name(name, known, least=least)
    return f"; did you mean '{near}'?" if near else ""
