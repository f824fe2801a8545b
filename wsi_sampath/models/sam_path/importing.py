"""Published weights into our models.

A trained SAM-Path comes back complete (`import_sam_path`); SAM and a pathology encoder are what a
new SAM-Path starts from (`start_sam_path`), with what the paper starts at random left random.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from wsi_sampath.errors import WsiError
from wsi_sampath.models.checkpoints import build_model, load_weights, shapes_of
from wsi_sampath.models.published.files import Kind, Published, State, read_published, sam_size
from wsi_sampath.models.sam import Sam
from wsi_sampath.models.sam_path.names import from_published
from wsi_sampath.models.sam_path.network import SamPath
from wsi_sampath.models.spec import SAM_SIZES, ModelSpec, SamSpec

_MASK_TOKENS = "model.mask_decoder.mask_tokens.weight"
_TOKENS = "mask_tokens."
_HYPER = "output_hypernetworks_mlps."
_IOU_HEAD = "iou_prediction_head.layers."
RANDOM_PARTS = "class tokens and neck are"
_UNUSED_TOKENS = 2
"""Mask tokens that are no class: the one without output and the one of unlabelled pixels."""


def import_sam_path(path: str | Path, spec: ModelSpec) -> SamPath:
    """Read the authors' trained SAM-Path (a Lightning checkpoint).

    Parameters
    ----------
    path
        The ``.ckpt``.
    spec
        What the file does not say: variant, classes, microns per pixel.

    Returns
    -------
    SamPath
        On the CPU, float32, in evaluation mode.

    Raises
    ------
    WsiError
        ``bad-model`` if the file is of another kind or does not fit `spec`.
    """
    published = _read(path, Kind.SAM_PATH)
    _check_classes(published, spec)
    _check_sam(_below(published.state, "model."), spec, str(path))
    state = from_published(published.state, spec)
    model = build_model(spec, fitting=shapes_of(state), subject=str(path))
    load_weights(model, state, subject=str(path))
    return model


def start_sam_path(
    spec: ModelSpec, sam: str | Path, pathology: str | Path | None = None, *, seed: int = 0
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
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_model(spec)
    published = _read(sam, Kind.SAM)
    _check_sam(published.state, spec, str(sam))
    state = from_published({f"model.{name}": one for name, one in published.state.items()}, spec)
    _load(model.prompt_encoder, _below(state, "prompt_encoder."), published)
    _load(model.decoder, _start_of_decoder(model.decoder, _below(state, "decoder.")), published)
    if model.sam_encoder is not None:
        _load(model.sam_encoder, _below(state, "sam_encoder."), published)
    if model.pathology_encoder is None:
        _load(model.neck, _below(state, "neck."), published)
    _start_pathology(model, pathology)
    return model


def load_sam(path: str | Path) -> Sam:
    """Read SAM's ``.pth``; ViT-B, L or H is recognised by the shapes.

    Raises
    ------
    WsiError
        ``bad-model`` if it is not such a file.
    """
    published = _read(path, Kind.SAM)
    size = sam_size(published.state)
    if not size:
        sizes = ", ".join(SAM_SIZES)
        raise WsiError("bad-model", f"is SAM of a size other than {sizes}", subject=str(path))
    model = Sam(SamSpec.model_validate(size)).eval()
    load_weights(model, published.state, subject=str(path))
    return model


def load_vit(module: nn.Module, path: str | Path) -> None:
    """Load DINO's (HIPT's) or a plain state dict into a vision transformer, strictly.

    Raises
    ------
    WsiError
        ``bad-model`` if it is not such a file, or does not fit.
    """
    published = _read(path, Kind.VIT)
    _load(module, published.state, published)


def _read(path: str | Path, kind: Kind) -> Published:
    published = read_published(path)
    if published.kind is kind:
        return published
    hint = ""
    if kind is Kind.SAM_PATH:
        hint = "; to train a SAM-Path from it: wsi-models import --sam FILE --hipt FILE --spec ..."
    message = f"holds {published.kind.value}'s weights, where {kind.value}'s are needed{hint}"
    raise WsiError("bad-model", message, subject=str(path))


def _check_classes(published: Published, spec: ModelSpec) -> None:
    tokens = published.state.get(_MASK_TOKENS)
    if tokens is None or len(tokens) == spec.num_channels + 1:
        return
    wanted = len(spec.classes)
    raise WsiError(
        "bad-model",
        f"was trained for {len(tokens) - _UNUSED_TOKENS} classes ({_MASK_TOKENS} "
        f"{tuple(tokens.shape)} for {(wanted + _UNUSED_TOKENS, spec.decoder.dim)}), but "
        f"'{spec.name}' names {wanted}",
        subject=str(published.path),
    )


def _check_sam(state: Mapping[str, Tensor], spec: ModelSpec, subject: str) -> None:
    found, positions = sam_size(state), state.get("image_encoder.pos_embed")
    if spec.sam is None or positions is None or positions.shape[-1] == spec.sam.embed_dim:
        return
    wanted = spec.sam.embed_dim
    sizes = {values["embed_dim"]: size for size, values in SAM_SIZES.items()}
    raise WsiError(
        "bad-model",
        f"is SAM {found or 'of another size'} (image_encoder.pos_embed {tuple(positions.shape)}), "
        f"but '{spec.name}' wants {sizes.get(wanted, f'{wanted} channels')}",
        subject=subject,
    )


def _start_of_decoder(decoder: nn.Module, sam: State) -> State:
    """Return SAM's decoder with the parts that depend on the number of classes made anew."""
    fresh = decoder.state_dict()
    last = max(name for name in fresh if name.startswith(_IOU_HEAD)).rsplit(".", 1)[0] + "."
    new = (_TOKENS, last)
    out = {name: one for name, one in sam.items() if not name.startswith((*new, _HYPER))}
    out |= {name: one for name, one in fresh.items() if name.startswith(new)}
    first = _below(sam, f"{_HYPER}0.")
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


def _load(module: nn.Module, state: Mapping[str, Tensor], published: Published) -> None:
    load_weights(module, state, subject=str(published.path))


def _below(state: Mapping[str, Tensor], prefix: str) -> State:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in state.items()
        if name.startswith(prefix)
    }
