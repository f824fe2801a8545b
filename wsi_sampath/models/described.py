"""What a model is, by its name or file, without loading it: nothing here needs torch."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from wsi_sampath.errors import WsiError
from wsi_sampath.models.header import check_header
from wsi_sampath.models.parse import AnySpec, spec_from_json, spec_from_yaml
from wsi_sampath.models.published.catalogue import FILES
from wsi_sampath.models.shipped import bundled_models
from wsi_sampath.settings import did_you_mean

HEADER_KEY = "wsi_sampath"
PROVENANCE_KEY = "wsi_sampath_provenance"
DEFAULT_MODEL = "gland-mini"
CHECKPOINT = ".safetensors"
SPECIFICATIONS = frozenset({".yaml", ".yml"})
_PUBLISHED = {".ckpt", ".pth", ".pt"}


def model_spec(name_or_path: str | Path) -> AnySpec:
    """Return what a model is, without loading it.

    Raises
    ------
    WsiError
        ``bad-model`` for an unknown name, or a file that cannot be used.
    """
    path = model_path(name_or_path)
    if path.suffix.lower() in SPECIFICATIONS:
        return spec_from_yaml(path)
    if path.suffix.lower() == CHECKPOINT:
        return read_spec(path)
    raise unknown_model(str(name_or_path))


def model_path(name_or_path: str | Path) -> Path:
    """Return the file of a bundled model, or the path that was given."""
    return bundled_models().get(str(name_or_path), Path(name_or_path))


def provenance_of(name_or_path: str | Path) -> dict[str, Any]:
    """Return what a model, or a file of weights, says of how it came about; {} if nothing.

    Raises
    ------
    WsiError
        ``bad-model`` for a file of ours that cannot be read.
    """
    path = model_path(name_or_path)
    return read_provenance(path) if path.suffix.lower() == CHECKPOINT else {}


def read_provenance(path: str | Path) -> dict[str, Any]:
    """Return what a checkpoint's header says of how its weights came about; {} if nothing."""
    text = _metadata(Path(path)).get(PROVENANCE_KEY, "")
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def read_spec(path: str | Path) -> AnySpec:
    """Return the specification in a checkpoint's header, without its weights.

    Raises
    ------
    WsiError
        ``bad-model`` if the file is missing, damaged or not ours.
    """
    return spec_in(_metadata(Path(path)), str(path))


def spec_in(header: Mapping[str, str], subject: str) -> AnySpec:
    """Return the specification among the metadata of a ``.safetensors`` file.

    Raises
    ------
    WsiError
        ``bad-model`` if there is none.
    """
    if HEADER_KEY in header:
        return spec_from_json(header[HEADER_KEY], subject=subject)
    raise WsiError(
        "bad-model",
        "is not a checkpoint of wsi_sampath (no model description in its header); published "
        "checkpoints are converted by 'wsi-models import'",
        subject=subject,
    )


def damaged_file(path: Path, error: Exception) -> WsiError:
    """Return the error for a file that the library refuses."""
    message = f"is damaged or not a safetensors file ({error})"
    return WsiError("bad-model", message, subject=str(path))


def _metadata(path: Path) -> dict[str, str]:
    check_header(path)
    try:
        with safe_open(path, framework="numpy") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError, KeyError, AttributeError) as error:
        raise damaged_file(path, error) from error


def unknown_model(name: str) -> WsiError:
    """Return the error for what is neither a bundled name nor a file of a model."""
    if Path(name).suffix.lower() in _PUBLISHED:
        return WsiError(
            "bad-model",
            "is a published file that does not describe its model; give --model SPEC.yaml "
            "--weights FILE, or convert it by 'wsi-models import'",
            subject=name,
        )
    if any(one.name == name for one in FILES):
        message = "is the name of published weights, not of a model; see 'wsi-models import'"
        raise WsiError("bad-model", message, subject=name)
    # Not Path.exists, which raises for names that no disk takes.
    if os.path.exists(name):
        message = "is neither a .safetensors file nor a .yaml specification"
        raise WsiError("bad-model", message, subject=name)
    known = list(bundled_models())
    return WsiError(
        "bad-model",
        f"unknown model '{name}' (known: {', '.join(known) or 'none'}; or a .safetensors "
        f"file){did_you_mean(name, known)}",
    )
