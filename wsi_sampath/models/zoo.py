"""Models by name or by file."""

from __future__ import annotations

import difflib
import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch

from wsi_sampath.errors import WsiError
from wsi_sampath.models.checkpoints import build_model, file_sha256, load_checkpoint
from wsi_sampath.models.sam_path import SamPath
from wsi_sampath.models.spec import ModelSpec

BUNDLED_FOLDER = Path(__file__).parent / "bundled"
DEFAULT_MODEL = "gland-mini"


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to run.

    Attributes
    ----------
    module
        The network, in evaluation mode, on its device.
    spec
        What it is.
    weights_sha256
        Of the checkpoint file; of the specification where the weights are random.
    source
        The bundled name, or the path, it was loaded from.
    """

    module: SamPath
    spec: ModelSpec
    weights_sha256: str
    source: str


def bundled_models() -> dict[str, Path]:
    """Return the checkpoints shipped with the package, by name."""
    return {path.stem: path for path in sorted(BUNDLED_FOLDER.glob("*.safetensors"))}


def load_model(
    name_or_path: str | Path = DEFAULT_MODEL,
    *,
    device: str | torch.device = "cpu",
    allow_random_weights: bool = False,
) -> LoadedModel:
    """Load a model by bundled name, from a checkpoint, or from a bare specification.

    Parameters
    ----------
    name_or_path
        A bundled name, a ``.safetensors`` file, or a ``.yaml`` specification.
    device
        Where to put it.
    allow_random_weights
        Needed for a ``.yaml``, whose model has never been trained: for tests and timing.

    Raises
    ------
    WsiError
        ``bad-model`` for an unknown name, or a file that cannot be used.
    """
    path = bundled_models().get(str(name_or_path), Path(name_or_path))
    if path.suffix in {".yaml", ".yml"}:
        loaded = _random(path, allow_random_weights)
    elif path.suffix == ".safetensors":
        module = load_checkpoint(path)
        loaded = LoadedModel(module, module.spec, file_sha256(path), str(name_or_path))
    else:
        raise _unknown(str(name_or_path))
    loaded.module.to(device)
    return loaded


def _random(path: Path, allowed: bool) -> LoadedModel:
    if not allowed:
        raise WsiError(
            "bad-model",
            "is a specification without weights; name a .safetensors checkpoint",
            subject=str(path),
        )
    spec = ModelSpec.from_yaml(path)
    digest = hashlib.sha256(spec.to_json().encode()).hexdigest()
    return LoadedModel(build_model(spec), spec, digest, str(path))


def _unknown(name: str) -> WsiError:
    known = list(bundled_models())
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    return WsiError(
        "bad-model",
        f"unknown model '{name}' (known: {', '.join(known) or 'none'}; or a .safetensors "
        f"file){hint}",
    )
