"""What all settings share: frozen models, the mark of what decides no result, the nearest name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict

_TELLING = 3
"""From as many letters on, a beginning says which name is meant."""
_ALIKE = 0.6


class Frozen(BaseModel):
    """Settings that refuse unknown keys and never change."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


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


def deciding(settings: BaseModel) -> dict[str, Any]:
    """Return the settings that decide the result, those not marked `Neutral`, as JSON values."""
    fields = type(settings).model_fields
    neutral = {name for name, field in fields.items() if Neutral in field.metadata}
    return settings.model_dump(mode="json", exclude=neutral)


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
    begins = [one for one in names if len(name) >= _TELLING and one.startswith(name)]
    alike = difflib.get_close_matches(name, names, n=1, cutoff=least)
    # Of a single name there is nothing else that could be meant.
    return next(iter([*begins, *alike, *(names if len(names) == 1 else [])]), "")


def did_you_mean(name: str, known: Iterable[str], *, least: float = _ALIKE) -> str:
    """Return `nearest_name` as the end of an error message, or "" if nothing is alike."""
    near = nearest_name(name, known, least=least)
    return f"; did you mean '{near}'?" if near else ""
