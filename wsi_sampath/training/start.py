"""The network a training starts from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import Tensor

from wsi_sampath.errors import UsageError, WsiError
from wsi_sampath.models.checkpoints import build_model, file_sha256, load_weights
from wsi_sampath.models.download import weights_file
from wsi_sampath.models.importing import start_sam_path
from wsi_sampath.models.sam_path import SamPath
from wsi_sampath.models.spec import ModelSpec
from wsi_sampath.models.zoo import load_model, load_weighted, model_spec
from wsi_sampath.training.datasets import PatchSet
from wsi_sampath.training.retile import with_tile
from wsi_sampath.training.settings import PublishedWeights, TrainSettings

_SPECIFICATIONS = (".yaml", ".yml")
_TOKENS = "decoder.mask_tokens.weight"
_HYPER = "decoder.output_hypernetworks_mlps."
_IOU_HEAD = "decoder.iou_prediction_head.layers."
_FIRST_CLASS = 2
"""Networks 0 and 1 belong to the token without output and to what is not labelled."""


@dataclass(frozen=True)
class Start:
    """The network, and what its weights are: a digest by role (empty where they are random)."""

    model: SamPath
    digests: dict[str, str]


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
    if Path(settings.model).suffix not in _SPECIFICATIONS:
        return _going_on(spec, settings)
    if not settings.allow_random_weights:
        raise UsageError(
            "has no weights to start from: add weights=FILE.safetensors, or weights.sam=FILE and "
            "weights.pathology=FILE, or allow_random_weights=true",
            subject=settings.model,
        )
    return Start(_random(spec, settings.seed), {})


def spec_for(settings: TrainSettings, patches: PatchSet) -> ModelSpec:
    """Return the specification of the model to train.

    Raises
    ------
    UsageError
        If settings and data do not make a valid one.
    """
    spec = model_spec(settings.model)
    changes: dict[str, object] = {"training_data": _credit(patches)}
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
    return Start(load_weighted(spec, path), {"model": file_sha256(path)})


def _going_on(spec: ModelSpec, settings: TrainSettings) -> Start:
    trained = load_model(settings.model)
    digests = {"model": trained.weights_sha256}
    network = trained.module
    if spec.tile != trained.spec.tile:
        if spec.sam is not None and spec.sam.absolute_positions:
            message = f"has positions for tiles of {trained.spec.tile} px alone; leave tile away"
            raise UsageError(message, subject=settings.model)
        like = build_model(trained.spec.model_copy(update={"tile": spec.tile}))
        network = with_tile(network, like)
    if spec.num_channels == trained.spec.num_channels:
        network.spec = spec
        return Start(network, digests)
    model = _random(spec, settings.seed)
    state = _with_new_classes(network.state_dict(), model.state_dict())
    load_weights(model, state, subject=settings.model)
    return Start(model, digests)


def _with_new_classes(old: dict[str, Tensor], fresh: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights for other classes: their tokens anew, their networks as one of before."""
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
