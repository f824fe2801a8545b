"""Published PathoSAM weights: SAM with its nucleus decoder, in one file or in several."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from wsi_sampath.errors import WsiError
from wsi_sampath.models.checkpoints import build_model, load_weights, shapes_of
from wsi_sampath.models.patho_sam.network import PathoSam
from wsi_sampath.models.patho_sam.spec import PathoSamSpec
from wsi_sampath.models.published.files import Kind, State, prefixed, read_published
from wsi_sampath.models.sam_path.importing import below, check_sam, of_kind, read_kind

_FIRST_SKIP = "deconv1.block.0.conv.weight"


def import_patho_sam(
    path: str | Path,
    spec: PathoSamSpec,
    *,
    decoder: str | Path | None = None,
    class_decoder: str | Path | None = None,
) -> PathoSam:
    """Read a trained PathoSAM from the files of its authors.

    Parameters
    ----------
    path
        SAM's weights, or a checkpoint that holds the nucleus decoder as well.
    spec
        What the files do not say.
    decoder
        The nucleus decoder, where `path` is SAM alone.
    class_decoder
        The decoder of classes, if `spec` has one.

    Returns
    -------
    PathoSam
        On the CPU, float32, in evaluation mode.

    Raises
    ------
    WsiError
        ``bad-model`` if a file is missing, of another kind or does not fit `spec`.
    """
    state = _with_decoder(path, decoder)
    check_sam(below(state, "sam."), spec.sam, spec.name, str(path))
    if class_decoder is not None and not spec.class_decoder:
        message = f"'{spec.name}' has no decoder of classes (class_decoder: true)"
        raise WsiError("bad-model", message, subject=str(class_decoder))
    if spec.class_decoder:
        if class_decoder is None:
            message = f"'{spec.name}' has a decoder of classes: give its file to 'wsi-models import"
            raise WsiError("bad-model", f"{message} --class-decoder FILE'", subject=str(path))
        classes = read_kind(class_decoder, Kind.PATHO_SAM_DECODER).state
        state |= prefixed("class_decoder.", classes)
    check_skips(state, spec, str(path))
    model = build_model(spec, fitting=shapes_of(state), subject=str(path))
    load_weights(model, state, subject=str(path))
    return model


def _with_decoder(path: str | Path, decoder: str | Path | None) -> State:
    """Return SAM's weights and those of the nucleus decoder, under our names."""
    published = read_published(path)
    if published.kind is Kind.PATHO_SAM:
        if decoder is None:
            return published.state
        raise WsiError("bad-model", "holds its nucleus decoder already", subject=str(path))
    sam = of_kind(published, Kind.SAM).state
    if decoder is None:
        message = "is SAM alone: give its nucleus decoder to 'wsi-models import --decoder FILE'"
        raise WsiError("bad-model", message, subject=str(path))
    nuclei = read_kind(decoder, Kind.PATHO_SAM_DECODER).state
    return prefixed("sam.", sam) | prefixed("decoder.", nuclei)


def check_skips(state: Mapping[str, Tensor], spec: PathoSamSpec, subject: str) -> None:
    """Refuse a decoder whose skips are of the other kind, and say which setting it needs."""
    first = state.get(f"decoder.{_FIRST_SKIP}")
    whole, double = spec.decoder.widths[1], spec.decoder.widths[0]
    cropped = spec.compat.cropped_skips
    wanted, other = (double, whole) if cropped else (whole, double)
    if first is not None and len(first) == other != wanted:
        needed = str(not cropped).lower()
        message = f"fits '{spec.name}' only with compat: {{cropped_skips: {needed}}}"
        raise WsiError("bad-model", message, subject=subject)
