"""SAM-Path's augmentation: the same random change for a patch and its labels, from one seed."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from wsi_sampath.training.augment import Mask, Rgb, stain_jittered
from wsi_sampath.training.settings import Augmentation

Pair = tuple[Tensor, Tensor]
_ALWAYS = 1.0


def to_side(image: Rgb, mask: Mask, side: int) -> Pair:
    """Resize to side x side: the image bilinearly (antialiased), the labels to the nearest.

    Returns
    -------
    tuple of Tensor
        uint8 (side, side, 3) and uint8 (side, side).
    """
    return _apply(v2.Resize((side, side), antialias=True), image, mask)


def augmenter(settings: Augmentation, side: int) -> Callable[[Rgb, Mask, int], Pair]:
    """Return the function that makes a random version of a patch.

    Parameters
    ----------
    settings
        How much of what.
    side
        Px of the result.

    Returns
    -------
    callable
        Of image, labels and a seed that decides everything; answers as `to_side` does.
    """
    change = _transform(settings, side)

    def augmented(image: Rgb, mask: Mask, seed: int) -> Pair:
        # Its generators are torch's global ones, which must not depend on what ran before.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            pixels, labels = _apply(change, image, mask)
        if settings.stain:
            rng = np.random.default_rng(seed)
            stained = stain_jittered(rng, pixels.numpy().astype(np.float32), settings.stain)
            pixels = torch.from_numpy(stained.round().astype(np.uint8))
        return pixels, labels

    return augmented


def version_seed(seed: int, version: int, img_id: str) -> int:
    """Return the seed of one version of one patch, whatever the order of the patches."""
    state = np.random.SeedSequence([seed, version, zlib.crc32(img_id.encode())])
    return int(state.generate_state(1)[0])


def _transform(settings: Augmentation, side: int) -> Callable[..., tuple[Tensor, Tensor]]:
    crop = v2.RandomResizedCrop(
        side, scale=settings.crop_scale, ratio=settings.crop_ratio, antialias=True
    )
    across, down = v2.RandomHorizontalFlip(_ALWAYS), v2.RandomVerticalFlip(_ALWAYS)
    flip = v2.RandomChoice([across, down, v2.Compose([across, down])])
    turn = v2.RandomChoice([_quarter_turns(n) for n in range(4)])
    colour = v2.ColorJitter(*[settings.colour] * 4)
    parts = [
        crop,
        v2.RandomApply([flip], settings.flip),
        v2.RandomApply([turn], settings.rotate),
        v2.RandomApply([colour], settings.colour_probability),
    ]
    composed: Callable[..., tuple[Tensor, Tensor]] = v2.Compose(parts)
    return composed


def _quarter_turns(count: int) -> v2.Transform:
    return v2.RandomRotation((90 * count, 90 * count)) if count else v2.Identity()


def _apply(change: Callable[..., tuple[Tensor, Tensor]], image: Rgb, mask: Mask) -> Pair:
    pixels = tv_tensors.Image(_tensor(image).permute(2, 0, 1))
    labels = tv_tensors.Mask(_tensor(mask))
    pixels, labels = change(pixels, labels)
    plain = pixels.as_subclass(Tensor).permute(1, 2, 0).contiguous()
    return plain, labels.as_subclass(Tensor).contiguous()


def _tensor(pixels: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(np.array(pixels, order="C"))
