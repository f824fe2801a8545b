"""Training canvases from small labelled pictures, pasted onto glass and onto each other."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import IterableDataset

from wsi_sampath.training.augment import (
    Mask,
    Rgb,
    blob,
    colour_jittered,
    rescaled,
    stain_jittered,
    turned,
)

GLASS = 1
"""Label of the ground that nothing was pasted on: the first class."""


@dataclass(frozen=True)
class Patch:
    """A labelled image and the factor that brings it to one micron per pixel."""

    image: Rgb
    mask: Mask
    um: float


class Mosaics(IterableDataset[tuple[Tensor, Tensor]]):
    """Endless random canvases: uint8 (side, side, 3) and labels (side, side)."""

    def __init__(self, glands: list[Patch], others: list[Patch], side: int, seed: int) -> None:
        self.glands, self.others, self.side, self.seed = glands, others, side, seed

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        worker = torch.utils.data.get_worker_info()
        rng = np.random.default_rng((self.seed, worker.id if worker else 0))
        while True:
            image, mask = self.canvas(rng)
            yield torch.from_numpy(image), torch.from_numpy(mask)

    def canvas(self, rng: np.random.Generator) -> tuple[Rgb, Mask]:
        """Return one canvas, colours jittered."""
        image, mask, pastes, share = self._ground(rng)
        for _ in range(pastes):
            source = self.glands if rng.random() < share else self.others
            paste(rng, image, mask, *self._piece(rng, source))
        colour = image.astype(np.float32)
        if rng.random() < 0.8:
            colour = stain_jittered(rng, colour)
        colour = colour_jittered(rng, colour)
        colour += rng.standard_normal(colour.shape, dtype=np.float32) * rng.uniform(0, 5)
        return np.clip(colour, 0, 255).astype(np.uint8), mask

    def _ground(self, rng: np.random.Generator) -> tuple[Rgb, Mask, int, float]:
        area = max(1, self.side // 512) ** 2
        kind = rng.random()
        if kind < 0.45:
            return *self._filled(rng, self.glands), int(rng.integers(0, 2 + 2 * area)), 0.7
        if kind < 0.6:
            return *self._filled(rng, self.others), int(rng.integers(0, 1 + 2 * area)), 0.7
        pastes = int(rng.integers(2, 3 + 6 * area))
        return glass(rng, self.side), np.full((self.side,) * 2, GLASS, np.uint8), pastes, 0.75

    def _filled(self, rng: np.random.Generator, source: list[Patch]) -> tuple[Rgb, Mask]:
        image, mask = self._piece(rng, source)
        short = [max(0, self.side - size) for size in mask.shape]
        before = [int(rng.integers(0, size + 1)) for size in short]
        pad = [(one, size - one) for one, size in zip(before, short, strict=True)]
        image = np.pad(image, [*pad, (0, 0)], mode="symmetric")
        mask = np.pad(mask, pad, mode="symmetric")
        return image[: self.side, : self.side].copy(), mask[: self.side, : self.side].copy()

    def _piece(self, rng: np.random.Generator, source: list[Patch]) -> tuple[Rgb, Mask]:
        patch = source[int(rng.integers(len(source)))]
        factor = patch.um * float(np.exp(rng.uniform(math.log(0.65), math.log(1.45))))
        reach = max(32, math.ceil(self.side / factor))
        top, left = (int(rng.integers(0, max(1, size - reach))) for size in patch.mask.shape)
        window = np.s_[top : top + reach, left : left + reach]
        return turned(rng, *rescaled(patch.image[window], patch.mask[window], factor))


def glass(rng: np.random.Generator, side: int) -> Rgb:
    """Return empty glass: nearly white, grey or faintly tinted, with a slow gradient."""
    colour = rng.uniform(200, 253) + rng.normal(0, 3, 3)
    slope = rng.normal(0, 4, (2, 2, 1)).astype(np.float32)
    slow = np.asarray(
        Image.fromarray(slope[..., 0]).resize((side, side), Image.Resampling.BILINEAR)
    )
    out: Rgb = np.clip(colour + slow[..., None], 0, 255).astype(np.uint8)
    return out


def paste(rng: np.random.Generator, image: Rgb, mask: Mask, piece: Rgb, label: Mask) -> None:
    """Paste a piece somewhere, as a rectangle or as a blob with an irregular border."""
    side = mask.shape[0]
    height, width = label.shape
    shape = blob(rng, height, width) if rng.random() < 0.65 else np.ones(label.shape, bool)
    top, left = (int(rng.integers(-size // 3, side - size // 2)) for size in label.shape)
    box = np.s_[max(0, top) : top + height, max(0, left) : left + width]
    inner = np.s_[max(0, -top) :, max(0, -left) :]
    height, width = mask[box].shape
    shape = shape[inner][:height, :width]
    image[box][shape] = piece[inner][:height, :width][shape]
    mask[box][shape] = label[inner][:height, :width][shape]
