"""Patches and their context as samples: both views, changed alike, and their objects."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsi_sampath.data.objects import separate_objects, united_objects, wanted_labels
from wsi_sampath.data.patches import Patch, PatchSet
from wsi_sampath.errors import UsageError
from wsi_sampath.models.wsi_sam.spec import WsiSamSpec
from wsi_sampath.training.augment import augmenter, to_side, version_seed
from wsi_sampath.training.loader import PLAIN, version_of
from wsi_sampath.training.prompts.settings import PromptTrainSettings


class PromptSample(NamedTuple):
    """A patch in its context, or a batch of them; (batch, ...) in front.

    Attributes
    ----------
    views
        uint8 (2, side, side, 3): the patch, and what lies around it at twice its um per pixel.
    objects
        int32 (2, side, side): 0, or the number of an object, the same in both.
    """

    views: Tensor
    objects: Tensor


class PromptReader:
    """Reads patches in their context, brought to the model's tile.

    Parameters
    ----------
    patches
        The folder.
    spec
        The model.
    settings
        Which areas are objects, and how patches are changed.

    Raises
    ------
    UsageError
        For a folder without a context, or classes that it does not have.
    """

    def __init__(self, patches: PatchSet, spec: WsiSamSpec, settings: PromptTrainSettings) -> None:
        if not patches.has_context:
            message = (
                "has nothing of what lies around its patches (context), which a WSI-SAM looks at; "
                "see: wsi-prepare slide --help"
            )
            raise UsageError(message, subject=str(patches.root))
        self.patches, self.side, self.settings = patches, spec.tile, settings
        self._wanted = wanted_labels(patches.classes, settings.objects)

    def __call__(self, patch: Patch, version: int) -> PromptSample:
        """Return one version of a patch; the same change of both views."""
        pairs = [
            to_side(image, labels, self.side)
            for image, labels in (self.patches.read(patch), self.patches.read_context(patch))
        ]
        views, labels = (torch.stack(parts).numpy() for parts in zip(*pairs, strict=True))
        if version != PLAIN and self.settings.augmentation is not None:
            change = augmenter(self.settings.augmentation, self.side)
            seed = version_seed(self.settings.seed, version, patch.img_id)
            views, labels = (part.numpy() for part in change(views, labels, seed))
        return PromptSample(torch.from_numpy(np.ascontiguousarray(views)), self._objects(labels))

    def version(self, epoch: int) -> int:
        """Return the version of every patch that an epoch sees."""
        return version_of(epoch, self.settings.augmentation)

    def views(self, patch: Patch) -> list[int]:
        """Return the one version that shows the patch as it is."""
        return [PLAIN]

    def _objects(self, labels: NDArray[np.uint8]) -> Tensor:
        tell = united_objects if self.settings.paper_compatible else separate_objects
        found = tell(labels[0], labels[1], self._wanted, self.settings.min_size_px)
        assert found.wide is not None
        return torch.from_numpy(np.stack([found.near, found.wide]))
