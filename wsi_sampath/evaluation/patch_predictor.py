"""Labels of single patches, as large as they are: scaled, tiled, blended, and scaled back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name everybody knows

from wsi_sampath.errors import WsiError
from wsi_sampath.inference.predictor import Predictor
from wsi_sampath.inference.settings import Precision
from wsi_sampath.models.network import LoadedModel
from wsi_sampath.slides.grid import blend_profile, tile_starts

_OVERLAP = 0.25

Rgb = NDArray[np.uint8]


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
        self.tile = model.spec.tile
        self.factor = 1.0 if mpp is None else mpp / model.spec.mpp
        self.stretch, self._may_stretch = stretch, mpp is None
        self._predict = Predictor(
            model,
            tile_px=self.tile,
            output_px=self.tile,
            device=device,
            precision=precision,
            batch_size=batch_size,
        )
        self.batch_size = self._predict.batch_size
        profile = torch.from_numpy(blend_profile(self.tile, round(self.tile * _OVERLAP)))
        self._weight = (profile[:, None] * profile[None, :]).to(self._predict.device)

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
        ready = [self._prepared(image) for image in images]
        places = [_places(image.shape[:2], self.tile) for image in ready]
        tiles = np.stack(
            [
                image[y : y + self.tile, x : x + self.tile]
                for image, starts in zip(ready, places, strict=True)
                for y, x in starts
            ]
        )
        answers = list(self._predict(tiles))
        labels = []
        for image, padded, starts in zip(images, ready, places, strict=True):
            blended = self._blended(padded.shape[:2], starts, answers[: len(starts)])
            del answers[: len(starts)]
            labels.append(self._at_own_size(blended, image.shape[:2]))
        return labels

    def _stretched(self, shape: tuple[int, ...]) -> bool:
        return self.stretch or (self._may_stretch and max(shape[:2]) > self.tile)

    def _scaled_size(self, shape: tuple[int, ...]) -> tuple[int, int]:
        if self._stretched(shape):
            return self.tile, self.tile
        height, width = (max(1, round(size * self.factor)) for size in shape[:2])
        return height, width

    def _prepared(self, image: Rgb) -> Rgb:
        height, width = self._scaled_size(image.shape)
        if (height, width) != image.shape[:2]:
            resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
            image = np.asarray(resized)
        pads = [_margins(size, self.tile) for size in (height, width)]
        return np.pad(image, [*pads, (0, 0)], mode="symmetric")

    def _blended(
        self, shape: tuple[int, ...], starts: list[tuple[int, int]], answers: list[Tensor]
    ) -> Tensor:
        if len(answers) == 1:
            return answers[0]
        sums = answers[0].new_zeros((len(answers[0]), *shape))
        weights = sums.new_zeros(shape)
        for (y, x), answer in zip(starts, answers, strict=True):
            box = (slice(y, y + self.tile), slice(x, x + self.tile))
            sums[:, *box] += self._weight * answer
            weights[box] += self._weight
        return sums / weights

    def _at_own_size(self, blended: Tensor, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        height, width = self._scaled_size(shape)
        top, left = (_margins(size, self.tile)[0] for size in (height, width))
        inner = blended[None, :, top : top + height, left : left + width]
        if (height, width) != shape:
            inner = F.interpolate(inner, size=tuple(shape), mode="bilinear", align_corners=False)
        return (inner[0].argmax(dim=0) + 1).to(torch.uint8).cpu().numpy()


def _margins(size: int, tile: int) -> tuple[int, int]:
    lacking = max(0, tile - size)
    return lacking // 2, lacking - lacking // 2


def _places(shape: tuple[int, ...], tile: int) -> list[tuple[int, int]]:
    step = tile - round(tile * _OVERLAP)
    ys, xs = (tile_starts(0, size, tile, step) for size in shape)
    return [(y, x) for y in ys for x in xs]
