"""Random changes of labelled H&E patches: pure functions of a numpy generator or of a seed."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from skimage.color import hed_from_rgb, rgb_from_hed
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from wsi_sampath.training.settings import Augmentation

Rgb = NDArray[np.uint8]
Mask = NDArray[np.uint8]
Real = NDArray[np.float32]
Pair = tuple[Tensor, Tensor]

_WHITE = 256.0
_ALWAYS = 1.0
_STAIN_SHARE = np.array([1.0, 1.0, 0.3])
"""The residual stain of H&E turns pictures green when changed as freely as the other two."""
_HUES = np.log([1.25, 1.25, 2.0])
"""Stains and scanners differ most in blue: eosin's orange against haematoxylin's violet."""
_CORNERS = 25
"""Colours per axis at which a change of colours is computed; between them it is interpolated."""


def turned(rng: np.random.Generator, image: Rgb, mask: Mask) -> tuple[Rgb, Mask]:
    """Return one of the eight rotations and reflections, the same for both."""
    quarter, mirror = int(rng.integers(4)), bool(rng.integers(2))
    image, mask = np.rot90(image, quarter), np.rot90(mask, quarter)
    return (image[:, ::-1], mask[:, ::-1]) if mirror else (image, mask)


def rescaled(image: Rgb, mask: Mask, factor: float) -> tuple[Rgb, Mask]:
    """Return image (bilinear, antialiased) and mask (nearest) enlarged by `factor`."""
    size = (max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor)))
    resized = Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)
    label = Image.fromarray(mask).resize(size, Image.Resampling.NEAREST)
    return np.asarray(resized), np.asarray(label)


def recoloured(rng: np.random.Generator, image: Rgb) -> Rgb:
    """Change stains and colours of a picture, uint8 (height, width, 3).

    The change is computed for a coarse table of colours only and looked up for the pixels, which is
    about ten times as fast as computing it for each of them.
    """
    colours = _every_colour()
    if rng.random() < 0.8:
        colours = stain_jittered(rng, colours)
    if rng.random() < 0.8:
        colours = hue_jittered(rng, colours)
    colours = colour_jittered(rng, colours)
    table = ImageFilter.Color3DLUT(_CORNERS, (colours.reshape(-1) / 255).tolist())
    return np.asarray(Image.fromarray(np.ascontiguousarray(image)).filter(table))


def _every_colour() -> Real:
    """Return the table's colours, (1, n, 3), red varying fastest as Pillow wants it."""
    axis = np.linspace(0, 255, _CORNERS, dtype=np.float32)
    blue, green, red = np.meshgrid(axis, axis, axis, indexing="ij")
    return np.stack([red, green, blue], axis=-1).reshape(1, -1, 3)


def stain_jittered(rng: np.random.Generator, image: Real, strength: float = 0.35) -> Real:
    """Scale and shift haematoxylin, eosin and the residual, in optical density.

    Parameters
    ----------
    image
        (height, width, 3), 0..255.
    strength
        Largest relative change of one stain.
    """
    density = -np.log((np.clip(image, 0, 255) + 1) / _WHITE)
    stains = density @ hed_from_rgb.astype(np.float32)
    factor = (1 + strength * rng.uniform(-1, 1, 3) * _STAIN_SHARE).astype(np.float32)
    shift = (0.02 * rng.uniform(-1, 1, 3) * _STAIN_SHARE).astype(np.float32)
    density = (stains * factor + shift) @ rgb_from_hed.astype(np.float32)
    out: Real = np.exp(-density) * _WHITE - 1
    return np.clip(out, 0, 255).astype(np.float32)


def hue_jittered(rng: np.random.Generator, image: Real) -> Real:
    """Scale the optical density of red, green and blue apart, image (height, width, 3), 0..255.

    Without it a network takes the hue of the data set that shows most glands for a sign of glands.
    """
    exponent = np.exp(rng.uniform(-1, 1, 3) * _HUES).astype(np.float32)
    out: Real = ((np.clip(image, 0, 255) + 1) / _WHITE) ** exponent * _WHITE - 1
    return np.clip(out, 0, 255).astype(np.float32)


def colour_jittered(rng: np.random.Generator, image: Real) -> Real:
    """Change saturation, gain of each channel, brightness and gamma."""
    grey = image.mean(axis=2, keepdims=True)
    image = grey + (image - grey) * np.float32(rng.uniform(0.5, 1.3))
    gain = rng.uniform(0.92, 1.08, 3) * rng.uniform(0.85, 1.15)
    image = np.clip(image * gain.astype(np.float32) / 255, 0, 1)
    out: Real = 255 * image ** np.float32(np.exp(rng.uniform(-0.35, 0.35)))
    return out


def noisy(rng: np.random.Generator, image: Rgb, most: float = 5.0) -> Rgb:
    """Return the picture with sensor noise, its standard deviation at most `most`."""
    noise = rng.standard_normal(image.size // 4 + 1, dtype=np.float32) * rng.uniform(0, most)
    grain = np.resize(np.rint(noise).astype(np.int16), image.shape)
    return np.clip(image + grain, 0, 255).astype(np.uint8)


def blob(rng: np.random.Generator, height: int, width: int) -> NDArray[np.bool_]:
    """Return a random smooth shape that fills most of a height x width box: a piece of tissue."""
    cells = int(rng.integers(4, 9))
    noise = rng.standard_normal((cells, cells)).astype(np.float32)
    field = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    edge = np.maximum(np.abs(x), np.abs(y)) ** 2 + x**2 * y**2
    shape: NDArray[np.bool_] = np.asarray(field) * 0.3 + 0.85 > edge
    return shape


def to_side(image: Rgb, mask: Mask, side: int) -> Pair:
    """Resize to side x side: the image bilinearly (antialiased), the labels to the nearest.

    Returns
    -------
    tuple of Tensor
        uint8 (side, side, 3) and uint8 (side, side).
    """
    return _apply(v2.Resize((side, side), antialias=True), image, mask)


def augmenter(settings: Augmentation, side: int) -> Callable[[Rgb, NDArray[np.integer], int], Pair]:
    """Return the function that makes a random version of a patch, as SAM-Path was trained.

    Parameters
    ----------
    settings
        Strength and probability of every change.
    side
        Side of the result in px.

    Returns
    -------
    callable
        Takes image, labels (of any whole numbers, or several layers of them) and a seed that
        decides everything; returns what `to_side` does. Several images of one size, as (n, height,
        width, 3), are changed alike.
    """
    change = _transform(settings, side)

    def augmented(image: Rgb, mask: NDArray[np.integer], seed: int) -> Pair:
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
    hue = settings.colour if settings.hue is None else settings.hue
    colour = v2.ColorJitter(*[settings.colour] * 3, hue=hue)
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


def _apply(
    change: Callable[..., tuple[Tensor, Tensor]], image: Rgb, mask: NDArray[np.integer]
) -> Pair:
    pixels = tv_tensors.Image(_tensor(image).movedim(-1, -3))
    labels = tv_tensors.Mask(_tensor(mask))
    pixels, labels = change(pixels, labels)
    plain = pixels.as_subclass(Tensor).movedim(-3, -1).contiguous()
    return plain, labels.as_subclass(Tensor).contiguous()


def _tensor(pixels: NDArray[np.integer]) -> Tensor:
    return torch.from_numpy(np.array(pixels, order="C"))
