"""Training canvases from small labelled pictures, side by side, on glass and onto each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from wsi_sampath.training.augment import (
    Mask,
    Rgb,
    blob,
    noisy,
    recoloured,
    rescaled,
    turned,
)

GLASS = 1
"""Label of the ground that nothing was pasted on: the first class."""
_LOG_SCALES = (math.log(0.68), math.log(1.45))
_CELL_PX = 256
_WHITE = 200
_MOSTLY = 0.7


@dataclass(frozen=True)
class LabelledPicture:
    """A labelled image, its microns per pixel, and the patient it comes from."""

    image: Rgb
    mask: Mask
    um: float
    patient: str = ""


@dataclass(frozen=True)
class Collection:
    """Pictures of one kind, and how often one is drawn relative to other kinds."""

    patches: Sequence[LabelledPicture]
    share: float


class Mosaics(Dataset[tuple[Tensor, Tensor]]):
    """Random canvases: uint8 (side, side, 3) and labels (side, side).

    Canvas i depends on `seed`, `side` and i alone, so that a resumed training continues with the
    same ones.
    """

    def __init__(self, sources: Sequence[Collection], side: int, seed: int, length: int) -> None:
        self.sources, self.side, self.seed, self.length = sources, side, seed, length
        shares = np.array([source.share for source in sources])
        self._shares = shares / shares.sum()

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        if not 0 <= index < self.length:
            raise IndexError(index)
        image, mask = self.canvas(np.random.default_rng((self.seed, self.side, index)))
        return torch.from_numpy(image), torch.from_numpy(mask)

    def canvas(self, rng: np.random.Generator) -> tuple[Rgb, Mask]:
        """Return one canvas, colours changed."""
        image, mask, pastes = self._ground(rng)
        for _ in range(pastes):
            paste(rng, image, mask, *self._piece(rng))
        return noisy(rng, recoloured(rng, image)), mask

    def _ground(self, rng: np.random.Generator) -> tuple[Rgb, Mask, int]:
        cells = max(1, self.side // _CELL_PX)
        if rng.random() < 0.2:
            pastes = int(rng.integers(1, 1 + 2 * cells**2))
            return glass(rng, self.side), np.full((self.side,) * 2, GLASS, np.uint8), pastes
        image = np.empty((self.side, self.side, 3), np.uint8)
        mask = np.empty((self.side, self.side), np.uint8)
        for box in _boxes(rng, self.side, cells if rng.random() < 0.5 else 1):
            image[box], mask[box] = self._filled(rng, *mask[box].shape)
        return image, mask, int(rng.integers(0, 2)) if rng.random() < 0.5 else 0

    def _filled(self, rng: np.random.Generator, height: int, width: int) -> tuple[Rgb, Mask]:
        image, mask = self._piece(rng)
        lacking = [max(0, b - a) for a, b in zip(mask.shape, (height, width), strict=True)]
        before = [int(rng.integers(0, size + 1)) for size in lacking]
        pad = [(left, size - left) for left, size in zip(before, lacking, strict=True)]
        image = np.pad(image, [*pad, (0, 0)], mode="symmetric")
        mask = np.pad(mask, pad, mode="symmetric")
        return image[:height, :width], mask[:height, :width]

    def _piece(self, rng: np.random.Generator) -> tuple[Rgb, Mask]:
        """Return a piece of a patch; a second one where the first is mostly the hole of a gland."""
        image, mask = self._any_piece(rng)
        thinned, labels = image[::8, ::8], mask[::8, ::8]
        hole = (thinned.min(axis=2) > _WHITE) & (labels != GLASS)
        return self._any_piece(rng) if hole.mean() > _MOSTLY else (image, mask)

    def _any_piece(self, rng: np.random.Generator) -> tuple[Rgb, Mask]:
        patches = self.sources[int(rng.choice(len(self.sources), p=self._shares))].patches
        patch = patches[int(rng.integers(len(patches)))]
        factor = patch.um * math.exp(rng.uniform(*_LOG_SCALES))
        reach = max(32, math.ceil(self.side / factor))
        top, left = (int(rng.integers(0, max(1, size - reach + 1))) for size in patch.mask.shape)
        window = np.s_[top : top + reach, left : left + reach]
        return turned(rng, *rescaled(patch.image[window], patch.mask[window], factor))


def _boxes(rng: np.random.Generator, side: int, cells: int) -> list[tuple[slice, slice]]:
    """Cut a square into cells x cells boxes of about the same size."""
    step = side / cells
    inner = rng.uniform(-0.2, 0.2, (2, cells - 1)) * step + np.arange(1, cells) * step
    ys, xs = ([0, *map(int, line), side] for line in inner)
    return [
        np.s_[y0:y1, x0:x1]
        for y0, y1 in zip(ys, ys[1:], strict=False)
        for x0, x1 in zip(xs, xs[1:], strict=False)
    ]


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
