"""Patches with nuclei as samples: a crop of the model's tile, its nuclei and what is learned."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from wsi_sampath.data.patches import TYPES, Nuclei, Patch, PatchSet
from wsi_sampath.data.windows import starts
from wsi_sampath.errors import UsageError
from wsi_sampath.models.patho_sam.spec import PathoSamSpec
from wsi_sampath.training.augment import augmenter, version_seed
from wsi_sampath.training.loader import label_table
from wsi_sampath.training.nuclei.settings import NucleiSettings
from wsi_sampath.training.nuclei.targets import nucleus_targets

UNKNOWN = 255
"""The class of a nucleus whose class is not known; nothing is learned there."""
_TRIES = 50
_SAME = 0.02
"""Difference of scale that is not worth resampling."""


class NucleusSample(NamedTuple):
    """One crop, or a batch of them; (batch, ...) in front.

    Attributes
    ----------
    image
        uint8 (side, side, 3).
    maps
        float32 (3, side, side), what the nucleus decoder learns, see `nucleus_targets`.
    instances
        int32 (side, side), 0 = background.
    types
        uint8 (side, side): 0 outside of nuclei, 1..k the class of the model, or `UNKNOWN`.
    """

    image: Tensor
    maps: Tensor
    instances: Tensor
    types: Tensor


class NucleusReader:
    """Reads crops at the model's scale.

    Parameters
    ----------
    patches
        The folder.
    spec
        The model: its tile is the side of a crop, px, at its um per pixel. Patches of other ones
        are resampled, and patches smaller than the tile are mirrored at their edges.
    settings
        How crops are drawn and changed.

    Raises
    ------
    UsageError
        If classes are to be learned that the folder does not have.
    """

    def __init__(self, patches: PatchSet, spec: PathoSamSpec, settings: NucleiSettings) -> None:
        self.patches, self.side, self.settings = patches, spec.tile, settings
        self.zoom = zoom_of(patches, spec)
        self.table = np.zeros(len(patches.classes) + 1, np.uint8)
        if settings.objective == "classes":
            if TYPES not in patches.layers:
                message = "has no classes of nuclei (type), which objective=classes learns"
                raise UsageError(message, subject=str(patches.root))
            self.table = label_table(spec, patches)

    def __call__(self, patch: Patch, version: int) -> NucleusSample:
        """Return one crop: a random one, or for versions below 0 one of the `views`."""
        found = _at_least(resampled(self.patches.read_nuclei(patch), self.zoom), self.side)
        labels = np.stack([found.instances.astype(np.int32), self._classes(found)])
        if version < 0:
            top, left = self._lattice(found.instances.shape)[-1 - version]
            return _sample(*_cut(found.image, labels, top, left, self.side))
        seed = version_seed(self.settings.seed, version, patch.img_id)
        top, left = self._drawn(found.instances, np.random.default_rng(seed))
        image, labels = _cut(found.image, labels, top, left, self.side)
        if self.settings.augmentation is not None:
            change = augmenter(self.settings.augmentation, self.side)
            pixels, moved = change(image, labels, seed)
            image, labels = pixels.numpy(), moved.numpy()
        return _sample(image, labels)

    def version(self, epoch: int) -> int:
        """Return the version of every patch that an epoch sees: a new crop in every one."""
        augmentation = self.settings.augmentation
        variants = None if augmentation is None else augmentation.variants
        return epoch % variants if variants else epoch

    def views(self, patch: Patch) -> list[int]:
        """Return the versions that together show all of a patch."""
        width, height = self.patches.size(patch.img_id)
        size = (round(height * self.zoom), round(width * self.zoom))
        return [-1 - number for number in range(len(self._lattice(size)))]

    def _lattice(self, size: tuple[int, ...]) -> list[tuple[int, int]]:
        """Return the corners of the fewest crops that cover a patch of (height, width)."""
        rows, columns = (starts(length, self.side) for length in size)
        return [(top, left) for top in rows for left in columns]

    def _drawn(self, instances: NDArray[np.uint16], rng: np.random.Generator) -> tuple[int, int]:
        """Return the corner of a random crop with enough nuclei; after many tries the best one."""
        best, most = (0, 0), -1
        for top, left in self._corners(instances.shape, rng):
            crop = instances[top : top + self.side, left : left + self.side]
            sizes = np.bincount(crop.ravel())[1:]
            count = int((sizes >= self.settings.min_size_px).sum())
            if count > most:
                best, most = (top, left), count
            if count >= self.settings.min_nuclei:
                break
        return best

    def _corners(
        self, size: tuple[int, ...], rng: np.random.Generator
    ) -> Iterator[tuple[int, int]]:
        room = [length - self.side + 1 for length in size]
        for _ in range(_TRIES if max(room) > 1 else 1):
            yield int(rng.integers(room[0])), int(rng.integers(room[1]))

    def _classes(self, found: Nuclei) -> NDArray[np.int32]:
        """Return the classes of the model, those that are not known marked."""
        if found.types is None:
            return np.zeros(found.instances.shape, np.int32)
        classes = self.table[found.types].astype(np.int32)
        return np.where((found.instances > 0) & (classes == 0), UNKNOWN, classes)


def zoom_of(patches: PatchSet, spec: PathoSamSpec) -> float:
    """Return how much patches are enlarged to the model's scale; 1 where theirs is unknown."""
    zoom = 1.0 if patches.mpp is None else patches.mpp / spec.mpp
    return 1.0 if abs(zoom - 1) <= _SAME else zoom


def resampled_scale(patches: PatchSet, spec: PathoSamSpec) -> str:
    """Say at which scale a network sees crops of patches."""
    width, height = patches.size(patches.split("train")[0].img_id)
    own = "unknown um" if patches.mpp is None else f"{patches.mpp:g} um"
    zoom = zoom_of(patches, spec)
    brought = "as they are" if zoom == 1 else f"scaled by {zoom:.3g}"
    return (
        f"patches of {width} x {height} px at {own} per pixel, {brought}; crops of {spec.tile} px "
        f"at the model's {spec.mpp:g} um, as slides are read"
    )


def resampled(found: Nuclei, zoom: float) -> Nuclei:
    """Return image (bilinear, antialiased) and labels (nearest) enlarged by `zoom`."""
    if zoom == 1:
        return found
    height, width = (max(1, round(length * zoom)) for length in found.instances.shape)
    image = Image.fromarray(found.image).resize((width, height), Image.Resampling.BILINEAR)
    rows, columns = (
        ((np.arange(length) + 0.5) * (of / length)).astype(np.intp)
        for length, of in zip((height, width), found.instances.shape, strict=True)
    )
    near = np.ix_(rows, columns)
    types = None if found.types is None else found.types[near]
    return Nuclei(np.asarray(image), found.instances[near], types)


def _at_least(found: Nuclei, side: int) -> Nuclei:
    """Return a patch of at least side x side px, mirrored at its lower and right edge.

    A mirrored nucleus has the number of its original; where they do not touch, the targets take
    them for two.
    """
    grow = [(0, max(0, side - length)) for length in found.instances.shape]
    if not any(more for _, more in grow):
        return found
    types = None if found.types is None else np.pad(found.types, grow, mode="symmetric")
    image = np.pad(found.image, [*grow, (0, 0)], mode="symmetric")
    return Nuclei(image, np.pad(found.instances, grow, mode="symmetric"), types)


def _cut(
    image: NDArray[np.uint8], labels: NDArray[np.int32], top: int, left: int, side: int
) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    rows, columns = slice(top, top + side), slice(left, left + side)
    return image[rows, columns], labels[:, rows, columns]


def _sample(image: NDArray[np.uint8], labels: NDArray[np.int32]) -> NucleusSample:
    """Compute the targets, after all changes of the labels."""
    targets = nucleus_targets(labels[0])
    return NucleusSample(
        torch.from_numpy(np.ascontiguousarray(image)),
        torch.from_numpy(targets.maps),
        torch.from_numpy(targets.instances),
        torch.from_numpy(labels[1].astype(np.uint8)),
    )
