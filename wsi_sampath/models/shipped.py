"""The models that come with the package; what names them need not import torch."""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).parent / "bundled"


def bundled_models() -> dict[str, Path]:
    """Return the checkpoints shipped with the package, by name."""
    return {path.stem: path for path in sorted(_FOLDER.glob("*.safetensors"))}


def all_names() -> list[str]:
    """Return the names of these models, and of the published weights that can be fetched."""
    from wsi_sampath.models.published.catalogue import FILES

    return [*bundled_models(), *(one.name for one in FILES)]
