"""Models by name or by file."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from wsi_sampath.errors import WsiError
from wsi_sampath.models.checkpoints import (
    build_model,
    count_weights,
    file_sha256,
    load_checkpoint,
    load_tensors,
)
from wsi_sampath.models.described import (
    CHECKPOINT,
    DEFAULT_MODEL,
    SPECIFICATIONS,
    model_path,
    model_spec,
    provenance_of,
    read_provenance,
    read_spec,
    unknown_model,
)
from wsi_sampath.models.network import LoadedModel
from wsi_sampath.models.origin import RANDOM_WEIGHTS, doubts, warnings_of, without_claims_of
from wsi_sampath.models.parse import AnySpec, spec_from_yaml
from wsi_sampath.models.patho_sam.importing import import_patho_sam
from wsi_sampath.models.patho_sam.spec import PathoSamSpec
from wsi_sampath.models.plain_sam.importing import import_plain_sam
from wsi_sampath.models.plain_sam.spec import PlainSamSpec
from wsi_sampath.models.sam_path.importing import import_sam_path
from wsi_sampath.models.sam_path.spec import SamPathSpec
from wsi_sampath.models.shipped import bundled_models
from wsi_sampath.models.wsi_sam.spec import WsiSamSpec

if TYPE_CHECKING:
    from wsi_sampath.models.build import AnyNetwork


def load_model(
    name_or_path: str | Path = DEFAULT_MODEL,
    *,
    weights: str | Path | None = None,
    device: str | torch.device = "cpu",
    allow_random_weights: bool = False,
) -> LoadedModel:
    """Load a model by bundled name, from a checkpoint, or from a specification and its weights.

    Parameters
    ----------
    name_or_path
        A bundled name, a ``.safetensors`` file, or a ``.yaml`` specification.
    weights
        Of the model that a ``.yaml`` describes: a ``.safetensors`` of ours, or the authors'
        checkpoint: of SAM-Path (``.ckpt``), of PathoSAM with its decoder, SAM or MobileSAM.
    device
        Where to put it.
    allow_random_weights
        Take a ``.yaml`` without weights: for tests and timing. They are the same every time.

    Raises
    ------
    WsiError
        ``bad-model`` for an unknown name, a file that cannot be used, or weights that are missing
        or do not fit; ``out-of-memory``.
    """
    path = model_path(name_or_path)
    suffix = path.suffix.lower()
    if suffix in SPECIFICATIONS:
        loaded = _from_specification(path, weights, allow_random_weights)
    elif weights is not None:
        message = f"has its weights already; {weights} would need a .yaml specification as --model"
        raise WsiError("bad-model", message, subject=str(name_or_path))
    elif suffix == CHECKPOINT:
        module = load_checkpoint(path)
        warnings = warnings_of(module.spec, read_provenance(path))
        loaded = LoadedModel(module, module.spec, file_sha256(path), str(name_or_path), warnings)
    else:
        raise unknown_model(str(name_or_path))
    loaded.module.to(device)
    return loaded


def describe_model(name_or_path: str | Path) -> tuple[AnySpec, int]:
    """Return what a model is and how many weights it has; its file is checked, not loaded.

    Raises
    ------
    WsiError
        As of `load_model`.
    """
    spec = model_spec(name_or_path)
    path = model_path(name_or_path)
    return spec, count_weights(spec, path)


def load_weighted(spec: AnySpec, weights: str | Path) -> AnyNetwork:
    """Build the model of `spec` with weights from a file, ours or published.

    Raises
    ------
    WsiError
        ``bad-model`` if the file is missing, of another kind, or does not fit.
    """
    if Path(weights).suffix.lower() == CHECKPOINT:
        return load_tensors(spec, weights)
    match spec:
        case SamPathSpec():
            return import_sam_path(weights, spec)
        case PathoSamSpec():
            return import_patho_sam(weights, spec)
        case PlainSamSpec():
            return import_plain_sam(weights, spec)
        case WsiSamSpec():
            message = "is one of the three files of a WSI-SAM; make one of them by 'wsi-models"
            message += " import --sam FILE --high FILE --low FILE'"
            raise WsiError("bad-model", message, subject=str(weights))


def _from_specification(path: Path, weights: str | Path | None, random: bool) -> LoadedModel:
    spec = spec_from_yaml(path)
    if weights is not None:
        spec = unclaimed(spec, weights)
        module = load_weighted(spec, weights)
        warnings = warnings_of(spec, provenance_of(weights))
        return LoadedModel(module, spec, file_sha256(weights), str(path), warnings)
    if not random:
        raise WsiError(
            "bad-model",
            "is a specification without weights; add --weights FILE, name a .safetensors "
            "checkpoint, or, only to try things out, --allow-random-weights",
            subject=str(path),
        )
    spec = unclaimed(spec)
    digest = hashlib.sha256(spec.to_json().encode()).hexdigest()
    # Equal digests must mean equal weights, or a resumed run would mix two models.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = build_model(spec, subject=str(path))
    return LoadedModel(module, spec, digest, str(path), (RANDOM_WEIGHTS, *doubts(spec)))


def unclaimed(spec: AnySpec, weights: str | Path | None = None) -> AnySpec:
    """Return a specification without what a bundled model says of its own weights.

    Parameters
    ----------
    spec
        Perhaps copied, wholly or in part, from that of a bundled model.
    weights
        The file that it is used with; a bundled one may keep its words.
    """
    digest = file_sha256(weights) if weights is not None and Path(weights).is_file() else ""
    others = [path for path in bundled_models().values() if file_sha256(path) != digest]
    return without_claims_of(spec, [read_spec(path) for path in others])
