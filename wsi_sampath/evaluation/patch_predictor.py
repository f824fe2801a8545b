"""Labels of single patches, as large as they are: scaled, tiled, blended, and scaled back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name everybody knows

from wsi_sampath.errors import WsiError
from wsi_sampath.evaluation.patch_maps import PatchMaps, Rgb, Size
from wsi_sampath.inference.settings import Precision
from wsi_sampath.models.network import LoadedModel


class PatchPredictor:
    """Class labels of patches.

    Parameters
    ----------
    model
        A loaded model.
    mpp
        Microns per pixel of the patches: they are brought to the model's, mirrored at their borders
        where they are smaller than the tile, and cut into overlapping tiles where they are larger.
        None takes patches no larger than the tile to be at the model's pixel size already, and
        stretches larger ones to the tile, as the paper does.
    stretch
        Stretch every patch to the tile.
    device, precision, batch_size
        As in `SegmentSettings`.

    Raises
    ------
    WsiError
        ``bad-model`` for a network whose maps are not of classes.
    """

    def __init__(
        self,
        model: LoadedModel,
        *,
        mpp: float | None = None,
        stretch: bool = False,
        device: str = "auto",
        precision: Precision = "auto",
        batch_size: int | str = "auto",
    ) -> None:
        if not model.spec.labels_pixels:
            message = f"a {model.spec.architecture} network gives no class to every pixel"
            raise WsiError("bad-model", message, subject=model.source)
        self.factor = 1.0 if mpp is None else mpp / model.spec.mpp
        self.stretch, self._may_stretch = stretch, mpp is None
        self._maps = PatchMaps(model, device=device, precision=precision, batch_size=batch_size)
        self.tile, self.batch_size = self._maps.tile, self._maps.batch_size

    def how(self, shape: tuple[int, int]) -> str:
        """Return in words what is done to a patch of (height, width) px."""
        if self._stretched(shape):
            return "stretched to the tile"
        if self._may_stretch:
            return "own pixels, taken to be at the model's mpp"
        return f"scaled by {self.factor:.4g} to the model's mpp"

    def __call__(self, images: Sequence[Rgb]) -> list[NDArray[np.uint8]]:
        """Label patches.

        Parameters
        ----------
        images
            uint8 (height, width, 3) each, of any size.

        Returns
        -------
        list of uint8 (height, width)
            1..k, the model's classes.
        """
        sizes = [self._scaled_size(image.shape) for image in images]
        planes = self._maps(images, sizes)
        return [
            _labels(plane, image.shape[:2]) for plane, image in zip(planes, images, strict=True)
        ]

    def _stretched(self, shape: tuple[int, ...]) -> bool:
        return self.stretch or (self._may_stretch and max(shape[:2]) > self.tile)

    def _scaled_size(self, shape: tuple[int, ...]) -> tuple[int, int]:
        if self._stretched(shape):
            return self.tile, self.tile
        height, width = (max(1, round(size * self.factor)) for size in shape[:2])
        return height, width


def _labels(plane: Tensor, size: Size) -> NDArray[np.uint8]:
    if plane.shape[1:] != size:
        plane = F.interpolate(plane[None], size=size, mode="bilinear", align_corners=False)[0]
    return (plane.argmax(dim=0) + 1).to(torch.uint8).cpu().numpy()
