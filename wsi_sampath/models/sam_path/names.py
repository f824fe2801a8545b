"""Names of the published SAM-Path weights against ours.

Published names are those inside ``state_dict`` with one leading ``model.`` removed, so that
``model.image_encoder.*``, ``extra_encoder.*`` and ``fusion_neck.*`` are left.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from wsi_sampath.models.sam_path.spec import SamPathSpec

_ALWAYS = {
    "model.prompt_encoder.": "prompt_encoder.",
    "model.mask_decoder.": "decoder.",
}
_SAM = {"model.image_encoder.": "sam_encoder."}
_PATHOLOGY = {"extra_encoder.model.": "pathology_encoder.encoder.vit."}
_SAM_NECK = "model.image_encoder.neck."


def published_prefixes(spec: SamPathSpec) -> dict[str, str]:
    """Return which published prefix is which of ours, for the variant that `spec` describes."""
    if spec.sam and spec.pathology:
        return _ALWAYS | _SAM | _PATHOLOGY | {"fusion_neck.": "neck."}
    if spec.sam:
        return _ALWAYS | _SAM | {_SAM_NECK: "neck."}
    return _ALWAYS | _PATHOLOGY | {"extra_encoder.neck.": "neck."}


def from_published(state: Mapping[str, Tensor], spec: SamPathSpec) -> dict[str, Tensor]:
    """Rename published weights to ours, leaving out those that the forward pass never reads.

    Parameters
    ----------
    state
        Published names and tensors.
    spec
        The variant; it decides which neck is the one in use.

    Returns
    -------
    dict
        Our names and the same tensors. Names that the table does not know are kept as they are, so
        that strict loading reports them.
    """
    prefixes = published_prefixes(spec)
    renamed = {_rename(name, prefixes): tensor for name, tensor in state.items()}
    return {name: tensor for name, tensor in renamed.items() if not _unused(name, spec)}


def to_published(state: Mapping[str, Tensor], spec: SamPathSpec) -> dict[str, Tensor]:
    """Rename our weights to the published names; the inverse of `from_published`."""
    prefixes = {ours: theirs for theirs, ours in published_prefixes(spec).items()}
    return {_rename(name, prefixes): tensor for name, tensor in state.items()}


def _rename(name: str, prefixes: Mapping[str, str]) -> str:
    """Replace the longest prefix that fits."""
    for prefix in sorted(prefixes, key=len, reverse=True):
        if name.startswith(prefix):
            return prefixes[prefix] + name.removeprefix(prefix)
    return name


def _unused(name: str, spec: SamPathSpec) -> bool:
    if spec.sam is None:
        return name.startswith("model.image_encoder.")
    return name.startswith("sam_encoder.neck.")
