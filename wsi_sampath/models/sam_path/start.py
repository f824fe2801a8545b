"""What a SAM-Path is trained from: published encoders, another SAM-Path, or nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from wsi_sampath.errors import UsageError, WsiError
from wsi_sampath.models.checkpoints import build_model, load_weights, shapes_of
from wsi_sampath.models.parts.retile import with_tile
from wsi_sampath.models.published.files import Kind, State
from wsi_sampath.models.sam_path.importing import (
    below,
    check_sam,
    load_part,
    load_vit,
    read_kind,
)
from wsi_sampath.models.sam_path.names import from_published
from wsi_sampath.models.sam_path.network import SamPath
from wsi_sampath.models.sam_path.spec import SamPathSpec

RANDOM_PARTS = "class tokens and neck are"
_TOKENS = "mask_tokens."
_HYPER = "output_hypernetworks_mlps."
_IOU_HEAD = "iou_prediction_head.layers."
_FIRST_CLASS = 2
"""Networks 0 and 1 belong to the token without output and to what is not labelled."""


def random_sam_path(spec: SamPathSpec, seed: int) -> SamPath:
    """Return a SAM-Path with random weights, the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_model(spec)


def start_sam_path(
    spec: SamPathSpec, sam: str | Path, pathology: str | Path | None = None, *, seed: int = 0
) -> SamPath:
    """Put a new SAM-Path together from published encoders, ready to be trained.

    Encoders, prompt encoder and most of the decoder come from the files. Random, as in the paper:
    the neck (but SAM's own is used if `spec` has no pathology encoder), the class tokens and the
    last layer of the IoU head. Every class starts from SAM's first hypernetwork.

    Parameters
    ----------
    spec
        The model.
    sam
        SAM's ``.pth``; its decoder is needed even where `spec` has no SAM encoder.
    pathology
        Weights of the pathology encoder, if `spec` has one: HIPT's ``.pth``, or the state dict of a
        timm model.
    seed
        Of the random parts.

    Raises
    ------
    WsiError
        ``bad-model`` if a file is missing, of another kind, or does not fit `spec`.
    """
    model = random_sam_path(spec, seed)
    published = read_kind(sam, Kind.SAM)
    check_sam(published.state, spec.sam, spec.name, str(sam))
    state = from_published({f"model.{name}": one for name, one in published.state.items()}, spec)
    load_part(model.prompt_encoder, below(state, "prompt_encoder."), published)
    load_part(model.decoder, _start_of_decoder(model.decoder, below(state, "decoder.")), published)
    if model.sam_encoder is not None:
        load_part(model.sam_encoder, below(state, "sam_encoder."), published)
    if model.pathology_encoder is None:
        load_part(model.neck, below(state, "neck."), published)
    _start_pathology(model, pathology)
    return model


def continued(network: SamPath, spec: SamPathSpec, *, seed: int, subject: str) -> SamPath:
    """Return a trained SAM-Path made ready for another tile, other classes, or another name.

    Parameters
    ----------
    network
        What is trained further.
    spec
        What it is to become.
    seed
        Of the random parts, which other numbers of classes have.
    subject
        What the user calls `network`, for messages.

    Raises
    ------
    UsageError
        Where its weights fit tiles of one size alone.
    WsiError
        ``bad-model`` where it has no class networks.
    """
    if spec.tile != network.spec.tile:
        network = _with_other_tile(network, spec.tile, subject)
    if spec.num_channels == network.spec.num_channels:
        network.spec = spec
        return network
    model = random_sam_path(spec, seed)
    state = _with_new_classes(network.state_dict(), model.state_dict())
    load_weights(model, state, subject=subject)
    return model


def _with_other_tile(network: SamPath, tile: int, subject: str) -> SamPath:
    """Refuse another tile where more than the tables of relative positions depends on it."""
    spec = network.spec
    if spec.sam is not None and spec.sam.absolute_positions:
        message = f"has positions for tiles of {spec.tile} px alone; leave tile away"
        raise UsageError(message, subject=subject)
    like = build_model(spec.model_copy(update={"tile": tile}))
    before, after = shapes_of(network.state_dict()), shapes_of(like.state_dict())
    fixed = [
        name
        for name in before.keys() | after.keys()
        if ("rel_pos" not in name or name.startswith("pathology_encoder."))
        and before.get(name) != after.get(name)
    ]
    if fixed:
        message = f"its pathology encoder takes tiles of {spec.tile} px alone; leave tile away"
        raise UsageError(message, subject=subject)
    return with_tile(network, like)


def _with_new_classes(old: Mapping[str, Tensor], fresh: Mapping[str, Tensor]) -> State:
    """Return the weights for other classes: their tokens anew, their networks as one of before."""
    hyper = f"decoder.{_HYPER}"
    if not any(name.startswith(hyper) for name in old):
        raise WsiError("bad-model", "has no class networks to start new classes from")
    new = (f"decoder.{_TOKENS}", f"decoder.{_last_of_iou_head(below(fresh, 'decoder.'))}")
    out = {}
    for name, tensor in fresh.items():
        if name.startswith(new):
            out[name] = tensor
        elif name.startswith(hyper):
            part = name.removeprefix(hyper).partition(".")[2]
            out[name] = old[f"{hyper}{_FIRST_CLASS}.{part}"]
        else:
            out[name] = old[name]
    return out


def _last_of_iou_head(decoder: Mapping[str, Tensor]) -> str:
    return max(name for name in decoder if name.startswith(_IOU_HEAD)).rsplit(".", 1)[0] + "."


def _start_of_decoder(decoder: nn.Module, sam: State) -> State:
    """Return SAM's decoder with the parts that depend on the number of classes made anew."""
    fresh = decoder.state_dict()
    new = (_TOKENS, _last_of_iou_head(fresh))
    out = {name: one for name, one in sam.items() if not name.startswith((*new, _HYPER))}
    out |= {name: one for name, one in fresh.items() if name.startswith(new)}
    first = below(sam, f"{_HYPER}0.")
    for name in fresh:
        part = name.removeprefix(_HYPER).partition(".")[2]
        if name.startswith(_HYPER) and part in first:
            out[name] = first[part]
    return out


def _start_pathology(model: SamPath, path: str | Path | None) -> None:
    encoder, name = model.pathology_encoder, model.spec.name
    if encoder is not None and path is not None:
        load_vit(getattr(encoder.encoder, "vit", encoder.encoder), path)
    elif encoder is not None:
        raise WsiError(
            "bad-model", f"'{name}' has a pathology encoder: give its weights, too (--hipt FILE)"
        )
    elif path is not None:
        message = f"'{name}' has no pathology encoder that could take these weights"
        raise WsiError("bad-model", message, subject=str(path))
