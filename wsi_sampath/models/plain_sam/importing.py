"""Published weights of SAM and of MobileSAM, as a model that answers prompts."""

from __future__ import annotations

from pathlib import Path

from wsi_sampath.errors import WsiError
from wsi_sampath.models.checkpoints import build_model, load_weights, shapes_of
from wsi_sampath.models.parts.specs import TINY_VIT, SamSpec, TinyVitSpec
from wsi_sampath.models.plain_sam.network import PlainSam
from wsi_sampath.models.plain_sam.spec import PlainSamSpec
from wsi_sampath.models.published.files import Kind, State, read_published
from wsi_sampath.models.sam_path.importing import check_sam, of_kind


def import_plain_sam(path: str | Path, spec: PlainSamSpec) -> PlainSam:
    """Read SAM's ``.pth``, or MobileSAM's ``.pt``.

    Parameters
    ----------
    path
        The file.
    spec
        What the file does not say: microns per pixel, and which encoder is expected.

    Returns
    -------
    PlainSam
        On the CPU, float32, in evaluation mode.

    Raises
    ------
    WsiError
        ``bad-model`` if the file is missing, of another kind or does not fit `spec`.
    """
    state = read_sam(path, spec.sam, spec.name)
    model = build_model(spec, fitting=shapes_of(state), subject=str(path))
    load_weights(model, state, subject=str(path))
    return model


def read_sam(path: str | Path, encoder: SamSpec | TinyVitSpec, name: str) -> State:
    """Return the weights of a SAM with one of the two encoders, under the published names.

    Parameters
    ----------
    path
        The file.
    encoder
        Which encoder the model `name` has.
    name
        For messages.

    Raises
    ------
    WsiError
        ``bad-model`` if the file is missing, of another kind, or of another encoder or size.
    """
    published = read_published(path)
    is_mobile = published.kind is Kind.MOBILE_SAM
    if is_mobile and isinstance(encoder, SamSpec):
        message = f"is MobileSAM, but '{name}' wants SAM's own encoder; for this file: sam: "
        raise WsiError("bad-model", message + TINY_VIT, subject=str(path))
    if not is_mobile:
        of_kind(published, Kind.SAM)
        if isinstance(encoder, TinyVitSpec):
            message = f"is SAM, but '{name}' wants MobileSAM (sam: {TINY_VIT})"
            raise WsiError("bad-model", message, subject=str(path))
        check_sam(published.state, encoder, name, str(path))
    return published.state
