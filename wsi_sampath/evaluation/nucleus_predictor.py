"""Nuclei of single patches, found at the model's pixel size and told at the patch's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_sampath.errors import WsiError
from wsi_sampath.evaluation.patch_maps import PatchMaps, Rgb, Size
from wsi_sampath.inference.instances.flooding import Labels, nuclei_of_plane
from wsi_sampath.inference.instances.settings import NucleusSettings
from wsi_sampath.inference.settings import Precision
from wsi_sampath.models.network import LoadedModel
from wsi_sampath.models.patho_sam.network import NUCLEUS_MAPS
from wsi_sampath.models.patho_sam.spec import PathoSamSpec


@dataclass(frozen=True)
class PatchNuclei:
    """The nuclei found in one patch.

    Attributes
    ----------
    labels
        int32 (height, width): 0, or 1..n, on the pixels of the patch. A nucleus that is too small
        for them has none.
    classes
        uint8 (n + 1,): the class of every nucleus, 1..k, by its number; 0 for number 0.
    """

    labels: Labels
    classes: NDArray[np.uint8]


class NucleusPredictor:
    """Nuclei of patches.

    Parameters
    ----------
    model
        A loaded PathoSAM.
    mpp
        Microns per pixel of the patches; None takes them to be at the model's pixel size.
    settings
        How nuclei are cut out of the maps.
    device, precision, batch_size
        As in `SegmentSettings`.

    Raises
    ------
    WsiError
        ``bad-model`` for a network of another kind.
    """

    def __init__(
        self,
        model: LoadedModel,
        *,
        mpp: float | None = None,
        settings: NucleusSettings | None = None,
        device: str = "auto",
        precision: Precision = "auto",
        batch_size: int | str = "auto",
    ) -> None:
        if not isinstance(model.spec, PathoSamSpec):
            message = f"a {model.spec.architecture} network finds no nuclei"
            raise WsiError("bad-model", message, subject=model.source)
        self.factor = None if mpp is None else mpp / model.spec.mpp
        self._settings = settings or NucleusSettings()
        self._maps = PatchMaps(model, device=device, precision=precision, batch_size=batch_size)
        self.batch_size = self._maps.batch_size

    @property
    def how(self) -> str:
        """What is done to the patches, in words."""
        if self.factor is None:
            return "own pixels, taken to be at the model's mpp"
        return f"scaled by {self.factor:.4g} to the model's mpp"

    def __call__(self, images: Sequence[Rgb]) -> list[PatchNuclei]:
        """Find nuclei.

        Parameters
        ----------
        images
            uint8 (height, width, 3) each, of any size.
        """
        sizes = [self._scaled_size(image.shape) for image in images]
        planes = (plane.float().cpu().numpy() for plane in self._maps(images, sizes))
        return [
            _nuclei(plane, image.shape[:2], self._settings)
            for plane, image in zip(planes, images, strict=True)
        ]

    def _scaled_size(self, shape: tuple[int, ...]) -> Size:
        height, width = (max(1, round(side * (self.factor or 1.0))) for side in shape[:2])
        return height, width


def _nuclei(maps: NDArray[np.float32], size: Size, settings: NucleusSettings) -> PatchNuclei:
    labels = nuclei_of_plane(maps[: len(NUCLEUS_MAPS)], settings)
    # The first map of the class decoder is of what is outside of nuclei.
    classes = _classes(labels, maps[len(NUCLEUS_MAPS) + 1 :])
    rows, columns = (
        ((np.arange(side) + 0.5) * found / side).astype(np.int64)
        for side, found in zip(size, labels.shape, strict=True)
    )
    return PatchNuclei(labels[np.ix_(rows, columns)], classes)


def _classes(labels: Labels, maps: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the class of the largest summed probability of every nucleus; 1 without maps."""
    count = int(labels.max(initial=0)) + 1
    inside = labels > 0
    sums = [np.bincount(labels[inside], one[inside], count) for one in maps]
    classes = 1 + np.argmax(sums, axis=0) if sums else np.ones(count)
    classes[0] = 0
    return classes.astype(np.uint8)
