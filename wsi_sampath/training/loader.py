"""Patches as batches: every epoch's order and augmentation follow from the seed alone.

So a training that is killed and resumed sees what it would have seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from wsi_sampath.data.patches import Patch, PatchSet
from wsi_sampath.errors import Reason, UsageError, WsiError
from wsi_sampath.models.spec import ModelSpec
from wsi_sampath.training.augment import Pair, augmenter, to_side, version_seed
from wsi_sampath.training.settings import Augmentation

Sample = tuple[Tensor, ...]
"""Image (or features) and labels of one version of a patch."""
Read = Callable[[Patch, int], Sample]
PLAIN = -1
"""The version that is not augmented."""


class Reader(Protocol):
    """Reads patches for one kind of training."""

    patches: PatchSet

    def __call__(self, patch: Patch, version: int) -> Sample:
        """Return one version of a patch; the same for the same version."""

    def version(self, epoch: int) -> int:
        """Return the version of every patch that is trained on in an epoch."""

    def views(self, patch: Patch) -> list[int]:
        """Return the versions, not augmented, that together show all of a patch."""


class PatchReader:
    """Reads patches in the model's labels, brought to one side, augmented.

    Parameters
    ----------
    patches
        The folder.
    table
        The model's label for every label of the data; see `label_table`.
    side
        Side of the result in px.
    augmentation
        How versions other than `PLAIN` are changed; None leaves them as they are.
    seed
        Seed of the random changes.
    """

    def __init__(
        self,
        patches: PatchSet,
        table: NDArray[np.uint8],
        side: int,
        augmentation: Augmentation | None = None,
        seed: int = 0,
    ) -> None:
        self.patches, self.table, self.side, self.seed = patches, table, side, seed
        self.augmentation = augmentation

    def __call__(self, patch: Patch, version: int) -> Pair:
        """Return uint8 (side, side, 3) and labels, uint8 (side, side)."""
        image, mask = self.patches.read(patch)
        labels = self.table[mask]
        if version == PLAIN or self.augmentation is None:
            return to_side(image, labels, self.side)
        change = augmenter(self.augmentation, self.side)
        return change(image, labels, version_seed(self.seed, version, patch.img_id))

    def version(self, epoch: int) -> int:
        """Return the version of every patch that an epoch sees."""
        return version_of(epoch, self.augmentation)

    def views(self, patch: Patch) -> list[int]:
        """Return the one version that shows the whole patch as it is."""
        return [PLAIN]


class Unusable(NamedTuple):
    """Stands in for a batch with a patch that cannot be read.

    Errors raised in the processes that read would reach the main one as tracebacks.
    """

    reason: Reason
    message: str
    subject: str

    def error(self) -> WsiError:
        """Return the error to raise."""
        return WsiError(self.reason, self.message, subject=self.subject)


class Versions(Dataset[Sample | Unusable]):
    """Some versions of patches, in order."""

    def __init__(self, read: Read, wanted: Sequence[tuple[Patch, int]]) -> None:
        self.read, self.wanted = read, wanted

    def __len__(self) -> int:
        return len(self.wanted)

    def __getitem__(self, index: int) -> Sample | Unusable:
        try:
            return self.read(*self.wanted[index])
        except WsiError as error:
            return Unusable(error.reason, error.message, error.subject)


def batches(
    read: Read, wanted: Sequence[tuple[Patch, int]], *, batch_size: int, workers: int
) -> DataLoader[Sample | Unusable]:
    """Return the batches of some versions of patches, in order."""
    return DataLoader(
        Versions(read, wanted),
        batch_size=batch_size,
        num_workers=min(workers, math.ceil(len(wanted) / batch_size)),
        collate_fn=collated,
        pin_memory=torch.cuda.is_available(),
    )


def shuffled(patches: Sequence[Patch], seed: int, epoch: int) -> list[Patch]:
    """Return the patches in the order of one epoch."""
    return [patches[i] for i in np.random.default_rng((seed, epoch)).permutation(len(patches))]


def share_of(patches: Sequence[Patch], rank: int, world: int) -> list[Patch]:
    """Return the patches of one of `world` devices; all get the same number, some patches twice."""
    each = math.ceil(len(patches) / world)
    return [patches[(rank + i * world) % len(patches)] for i in range(each)]


def version_of(epoch: int, augmentation: Augmentation | None) -> int:
    """Return the version of every patch that an epoch sees."""
    if augmentation is None:
        return PLAIN
    return epoch % augmentation.variants if augmentation.variants else epoch


def versions(augmentation: Augmentation | None) -> list[int]:
    """Return all versions of a fixed augmentation."""
    return [PLAIN] if augmentation is None else [*range(augmentation.variants or 0)]


def label_table(spec: ModelSpec, patches: PatchSet) -> NDArray[np.uint8]:
    """Return the model's label for every label of the data, matched by the names of the classes.

    Raises
    ------
    UsageError
        If they have other classes, or the model has two that differ only in capitals.
    """
    ours = {cls.name.casefold(): i for i, cls in enumerate(spec.classes, start=1)}
    theirs = [cls.name.casefold() for cls in patches.classes]
    if len(ours) < len(spec.classes):
        message = "has two classes whose names differ only in capitals; rename one of them"
        raise UsageError(message, subject=spec.name)
    if set(ours) != set(theirs):
        raise UsageError(
            f"has the classes {', '.join(theirs)}, the model {', '.join(ours)}: take a model with "
            "these, or classes=data",
            subject=str(patches.root),
        )
    return np.array([0, *(ours[name] for name in theirs)], np.uint8)


def collated(items: Sequence[Sample | Unusable]) -> Sample | Unusable:
    """Return a batch, or what is wrong with the first patch that cannot be read."""
    for item in items:
        if isinstance(item, Unusable):
            return item
    return stacked([item for item in items if not isinstance(item, Unusable)])


def usable(batch: Sample | Unusable) -> Sample:
    """Return the batch.

    Raises
    ------
    WsiError
        If it holds a patch that cannot be read.
    """
    if isinstance(batch, Unusable):
        raise batch.error()
    return batch


def stacked(samples: Sequence[Sample]) -> Sample:
    """Return some samples as one batch."""
    return tuple(torch.stack(parts) for parts in zip(*samples, strict=True))
