"""Published weights into our models: a trained SAM-Path, SAM, and vision transformers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from wsi_sampath.errors import WsiError
from wsi_sampath.models.checkpoints import build_model, load_weights, shapes_of
from wsi_sampath.models.parts.specs import SAM_SIZES, SamSpec
from wsi_sampath.models.published.files import Kind, Published, State, read_published, sam_size
from wsi_sampath.models.sam import Sam
from wsi_sampath.models.sam_path.names import from_published
from wsi_sampath.models.sam_path.network import SamPath
from wsi_sampath.models.sam_path.spec import SamPathSpec
from wsi_sampath.shown import plural

_MASK_TOKENS = "model.mask_decoder.mask_tokens.weight"
_UNUSED_TOKENS = 2
"""Mask tokens that stand for no class: those without output and of unlabelled pixels."""


def import_sam_path(path: str | Path, spec: SamPathSpec) -> SamPath:
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
    published = read_kind(path, Kind.SAM_PATH)
    _check_classes(published, spec)
    check_sam(below(published.state, "model."), spec.sam, spec.name, str(path))
    state = from_published(published.state, spec)
    model = build_model(spec, fitting=shapes_of(state), subject=str(path))
    load_weights(model, state, subject=str(path))
    return model


def load_sam(path: str | Path) -> Sam:
    """Read SAM's ``.pth``; ViT-B, L or H is recognised by the shapes.

    Raises
    ------
    WsiError
        ``bad-model`` if it is not such a file.
    """
    published = read_kind(path, Kind.SAM)
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
    published = read_kind(path, Kind.VIT)
    load_part(module, published.state, published)


def read_kind(path: str | Path, kind: Kind) -> Published:
    """Read a published file, and refuse one of another kind."""
    return of_kind(read_published(path), kind)


def of_kind(published: Published, kind: Kind) -> Published:
    """Return a published file, and refuse one of another kind."""
    if published.kind is kind:
        return published
    hint = ""
    if kind is Kind.SAM_PATH:
        hint = "; to train a SAM-Path from it: wsi-models import --sam FILE --hipt FILE --spec ..."
    message = f"holds {published.kind.value}'s weights, where {kind.value}'s are needed{hint}"
    raise WsiError("bad-model", message, subject=str(published.path))


def _check_classes(published: Published, spec: SamPathSpec) -> None:
    tokens = published.state.get(_MASK_TOKENS)
    if tokens is None or len(tokens) == spec.num_channels + 1:
        return
    wanted = len(spec.classes)
    trained = plural(len(tokens) - _UNUSED_TOKENS, "class", "classes")
    raise WsiError(
        "bad-model",
        f"was trained for {trained} ({_MASK_TOKENS} "
        f"{tuple(tokens.shape)} for {(wanted + _UNUSED_TOKENS, spec.decoder.dim)}), but "
        f"'{spec.name}' names {wanted}",
        subject=str(published.path),
    )


def check_sam(state: Mapping[str, Tensor], sam: SamSpec | None, name: str, subject: str) -> None:
    """Refuse a SAM of another size than the model `name` has; the decoder alone fits any."""
    found, positions = sam_size(state), state.get("image_encoder.pos_embed")
    if sam is None or positions is None or positions.shape[-1] == sam.embed_dim:
        return
    wanted = sam.embed_dim
    sizes = {values["embed_dim"]: size for size, values in SAM_SIZES.items()}
    raise WsiError(
        "bad-model",
        f"is SAM {found or 'of another size'} (image_encoder.pos_embed {tuple(positions.shape)}), "
        f"but '{name}' wants {sizes.get(wanted, f'{wanted} channels')}",
        subject=subject,
    )


def load_part(module: nn.Module, state: Mapping[str, Tensor], published: Published) -> None:
    """Load a part of a published file into a part of a model, strictly."""
    load_weights(module, state, subject=str(published.path))


def below(state: Mapping[str, Tensor], prefix: str) -> State:
    """Return the tensors whose names begin with `prefix`, which is removed."""
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in state.items()
        if name.startswith(prefix)
    }
