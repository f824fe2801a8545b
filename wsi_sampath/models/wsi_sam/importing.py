"""Published WSI-SAM weights: a SAM, and what was learned of either resolution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from wsi_sampath.errors import WsiError
from wsi_sampath.models.checkpoints import build_model, load_weights, shapes_of
from wsi_sampath.models.plain_sam.importing import read_sam
from wsi_sampath.models.published.files import Kind, State, prefixed
from wsi_sampath.models.sam_path.importing import below, read_kind
from wsi_sampath.models.wsi_sam.network import WsiSam
from wsi_sampath.models.wsi_sam.spec import WsiSamSpec

RANDOM_PARTS = "what it has to learn of both resolutions is"
_LEARNED = (
    "hf_token.",
    "hf_mlp.",
    "compress_vit_feat.",
    "embedding_encoder.",
    "embedding_maskfeature.",
)
_EARLY = "compress_vit_feat.0.weight"
_SAM, _DECODER = "sam.", "mask_decoder."


@dataclass(frozen=True)
class ImportedWsiSam:
    """A WSI-SAM from the files of its authors.

    Attributes
    ----------
    network
        On the CPU, float32, in evaluation mode.
    doubts
        Sentences on what in the files is odd, yet usable.
    """

    network: WsiSam
    doubts: tuple[str, ...]


def import_wsi_sam(
    sam: str | Path, spec: WsiSamSpec, *, high: str | Path, low: str | Path
) -> ImportedWsiSam:
    """Read a trained WSI-SAM.

    The files do not say of which resolution they are, and have the same shapes: only their names
    can tell that they were swapped.

    Parameters
    ----------
    sam
        The SAM that it was trained beside: SAM's ``.pth``, or MobileSAM's ``.pt``.
    spec
        What the files do not say.
    high, low
        ``net_high.pth`` and ``net_low.pth``.

    Raises
    ------
    WsiError
        ``bad-model`` if a file is missing, of another kind, does not fit `spec`, or the two are not
        of one training.
    """
    _refuse_swapped(Path(high), Path(low))
    nets = [read_kind(path, Kind.WSI_SAM).state for path in (high, low)]
    for path, net in zip((high, low), nets, strict=True):
        _check_early(net, spec, str(path))
    learned, copies = zip(*map(_split, nets), strict=True)
    if _same(learned[0], learned[1]):
        message = f"holds the weights of {high}; give the file of the low resolution"
        raise WsiError("bad-model", message, subject=str(low))
    if not _same(copies[0], copies[1]):
        message = f"holds another copy of SAM's decoder than {high}: they are not of one training"
        raise WsiError("bad-model", message, subject=str(low))
    state = read_sam(sam, spec.sam, spec.name)
    doubts: tuple[str, ...] = ()
    if copies[0] and not _same(copies[0], below(state, _DECODER)):
        doubts = (
            f"the copy of SAM's decoder in {high} is not that of {sam}; the copy is used, as in "
            "the published program, but it may have been trained beside another SAM",
        )
        state = {name: one for name, one in state.items() if not name.startswith(_DECODER)}
        state |= prefixed(_DECODER, copies[0])
    ours = prefixed(_SAM, state) | prefixed("high.", learned[0]) | prefixed("low.", learned[1])
    model = build_model(spec, fitting=shapes_of(ours), subject=str(high))
    load_weights(model, ours, subject=str(high))
    return ImportedWsiSam(model, doubts)


def start_wsi_sam(sam: str | Path, spec: WsiSamSpec, *, seed: int = 0) -> WsiSam:
    """Put a new WSI-SAM together, ready to be trained; what it learns is random.

    Parameters
    ----------
    sam
        SAM's ``.pth``, or MobileSAM's ``.pt``.
    spec
        What to build.
    seed
        Of the random parts.

    Raises
    ------
    WsiError
        ``bad-model`` if the file is missing, of another kind, or does not fit `spec`.
    """
    model = random_wsi_sam(spec, seed)
    load_weights(model.sam, read_sam(sam, spec.sam, spec.name), subject=str(sam))
    return model


def random_wsi_sam(spec: WsiSamSpec, seed: int) -> WsiSam:
    """Return a WSI-SAM with random weights, the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_model(spec)


def _split(net: State) -> tuple[State, State]:
    """Return what was learned, and the copy of SAM's decoder."""
    learned = {name: one for name, one in net.items() if name.startswith(_LEARNED)}
    return learned, {name: one for name, one in net.items() if name not in learned}


def _same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(tensor, other[name]) for name, tensor in one.items()
    )


def _check_early(net: Mapping[str, Tensor], spec: WsiSamSpec, subject: str) -> None:
    """Refuse what was trained beside another encoder."""
    wanted, found = spec.sam.early_channels, net.get(_EARLY)
    if found is not None and len(found) != wanted:
        raise WsiError(
            "bad-model",
            f"was trained beside an encoder whose early features have {len(found)} channels, but "
            f"those of '{spec.name}' have {wanted} (vit_tiny 160, vit_b 768, vit_l 1024, "
            "vit_h 1280)",
            subject=subject,
        )


def _refuse_swapped(high: Path, low: Path) -> None:
    if "low" in high.stem.lower() and "high" in low.stem.lower():
        message = "is of the low resolution by its name: --high and --low are swapped"
        raise WsiError("bad-model", message, subject=str(high))
