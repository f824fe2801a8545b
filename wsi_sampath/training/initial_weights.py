"""The network that a training starts from, fitted to its tile and classes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import ValidationError

from wsi_sampath.data.patches import PatchSet
from wsi_sampath.errors import UsageError, WsiError
from wsi_sampath.models.checkpoints import file_sha256
from wsi_sampath.models.described import model_spec, provenance_of
from wsi_sampath.models.limits import MAX_TEXT
from wsi_sampath.models.origin import steps_since_random
from wsi_sampath.models.patho_sam.network import PathoSam
from wsi_sampath.models.patho_sam.spec import PathoSamSpec
from wsi_sampath.models.published.catalogue import FILES
from wsi_sampath.models.published.download import weights_file
from wsi_sampath.models.sam_path.network import SamPath
from wsi_sampath.models.sam_path.spec import SamPathSpec
from wsi_sampath.models.sam_path.start import continued, random_sam_path, start_sam_path
from wsi_sampath.models.spec import ModelSpec
from wsi_sampath.models.wsi_sam.network import WsiSam
from wsi_sampath.models.wsi_sam.spec import WsiSamSpec
from wsi_sampath.models.zoo import load_model, load_weighted
from wsi_sampath.training.settings import PublishedWeights, RunSettings, StartWeights, TrainSettings

Spec = TypeVar("Spec", SamPathSpec, PathoSamSpec, WsiSamSpec)
Network = TypeVar("Network", SamPath, PathoSam, WsiSam)

_SPECIFICATIONS = (".yaml", ".yml")
_NOT_TRAINED = "is not a SAM-Path, so no training of one can start from it"
_INSTEAD = {
    "patho_sam": (
        "; a PathoSAM is trained with objective=nuclei or classes (configs/train/nuclei.yaml)"
    ),
    "wsi_sam": "; a WSI-SAM is trained with objective=prompts (configs/train/wsi-sam.yaml)",
}
_NAMED = 20
_BEFORE = 1000


@dataclass(frozen=True)
class Start(Generic[Network]):
    """The network, and what its weights are.

    Attributes
    ----------
    model
        Its specification says what it is trained from and on.
    digests
        Digests of the weights' files, by role; empty where the weights are random.
    steps
        How many steps ago the weights were random, where that is known.
    """

    model: Network
    digests: dict[str, str]
    steps: int | None = None


AnyStart = Start[SamPath] | Start[PathoSam] | Start[WsiSam]


def start_model(settings: TrainSettings, patches: PatchSet) -> Start[SamPath]:
    """Build a SAM-Path with its initial weights; random parts follow the seed.

    Raises
    ------
    UsageError
        If nothing says where the weights come from.
    WsiError
        ``bad-model`` for weights that are missing or do not fit.
    """
    spec = spec_for(settings, patches)
    if isinstance(settings.weights, PublishedWeights):
        return _from_published(spec, settings.weights, settings.seed)
    if settings.weights is not None:
        return _from_file(spec, settings.weights)
    if not is_specification(settings.model):
        return _going_on(spec, settings)
    check_random(settings, "weights.sam=FILE and weights.pathology=FILE")
    return Start(random_sam_path(spec, settings.seed), {}, steps=0)


def is_specification(model: str) -> bool:
    """Return whether a model is named by a specification, which has no weights."""
    return Path(model).suffix.lower() in _SPECIFICATIONS


def check_random(settings: RunSettings, files: str) -> None:
    """Refuse to start from nothing unless that is asked for.

    Raises
    ------
    UsageError
        Names the settings that would give weights; `files` are those of published ones.
    """
    if not settings.allow_random_weights:
        raise UsageError(
            f"has no weights to start from: add weights=FILE.safetensors, or {files}, or "
            "allow_random_weights=true",
            subject=settings.model,
        )


def spec_for(settings: TrainSettings, patches: PatchSet) -> SamPathSpec:
    """Return the specification of the SAM-Path to train.

    Raises
    ------
    UsageError
        If settings and data do not make a valid one.
    WsiError
        ``bad-model`` for a model that is not a SAM-Path.
    """
    spec = model_spec(settings.model)
    if not isinstance(spec, SamPathSpec):
        message = _NOT_TRAINED + _INSTEAD.get(spec.architecture, "")
        raise WsiError("bad-model", message, subject=settings.model)
    return changed(spec, settings, patches)


def changed(spec: Spec, settings: RunSettings, patches: PatchSet) -> Spec:
    """Return a specification with the changes that the settings name, and new claims.

    Raises
    ------
    UsageError
        If settings and data do not make a valid one.
    """
    changes: dict[str, object] = claims_of(settings, spec, patches)
    if settings.name is not None:
        changes["name"] = settings.name
    if settings.classes == "data":
        changes["classes"] = patches.classes
    if settings.mpp is not None:
        changes["mpp"] = settings.mpp
    if settings.tile is not None:
        if settings.tile % spec.patch:
            raise UsageError(f"tile={settings.tile} must be a multiple of {spec.patch}")
        changes["tile"] = settings.tile
    try:
        return type(spec).model_validate(spec.model_dump() | changes)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "model"
        said = first["msg"].removeprefix("Value error, ")
        raise UsageError(f"{where}: {said}", subject=settings.model) from None


def claims_of(settings: RunSettings, base: ModelSpec, patches: PatchSet) -> dict[str, object]:
    """Return what the trained model says of itself; nothing is copied from `base`."""
    names = [spec.name for spec in patches.classes]
    more = ", ..." if len(names) > _NAMED else ""
    description = (
        f"{_origin(settings, base)} on {patches.root.resolve().name} "
        f"(classes {', '.join(names[:_NAMED])}{more})"
    )
    return {
        "description": settings.description or description[:MAX_TEXT],
        "licence": settings.licence or "",
        "training_data": _credit(patches),
    }


def _origin(settings: RunSettings, base: ModelSpec) -> str:
    weights = settings.weights
    if isinstance(weights, StartWeights):
        return f"Trained from {' and '.join(map(_licensed, weights.given.values()))}"
    if weights is not None:
        return f"Fine-tuned from {_licensed(weights)}"
    if is_specification(settings.model):
        return "Trained from random weights"
    licence = f"licence {base.licence}" if base.licence else "licence not stated"
    earlier = base.description.startswith(("Trained from ", "Fine-tuned from "))
    before = f"; {base.description[0].lower()}{base.description[1:]}" if earlier else ""
    return f"Fine-tuned from {base.name} ({licence}{before[:_BEFORE]})"


def _licensed(weights: str) -> str:
    """Return the name of a file of weights, with its licence where it is published."""
    known = {file.name: file for file in FILES}
    if weights in known:
        return f"{weights} (licence {known[weights].licence})"
    return f"{Path(weights).name} (licence not stated)"


def _credit(patches: PatchSet) -> str:
    counts = {name: len(patches.split(name)) for name in ("train", "validation")}
    parts = ", ".join(f"{count} {name}" for name, count in counts.items())
    return f"{patches.root.resolve().name} ({parts} patches)"


def _from_published(spec: SamPathSpec, weights: PublishedWeights, seed: int) -> Start[SamPath]:
    sam = weights_file(weights.sam)
    pathology = weights_file(weights.pathology) if weights.pathology else None
    model = start_sam_path(spec, sam, pathology, seed=seed)
    digests = {"sam": file_sha256(sam)}
    if pathology is not None:
        digests["pathology"] = file_sha256(pathology)
    return Start(model, digests)


def _from_file(spec: SamPathSpec, weights: str) -> Start[SamPath]:
    path = weights_file(weights)
    steps = steps_since_random(provenance_of(path))
    network = _sam_path(load_weighted(spec, path), str(path))
    return Start(network, {"model": file_sha256(path)}, steps)


def _going_on(spec: SamPathSpec, settings: TrainSettings) -> Start[SamPath]:
    trained = load_model(settings.model)
    digests = {"model": trained.weights_sha256}
    steps = steps_since_random(provenance_of(settings.model))
    module = _sam_path(trained.module, settings.model)
    network = continued(module, spec, seed=settings.seed, subject=settings.model)
    return Start(network, digests, steps)


def _sam_path(network: object, subject: str) -> SamPath:
    if isinstance(network, SamPath):
        return network
    raise WsiError("bad-model", _NOT_TRAINED, subject=subject)
