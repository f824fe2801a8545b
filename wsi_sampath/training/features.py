"""Features of frozen encoders, kept on disk so that they are computed once."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import torch
import xxhash
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor, nn

from wsi_sampath.data.patches import Patch, write_atomically
from wsi_sampath.models.sam_path.network import SamPath
from wsi_sampath.training.loader import PatchReader, Sample, stacked
from wsi_sampath.training.settings import TrainSettings

Embed = Callable[[Tensor], Tensor]
_FEATURES, _LABELS = "features", "labels"


class FeatureStore:
    """Features and labels of patches by content: one file per version of a patch.

    Reads as a `PatchReader` does, with features (channels, grid, grid) in place of the image.

    Parameters
    ----------
    folder
        Where the features are kept; trainings may share it.
    read
        Reads the patches that the features are computed from.
    dtype
        Precision of the stored features.
    """

    def __init__(self, folder: Path, read: PatchReader, dtype: torch.dtype) -> None:
        self.folder, self.read, self.dtype = folder, read, dtype
        self._contents: dict[str, str] = {}

    def __call__(self, patch: Patch, version: int) -> Sample:
        """Return features, float32, and labels, uint8 (side, side)."""
        kept = load(self.path(patch, version).read_bytes())
        return kept[_FEATURES].float(), kept[_LABELS]

    def path(self, patch: Patch, version: int) -> Path:
        """Return the path of one version of a patch, whether it exists or not."""
        if patch.img_id not in self._contents:
            self._contents[patch.img_id] = self._content(patch)
        name = f"{patch.img_id}.{self._contents[patch.img_id]}.{version}.safetensors"
        return self.folder / name

    def missing(self, patches: Sequence[Patch], versions: Sequence[int]) -> list[tuple[Patch, int]]:
        """Return the versions of patches that have no features yet."""
        every = itertools.product(patches, versions)
        return [(patch, version) for patch, version in every if not self._is_good(patch, version)]

    def fill(
        self, wanted: Sequence[tuple[Patch, int]], embed: Embed, batch_size: int
    ) -> Iterator[int]:
        """Compute the missing features, yielding how many are done."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for start in range(0, len(wanted), batch_size):
            part = wanted[start : start + batch_size]
            images, labels = stacked([self.read(patch, version) for patch, version in part])
            features = embed(images).to(self.dtype).cpu()
            for (patch, version), kept, label in zip(part, features, labels, strict=True):
                tensors = {_FEATURES: kept.contiguous(), _LABELS: label.contiguous()}
                write_atomically(self.path(patch, version), save(tensors))
            yield start + len(part)

    def _is_good(self, patch: Patch, version: int) -> bool:
        path = self.path(patch, version)
        try:
            with safe_open(path, framework="pt") as file:
                return _FEATURES in file.keys()  # noqa: SIM118 - it is not a dictionary
        except FileNotFoundError:
            return False
        except SafetensorError:
            return False

    def _content(self, patch: Patch) -> str:
        root = self.read.patches
        digest = xxhash.xxh3_64()
        for path in (root.image_path(patch.img_id), root.mask_path(patch.img_id)):
            digest.update(path.read_bytes())
        return digest.hexdigest()


def store_key(model: SamPath, settings: TrainSettings, table: bytes) -> str:
    """Return the name of the folder for features of these encoders, made in this way.

    Parameters
    ----------
    model
        The model whose encoders compute the features.
    settings
        Settings of the training.
    table
        The model's label for every label of the data.
    """
    spec, encoders = model.feature_sources()
    made = settings.model_dump(
        mode="json", include={"augmentation", "seed", "precision", "cache_precision"}
    )
    made["side"] = settings.side or model.spec.tile
    text = json.dumps([spec, made, table.hex()], sort_keys=True)
    digest = hashlib.sha256(text.encode())
    for encoder in encoders:
        digest.update(weights_digest(encoder).encode())
    return digest.hexdigest()[:16]


def weights_digest(module: nn.Module) -> str:
    """Return the sha256 of all tensors of a network, in hexadecimal."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def embedder(
    features: Embed, device: torch.device, autocast: AbstractContextManager[object]
) -> Embed:
    """Return `features` on another device, in the precision of `autocast`, without gradients."""

    @torch.no_grad()
    def embed(images: Tensor) -> Tensor:
        with autocast:
            return features(images.to(device))

    return embed
