"""Settings of a training from YAML files and ``key=value`` texts."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from wsi_sampath.errors import UsageError, WsiError
from wsi_sampath.settings import merged, parts_of
from wsi_sampath.training.nuclei.settings import NucleiSettings, PathoSamWeights
from wsi_sampath.training.prompts.settings import PromptTrainSettings, WsiSamWeights
from wsi_sampath.training.settings import PublishedWeights, RunSettings, TrainSettings
from wsi_sampath.yaml_files import beside, parse_yaml, read_yaml

_BASE = "base"
_PATHS = ("model", "data", "weights")
_MADE = ("out", "cache_folder")
_UNKNOWN = "extra_forbidden"
_OBJECTIVE = "objective"
"""What the settings of PathoSAM and WSI-SAM have, and those of SAM-Path have not."""
_PROMPTS = "prompts"
"""The objective of WSI-SAM."""
_KINDS = ("str", PublishedWeights.__name__, PathoSamWeights.__name__, WsiSamWeights.__name__)
"""What `weights` may be; pydantic counts them to the place of an error."""


AnySettings = TrainSettings | NucleiSettings | PromptTrainSettings
"""The settings there are: a union with one member for each kind of training."""
KINDS: dict[str, type[AnySettings]] = {
    "SAM-Path (without an objective)": TrainSettings,
    "PathoSAM (objective: nuclei or classes)": NucleiSettings,
    "WSI-SAM (objective: prompts)": PromptTrainSettings,
}
"""The same by what they train, and how a file says so."""


def read_settings(path: Path, overrides: Sequence[str] = ()) -> AnySettings:
    """Read settings from a YAML file and ``key=value`` texts, which come last.

    They are those of WSI-SAM where their ``objective`` is ``prompts``, those of PathoSAM where it
    is another, and of SAM-Path without one.

    The file may name another as its ``base`` and then states only what differs. Paths in a file are
    relative to its folder (``model``, ``data`` and ``weights`` only where such a file exists, since
    they may also be names), those in `overrides` to the current folder.

    Parameters
    ----------
    path
        The YAML file.
    overrides
        Such as ``epochs=3`` or ``loss.iou=0``; values are YAML.

    Raises
    ------
    UsageError
        If a file cannot be read or a setting is wrong or missing; for unknown ones the nearest
        known name is given.
    """
    values = _read(path, ())
    for text in overrides:
        key, value = _override(text)
        values = merged(values, _nested(key.split("."), value))
    kind = _kind_of(values)
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        # Wrong keys of `weights` also report "not a string", which helps nobody.
        found = sorted(error.errors(), key=_helpfulness)
        raise UsageError(_explained(found[0], kind), subject=str(path)) from None


def _kind_of(values: Mapping[str, Any]) -> type[AnySettings]:
    if _OBJECTIVE not in values:
        return TrainSettings
    return PromptTrainSettings if values[_OBJECTIVE] == _PROMPTS else NucleiSettings


def _read(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    try:
        values = read_yaml(path)
    except WsiError as error:
        raise UsageError(f"cannot be read: {error.message}", subject=str(path)) from error
    if not isinstance(values, dict):
        raise UsageError("holds no settings (key: value lines)", subject=str(path))
    own = _resolved(values, path.parent)
    base = own.pop(_BASE, None)
    if base is None:
        return own
    parent = path.parent / str(base)
    if parent.resolve() in seen or parent.resolve() == path.resolve():
        raise UsageError(f"its base {base} leads back to itself", subject=str(path))
    return merged(_read(parent, (*seen, path.resolve())), own)


def _resolved(values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return the values with their paths made independent of the current folder."""

    def found(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: found(path) for name, path in value.items()}
        return beside(folder, value) if isinstance(value, str) else value

    out = {name: found(value) if name in _PATHS else value for name, value in values.items()}
    made = {name: out[name] for name in _MADE if isinstance(out.get(name), str)}
    return out | {name: str(folder / value) for name, value in made.items()}


def _override(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not all(key.split(".")):
        raise UsageError(f"{text!r} is not of the form key=value, such as epochs=3 or loss.iou=0")
    try:
        return key, parse_yaml(value)
    except ValueError:
        raise UsageError(f"{text!r}: the value is not YAML; put it in quotes") from None


def _nested(keys: list[str], value: Any) -> dict[str, Any]:
    return {keys[0]: _nested(keys[1:], value) if keys[1:] else value}


def _helpfulness(error: ErrorDetails) -> int:
    """Return a rank: unknown keys first, a mapping that is not a text last."""
    if error["type"] == _UNKNOWN:
        return 0
    not_a_text = error["type"] == "string_type" and isinstance(error["input"], Mapping)
    return 2 if not_a_text else 1


def _explained(error: ErrorDetails, kind: type[RunSettings]) -> str:
    where = [str(part) for part in error["loc"] if part not in _KINDS]
    if error["type"] == "missing":
        name = ".".join(where)
        return f"setting {name} is missing: add {name}=... to the command"
    if error["type"] != _UNKNOWN:
        said = error["msg"].removeprefix("Value error, ")
        return f"setting {'.'.join(where) or 'file'}: {said}"
    return f"unknown setting '{'.'.join(where)}'; did you mean '{_nearest(where, kind)}'?"


def _nearest(where: list[str], kind: type[RunSettings]) -> str:
    """Return the setting with the most similar name; of equals, the one in the same part."""
    *parts, name = where
    fields = [[name] for name in (*kind.model_fields, _OBJECTIVE)]
    fields += [
        [part, name] for part, model in parts_of(kind).items() for name in model.model_fields
    ]
    fields.sort(key=lambda names: names[:-1] != parts)

    def similarity(field: list[str]) -> float:
        return difflib.SequenceMatcher(None, field[-1], name).ratio()

    nearest = max(fields, key=similarity)
    return ".".join(nearest)
