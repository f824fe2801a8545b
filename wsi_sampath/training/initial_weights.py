"""The network that a training starts from, fitted to its tile and classes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from wsi_sampath.data.patches import PatchSet
from wsi_sampath.errors import UsageError, WsiError
from wsi_sampath.models.checkpoints import build_model, file_sha256, load_weights, shapes_of
from wsi_sampath.models.limits import MAX_TEXT
from wsi_sampath.models.origin import steps_since_random
from wsi_sampath.models.published.catalogue import FILES
from wsi_sampath.models.published.download import weights_file
from wsi_sampath.models.sam_path.importing import start_sam_path
from wsi_sampath.models.sam_path.network import SamPath
from wsi_sampath.models.spec import ModelSpec
from wsi_sampath.models.zoo import load_model, load_weighted, model_spec, provenance_of
from wsi_sampath.training.settings import PublishedWeights, TrainSettings

Model = TypeVar("Model", bound=nn.Module)

_SPECIFICATIONS = (".yaml", ".yml")
_TOKENS = "decoder.mask_tokens.weight"
_HYPER = "decoder.output_hypernetworks_mlps."
_IOU_HEAD = "decoder.iou_prediction_head.layers."
_NAMED = 20
_BEFORE = 1000
_FIRST_CLASS = 2
"""Networks 0 and 1 belong to the token without output and to what is not labelled."""


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
    return Start(_random(spec, settings.seed), {}, steps=0)


def spec_for(settings: TrainSettings, patches: PatchSet) -> ModelSpec:
    """Return the specification of the model to train.

    Raises
    ------
    UsageError
        If settings and data do not make a valid one.
    """
    spec = model_spec(settings.model)
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
        return ModelSpec.model_validate(spec.model_dump() | changes)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "model"
        raise UsageError(f"{where}: {first['msg']}", subject=settings.model) from None


def claims_of(settings: TrainSettings, base: ModelSpec, patches: PatchSet) -> dict[str, object]:
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


def _origin(settings: TrainSettings, base: ModelSpec) -> str:
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


def _random(spec: ModelSpec, seed: int) -> SamPath:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_model(spec)


def _from_published(spec: ModelSpec, weights: PublishedWeights, seed: int) -> Start:
    sam = weights_file(weights.sam)
    pathology = weights_file(weights.pathology) if weights.pathology else None
    model = start_sam_path(spec, sam, pathology, seed=seed)
    digests = {"sam": file_sha256(sam)}
    if pathology is not None:
        digests["pathology"] = file_sha256(pathology)
    return Start(model, digests)


def _from_file(spec: ModelSpec, weights: str) -> Start:
    path = weights_file(weights)
    steps = steps_since_random(provenance_of(path))
    return Start(load_weighted(spec, path), {"model": file_sha256(path)}, steps)


def _going_on(spec: ModelSpec, settings: TrainSettings) -> Start:
    trained = load_model(settings.model)
    digests = {"model": trained.weights_sha256}
    steps = steps_since_random(provenance_of(settings.model))
    network = trained.module
    if not isinstance(network, SamPath):
        raise WsiError(
            "bad-model", "is not a SAM-Path, so it cannot start one", subject=settings.model
        )
    if spec.tile != trained.spec.tile:
        if spec.sam is not None and spec.sam.absolute_positions:
            message = f"has positions for tiles of {trained.spec.tile} px alone; leave tile away"
            raise UsageError(message, subject=settings.model)
        like = build_model(trained.spec.model_copy(update={"tile": spec.tile}))
        _check_tile(network, like, settings)
        network = with_tile(network, like)
    if spec.num_channels == trained.spec.num_channels:
        network.spec = spec
        return Start(network, digests, steps)
    model = _random(spec, settings.seed)
    state = _with_new_classes(network.state_dict(), model.state_dict())
    load_weights(model, state, subject=settings.model)
    return Start(model, digests, steps)


def _check_tile(network: SamPath, like: SamPath, settings: TrainSettings) -> None:
    """Refuse another tile where more than the tables of relative positions depends on it."""
    before, after = shapes_of(network.state_dict()), shapes_of(like.state_dict())
    fixed = [
        name
        for name in before.keys() | after.keys()
        if ("rel_pos" not in name or name.startswith("pathology_encoder."))
        and before.get(name) != after.get(name)
    ]
    if fixed:
        message = f"its pathology encoder takes tiles of {network.spec.tile} px alone; "
        raise UsageError(f"{message}leave tile away", subject=settings.model)


def _with_new_classes(old: dict[str, Tensor], fresh: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights for other classes: fresh tokens, networks copied from an old class."""
    if not any(name.startswith(_HYPER) for name in old):
        raise WsiError("bad-model", "has no class networks to start new classes from")
    last = max(name for name in fresh if name.startswith(_IOU_HEAD)).rsplit(".", 1)[0]
    out = {}
    for name, tensor in fresh.items():
        if name == _TOKENS or name.startswith(last):
            out[name] = tensor
        elif name.startswith(_HYPER):
            part = name.removeprefix(_HYPER).partition(".")[2]
            out[name] = old[f"{_HYPER}{_FIRST_CLASS}.{part}"]
        else:
            out[name] = old[name]
    return out


def with_tile(model: Model, like: Model, distant: Model | None = None) -> Model:
    """Fill `like`, the same model for another tile size, with the weights of `model`.

    Position tables of global attention are cropped or extended around distance zero.

    Parameters
    ----------
    model
        Where the weights come from.
    like
        Receives them, and is returned.
    distant
        The model for the larger tile that `model` came from: it keeps the positions of distances
        that `model` cannot see. Without it, these get the position of the farthest one it can.
    """
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    far = distant.state_dict() if distant is not None else {}
    for name, wanted in like.state_dict().items():
        if "rel_pos" in name and state[name].shape != wanted.shape:
            state[name] = _recentred(state[name], len(wanted), far.get(name))
    like.load_state_dict(state)
    return like


def _recentred(table: Tensor, length: int, distant: Tensor | None) -> Tensor:
    distance = torch.arange(length) - length // 2
    half = len(table) // 2
    known = table[distance.clamp(-half, half) + half]
    if distant is None or len(distant) != length:
        return known
    return torch.where((distance.abs() <= half)[:, None], known, distant)
