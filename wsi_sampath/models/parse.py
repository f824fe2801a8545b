"""Specifications of any architecture, from YAML and checkpoint headers; refused if misspelt."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from wsi_sampath.errors import WsiError
from wsi_sampath.models.limits import MAX_HEADER_TEXT, MAX_NAME, unique_object
from wsi_sampath.models.patho_sam.spec import PathoSamSpec
from wsi_sampath.models.plain_sam.spec import PlainSamSpec
from wsi_sampath.models.sam_path.spec import SamPathSpec
from wsi_sampath.models.spec import ModelSpec
from wsi_sampath.models.wsi_sam.spec import WsiSamSpec
from wsi_sampath.settings import did_you_mean, parts_of
from wsi_sampath.yaml_files import read_yaml

AnySpec = SamPathSpec | PathoSamSpec | PlainSamSpec | WsiSamSpec
"""The specifications there are: a union with one member for each architecture."""
KINDS: dict[str, type[AnySpec]] = {
    "sam_path": SamPathSpec,
    "patho_sam": PathoSamSpec,
    "sam": PlainSamSpec,
    "wsi_sam": WsiSamSpec,
}
"""The same by the name of the architecture."""


def parse_spec(values: object, subject: str = "") -> AnySpec:
    """Return the specification that some values describe.

    Parameters
    ----------
    values
        A mapping; without ``architecture`` it is a SAM-Path, which was all there was once.
    subject
        Where they come from, for messages.

    Raises
    ------
    WsiError
        ``bad-model`` if a key is missing, misspelt or has an impossible value.
    """
    if not isinstance(values, dict):
        message = "describes no model (key: value lines, as in configs/models)"
        raise WsiError("bad-model", message, subject=subject)
    kind = _kind_of(values, subject)
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        told = [one for one in error.errors() if one["loc"][-1:] != _NO_NAME] or error.errors()
        lines = "; ".join(_explain(one, kind) for one in told[:3])
        raise WsiError("bad-model", lines, subject=subject) from error


def spec_from_json(text: str, *, subject: str = "") -> AnySpec:
    """Read the text of `ModelSpec.to_json`.

    Raises
    ------
    WsiError
        ``bad-model`` if the text is not a valid specification.
    """
    if len(text) > MAX_HEADER_TEXT:
        raise WsiError("bad-model", "its model description is absurdly long", subject=subject)
    try:
        values = json.loads(text, object_pairs_hook=unique_object)
    except (ValueError, RecursionError) as error:
        raise WsiError(
            "bad-model", f"its model description is not JSON ({error})", subject=subject
        ) from error
    return parse_spec(values, subject)


def spec_from_yaml(path: str | Path) -> AnySpec:
    """Read a specification from a YAML file.

    Raises
    ------
    WsiError
        ``bad-model`` if the file is missing, is not YAML, or misses or misspells a key.
    """
    return parse_spec(read_yaml(path, reason="bad-model"), str(path))


def _kind_of(values: Mapping[str, object], subject: str) -> type[AnySpec]:
    # What architecture a file means decides which keys it may hold, and which words explain errors.
    named = values.get("architecture", "sam_path")
    if isinstance(named, str) and named in KINDS:
        return KINDS[named]
    known = [repr(name) for name in KINDS]
    message = f"architecture: must be {', '.join(known[:-1])} or {known[-1]}"
    raise WsiError("bad-model", message, subject=subject)


_WRONG = {
    "missing": "must be given",
    "string_type": "must be text, in quotes where it looks like something else",
    "tuple_type": "must be a list, as in [1, 2]",
    "too_long": "has {actual_length} entries, which is more than {max_length}",
    "too_short": "has {actual_length} entries, which is fewer than {min_length}",
    "model_type": "must be a block of 'key: value' lines",
    "dict_type": "must be a block of 'key: value' lines",
    "float_type": "must be a number",
    "float_parsing": "is not a number (with a decimal point, without a unit)",
    "int_type": "must be a whole number",
    "int_parsing": "is not a whole number",
    "int_from_float": "must be a whole number",
    "literal_error": "must be {expected}",
}
"""What pydantic says in the words of its types, in those of somebody who writes YAML."""
_NO_NAME = ("str",)
"""Where pydantic says that the sizes of an encoder are not a name, which nobody meant."""
_ONE_OF_SEVERAL = ("str", "VitSpec", "SamSpec", "TinyVitSpec")
"""How pydantic tells apart what may stand in one place."""


def _explain(error: ErrorDetails, kind: type[ModelSpec]) -> str:
    where = [str(part)[:MAX_NAME] for part in error["loc"] if not _is_of_pydantic(part)]
    if error["type"] != "extra_forbidden":
        return f"{'.'.join(where) or 'model'}: {_wrong(error)}"
    known = _known_at(where[:-1], kind)
    return f"unknown key '{'.'.join(where)}'{did_you_mean(where[-1], known, least=0.0)}"


def _wrong(error: ErrorDetails) -> str:
    if error["loc"][-1:] == ("color",):
        return "is not a colour such as '#1f77b4', in quotes (YAML takes # for a comment)"
    if error["type"] not in _WRONG:
        # It may quote what was written, braces and all.
        return error["msg"].removeprefix("Value error, ")
    return _WRONG[error["type"]].format(**error.get("ctx", {}))


def _is_of_pydantic(part: str | int) -> bool:
    return isinstance(part, str) and (part in _ONE_OF_SEVERAL or part.startswith("function-"))


def _known_at(where: list[str], kind: type[BaseModel]) -> list[str]:
    """Return the keys that may stand in a block of a specification."""
    for name in where:
        kind = parts_of(kind).get(name, kind)
    return list(kind.model_fields)
