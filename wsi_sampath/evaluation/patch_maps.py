"""Maps of single images, as large as they are: brought to a size, tiled, and blended."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from wsi_sampath.inference.predictor import Predictor
from wsi_sampath.inference.settings import Precision
from wsi_sampath.models.network import LoadedModel
from wsi_sampath.slides.grid import blend_profile, tile_starts

_OVERLAP = 0.25

Rgb = NDArray[np.uint8]
Size = tuple[int, int]
"""Height and width, px."""


class PatchMaps:
    """What a network says of images that are smaller or larger than its tile.

    Parameters
    ----------
    model
        A loaded model.
    device, precision, batch_size
        As in `SegmentSettings`.
    """

    def __init__(
        self,
        model: LoadedModel,
        *,
        device: str = "auto",
        precision: Precision = "auto",
        batch_size: int | str = "auto",
    ) -> None:
        self.tile = model.spec.tile
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

    def __call__(self, images: Sequence[Rgb], sizes: Sequence[Size]) -> Iterator[Tensor]:
        """Yield the maps of every image, float32 (maps, height, width) on the device.

        Parameters
        ----------
        images
            uint8 (height, width, 3) each, of any size.
        sizes
            What each is brought to first. It is mirrored at its borders where that is smaller than
            the tile, and cut into overlapping tiles where it is larger.
        """
        ready = [_prepared(*pair, self.tile) for pair in zip(images, sizes, strict=True)]
        places = [_places(image.shape[:2], self.tile) for image in ready]
        tiles = np.stack(
            [
                image[y : y + self.tile, x : x + self.tile]
                for image, starts in zip(ready, places, strict=True)
                for y, x in starts
            ]
        )
        answers = list(self._predict(tiles))
        for padded, starts, (height, width) in zip(ready, places, sizes, strict=True):
            blended = self._blended(padded.shape[:2], starts, answers[: len(starts)])
            del answers[: len(starts)]
            top, left = (_margins(size, self.tile)[0] for size in (height, width))
            yield blended[:, top : top + height, left : left + width]

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


def _prepared(image: Rgb, size: Size, tile: int) -> Rgb:
    height, width = size
    if (height, width) != image.shape[:2]:
        resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
        image = np.asarray(resized)
    pads = [_margins(side, tile) for side in size]
    return np.pad(image, [*pads, (0, 0)], mode="symmetric")


def _margins(size: int, tile: int) -> tuple[int, int]:
    lacking = max(0, tile - size)
    return lacking // 2, lacking - lacking // 2


def _places(shape: tuple[int, ...], tile: int) -> list[tuple[int, int]]:
    step = tile - round(tile * _OVERLAP)
    ys, xs = (tile_starts(0, size, tile, step) for size in shape)
    return [(y, x) for y in ys for x in xs]
