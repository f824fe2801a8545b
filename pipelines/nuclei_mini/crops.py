"""Random training crops of labelled fields: turned, scaled, restained, blurred, inverted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from pipelines.nuclei_mini.data import EMPTY, Field
from wsi_sampath.training.augment import Rgb, noisy, recoloured

_LOG_SCALES = (math.log(0.7), math.log(1.7))
_LEAST_PX = 12
"""What is left of a nucleus at the edge of a crop must have so many px to be asked for."""
_BLUR_PX = 1.3
_NEGATIVES = 0.015


@dataclass(frozen=True)
class Crop:
    """A square to learn from.

    Attributes
    ----------
    image
        uint8 (side, side, 3).
    maps
        float32 (3, side, side) in the order of `NUCLEUS_MAPS`.
    instances
        int32 (side, side), 0 outside of nuclei.
    """

    image: Rgb
    maps: NDArray[np.float32]
    instances: NDArray[np.int32]


class Crops:
    """Crop i of a training, the same whenever it is asked for.

    Parameters
    ----------
    fields
        What to cut from.
    shares
        How often each source is shown, by its name.
    side
        Of the crops, px.
    seed
        Of all choices.
    """

    def __init__(
        self, fields: Sequence[Field], shares: dict[str, float], side: int, seed: int
    ) -> None:
        self.side, self.seed = side, seed
        self._sources = {
            name: [field for field in fields if field.source == name] for name in shares
        }
        weights = np.array([shares[name] if self._sources[name] else 0 for name in shares])
        self._weights = weights / weights.sum()

    def __getitem__(self, index: int) -> Crop:
        rng = np.random.default_rng((self.seed, self.side, index))
        fields = list(self._sources.values())[int(rng.choice(len(self._weights), p=self._weights))]
        field = fields[int(rng.integers(len(fields)))]
        crop = _turned(rng, _scaled(*_window(rng, field, self.side), self.side))
        if field.source == EMPTY:
            return Crop(_nothing(rng, crop.image), crop.maps, crop.instances)
        if rng.random() < _NEGATIVES:
            return _negative(rng, crop)
        return Crop(_restained(rng, crop.image), crop.maps, _without_slivers(crop.instances))


def _window(
    rng: np.random.Generator, field: Field, side: int
) -> tuple[Rgb, np.ndarray, np.ndarray]:
    """Cut a square, or what there is of it padded by reflection, to be scaled to `side`."""
    reach = round(side / math.exp(rng.uniform(*_LOG_SCALES)))
    height, width = field.targets.instances.shape
    top, left = (int(rng.integers(0, max(1, size - reach + 1))) for size in (height, width))
    box = np.s_[top : top + reach, left : left + reach]
    image, maps = field.image[box], field.targets.maps[(slice(None), *box)]
    instances = field.targets.instances[box]
    lacking = [(0, reach - size) for size in instances.shape]
    if any(after for _, after in lacking):
        image = np.pad(image, [*lacking, (0, 0)], mode="symmetric")
        maps = np.pad(maps, [(0, 0), *lacking], mode="symmetric")
        # Reflected nuclei would be in two pieces of one id.
        instances = np.pad(instances, lacking)
    return image, maps, instances


def _scaled(image: Rgb, maps: np.ndarray, instances: np.ndarray, side: int) -> Crop:
    size = (side, side)
    pixels = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
    ids = np.asarray(Image.fromarray(instances).resize(size, Image.Resampling.NEAREST))
    planes = [
        np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.BILINEAR)) for plane in maps
    ]
    return Crop(pixels, np.stack([np.rint(planes[0]), *planes[1:]]).astype(np.float32), ids)


def _turned(rng: np.random.Generator, crop: Crop) -> Crop:
    quarter, mirror = int(rng.integers(4)), bool(rng.integers(2))

    def turned(plane: np.ndarray, axes: tuple[int, int]) -> np.ndarray:
        plane = np.rot90(plane, quarter, axes)
        return np.ascontiguousarray(np.flip(plane, axes[1]) if mirror else plane)

    return Crop(
        turned(crop.image, (0, 1)), turned(crop.maps, (1, 2)), turned(crop.instances, (0, 1))
    )


def _restained(rng: np.random.Generator, image: Rgb) -> Rgb:
    if rng.random() < 0.9:
        image = recoloured(rng, image)
    if rng.random() < 0.35:
        blur = ImageFilter.GaussianBlur(rng.uniform(0.2, _BLUR_PX))
        image = np.asarray(Image.fromarray(image).filter(blur))
    return noisy(rng, image)


def _nothing(rng: np.random.Generator, image: Rgb) -> Rgb:
    """Return a picture without nuclei: the given one restained, or one of a single colour."""
    if rng.random() < 0.6:
        return _restained(rng, image)
    colour = np.clip(rng.uniform(0, 255) + rng.normal(0, 6, 3), 0, 255)
    return noisy(rng, np.broadcast_to(colour, image.shape).astype(np.uint8))


def _negative(rng: np.random.Generator, crop: Crop) -> Crop:
    """Return the crop as its negative, in which nothing counts: bright on dark is no H&E."""
    dark = (255 - crop.image) * rng.uniform(0.3, 1, 3)
    maps = np.ones_like(crop.maps)
    maps[0] = 0
    return Crop(noisy(rng, dark.astype(np.uint8)), maps, np.zeros_like(crop.instances))


def _without_slivers(instances: np.ndarray) -> np.ndarray:
    sizes = np.bincount(instances.ravel())
    return np.where(sizes[instances] >= _LEAST_PX, instances, 0)
