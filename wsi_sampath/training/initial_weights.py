"""The network that a training starts from, fitted to its tile and classes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from wsi_sampath.data.patches import PatchSet
from wsi_sampath.errors import UsageError, WsiError
from wsi_sampath.models.checkpoints import file_sha256
from wsi_sampath.models.limits import MAX_TEXT
from wsi_sampath.models.origin import steps_since_random
from wsi_sampath.models.published.catalogue import FILES
from wsi_sampath.models.published.download import weights_file
from wsi_sampath.models.sam_path.network import SamPath
from wsi_sampath.models.sam_path.spec import SamPathSpec
from wsi_sampath.models.sam_path.start import continued, random_sam_path, start_sam_path
from wsi_sampath.models.zoo import load_model, load_weighted, model_spec, provenance_of
from wsi_sampath.training.settings import PublishedWeights, TrainSettings

_SPECIFICATIONS = (".yaml", ".yml")
_NOT_TRAINED = "is not a SAM-Path, so no training of one can start from it"
_NAMED = 20
_BEFORE = 1000


@dataclass(frozen=True)
class Start:
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

    model: SamPath
    digests: dict[str, str]
    steps: int | None = None


def start_model(settings: TrainSettings, patches: PatchSet) -> Start:
    """Build the network of a training with its initial weights; random parts follow the seed.

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
    if Path(settings.model).suffix.lower() not in _SPECIFICATIONS:
        return _going_on(spec, settings)
    if not settings.allow_random_weights:
        raise UsageError(
            "has no weights to start from: add weights=FILE.safetensors, or weights.sam=FILE and "
            "weights.pathology=FILE, or allow_random_weights=true",
            subject=settings.model,
        )
    return Start(random_sam_path(spec, settings.seed), {}, steps=0)


def spec_for(settings: TrainSettings, patches: PatchSet) -> SamPathSpec:
    """Return the specification of the model to train.

    Raises
    ------
    UsageError
        If settings and data do not make a valid one.
    WsiError
        ``bad-model`` for a model that is not a SAM-Path.
    """
    spec = model_spec(settings.model)
    if not isinstance(spec, SamPathSpec):
        raise WsiError("bad-model", _NOT_TRAINED, subject=settings.model)
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
        return SamPathSpec.model_validate(spec.model_dump() | changes)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "model"
        raise UsageError(f"{where}: {first['msg']}", subject=settings.model) from None


def claims_of(settings: TrainSettings, base: SamPathSpec, patches: PatchSet) -> dict[str, object]:
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


def _origin(settings: TrainSettings, base: SamPathSpec) -> str:
    weights = settings.weights
    if isinstance(weights, PublishedWeights):
        files = [weights.sam, *([weights.pathology] if weights.pathology else [])]
        return f"Trained from {' and '.join(map(_licensed, files))}"
    if weights is not None:
        return f"Fine-tuned from {_licensed(weights)}"
    if Path(settings.model).suffix.lower() in _SPECIFICATIONS:
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


def _from_published(spec: SamPathSpec, weights: PublishedWeights, seed: int) -> Start:
    sam = weights_file(weights.sam)
    pathology = weights_file(weights.pathology) if weights.pathology else None
    model = start_sam_path(spec, sam, pathology, seed=seed)
    digests = {"sam": file_sha256(sam)}
    if pathology is not None:
        digests["pathology"] = file_sha256(pathology)
    return Start(model, digests)


def _from_file(spec: SamPathSpec, weights: str) -> Start:
    path = weights_file(weights)
    steps = steps_since_random(provenance_of(path))
    network = _sam_path(load_weighted(spec, path), str(path))
    return Start(network, {"model": file_sha256(path)}, steps)


def _going_on(spec: SamPathSpec, settings: TrainSettings) -> Start:
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
