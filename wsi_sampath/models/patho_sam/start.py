"""What a PathoSAM is trained from: SAM alone, its authors' decoders, another PathoSAM, nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from wsi_sampath.errors import WsiError
from wsi_sampath.models.checkpoints import build_model, load_weights
from wsi_sampath.models.patho_sam.importing import check_skips
from wsi_sampath.models.patho_sam.network import PathoSam
from wsi_sampath.models.patho_sam.spec import PathoSamSpec
from wsi_sampath.models.published.files import Kind, State, prefixed, read_published
from wsi_sampath.models.sam_path.importing import below, check_sam, of_kind, read_kind

ClassStart = Literal["random", "nuclei"]
_NUCLEI, _CLASSES = "decoder.", "class_decoder."
_LAST = "out_conv."


def random_patho_sam(spec: PathoSamSpec, seed: int) -> PathoSam:
    """Return a PathoSAM with random weights, the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_model(spec)


def published_parts(
    sam: str | Path, decoder: str | Path | None = None, class_decoder: str | Path | None = None
) -> State:
    """Return the weights in files of the authors, under our names; what is not given is missing.

    Parameters
    ----------
    sam
        SAM alone, or with the nucleus decoder.
    decoder, class_decoder
        The decoders.

    Raises
    ------
    WsiError
        ``bad-model`` if a file is missing or of another kind, or a decoder is given twice.
    """
    published = read_published(sam)
    if published.kind is Kind.PATHO_SAM:
        state = dict(published.state)
        if decoder is not None:
            message = "holds its nucleus decoder already"
            raise WsiError("bad-model", message, subject=str(sam))
    else:
        state = prefixed("sam.", of_kind(published, Kind.SAM).state)
    for prefix, path in ((_NUCLEI, decoder), (_CLASSES, class_decoder)):
        if path is not None:
            state |= prefixed(prefix, read_kind(path, Kind.PATHO_SAM_DECODER).state)
    return state


def start_patho_sam(
    spec: PathoSamSpec,
    state: Mapping[str, Tensor],
    *,
    seed: int = 0,
    class_start: ClassStart = "random",
    subject: str = "",
) -> PathoSam:
    """Put a PathoSAM together from the weights that there are, ready to be trained.

    Parameters
    ----------
    spec
        What to build.
    state
        Weights under our names: SAM's, and perhaps those of decoders. A decoder of classes that
        `spec` has not is left out; one of another number of classes gets a new last layer.
    seed
        Of what is random: a decoder that is missing, and new last layers.
    class_start
        Where a missing decoder of classes starts: at random, or as the nucleus decoder but for its
        last layer.
    subject
        Where the weights come from, for messages.

    Raises
    ------
    WsiError
        ``bad-model`` if they do not fit.
    """
    model = random_patho_sam(spec, seed)
    fresh = model.state_dict()
    found = {name: one for name, one in state.items() if spec.class_decoder or _CLASSES not in name}
    check_sam(below(found, "sam."), spec.sam, spec.name, subject)
    check_skips(found, spec, subject)
    if not below(found, _NUCLEI):
        found |= prefixed(_NUCLEI, below(fresh, _NUCLEI))
    if spec.class_decoder:
        found |= _classes(found, fresh, class_start)
    load_weights(model, found, subject=subject)
    return model


def is_partly_random(spec: PathoSamSpec, state: Mapping[str, Tensor]) -> bool:
    """Return whether a decoder would start anew, all of it or its last layer."""
    if not below(state, _NUCLEI):
        return True
    if not spec.class_decoder:
        return False
    last = below(state, _CLASSES + _LAST)
    return not last or any(len(one) != len(spec.classes) + 1 for one in last.values())


def _classes(
    found: Mapping[str, Tensor], fresh: Mapping[str, Tensor], class_start: ClassStart
) -> State:
    """Return the decoder of classes, its last layer anew where it is not one of these classes."""
    own, new = below(found, _CLASSES), below(fresh, _CLASSES)
    if not own:
        own = below(found, _NUCLEI) if class_start == "nuclei" else new
    last = {name: one for name, one in new.items() if name.startswith(_LAST)}
    if any(name in own and own[name].shape != one.shape for name, one in last.items()):
        own = own | last
    return prefixed(_CLASSES, own)
