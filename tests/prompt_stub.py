"""A slide of discs, each of a colour of its own, and a network that answers prompts about them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsi_sampath.classes import ClassSpec
from wsi_sampath.models.network import LoadedModel
from wsi_sampath.models.spec import ModelSpec

GLASS = 0xFFFFFF


class DiscPrompts(nn.Module):
    """Three masks of what has the colour under a point: all of it, its inside, and all discs.

    Parameters
    ----------
    unsure
        Draw a disc one pixel too large where it stands in the right half of the image.
    """

    def __init__(self, *, unsure: bool = False) -> None:
        super().__init__()
        self.unsure = unsure
        self.register_buffer("anchor", torch.zeros(1))
        self.looks = 0

    def preprocess(self, tiles: Tensor) -> Tensor:
        return tiles.permute(0, 3, 1, 2).float()

    def embed(self, views):
        self.looks += 1
        (image,) = views
        return (image,)

    def masks(self, embedding, prompts, *, multimask=True):
        red, green, blue = embedding[0][0].long()
        plane = red * 65536 + green * 256 + blue
        x, y = self.places(prompts).round().long().clamp(0, len(plane) - 1).T
        colours, which = torch.unique(plane[y, x], return_inverse=True)
        whole = (plane == colours[:, None, None]).float()
        inside = -F.max_pool2d(-whole, 3, 1, 1)
        if self.unsure:
            columns = torch.arange(len(plane))
            middle = (whole * columns).sum((1, 2)) / whole.sum((1, 2))
            grown = F.max_pool2d(whole, 3, 1, 1)
            whole = torch.where((middle > len(plane) / 2)[:, None, None], grown, whole)
        discs = (plane != GLASS).float().expand_as(whole)
        masks = torch.stack([whole, inside, discs], dim=1)
        quality = torch.tensor([0.95, 0.9, 0.5]).expand(len(which), 3)
        shown = slice(None) if multimask else slice(0, 1)
        return (16 * masks[:, shown] - 8)[which], quality[:, shown]

    @staticmethod
    def places(prompts):
        if prompts.boxes is None:
            return prompts.points[:, 0]
        return (prompts.boxes[:, :2] + prompts.boxes[:, 2:]) / 2


class DiscNetwork(DiscPrompts):
    """The same with maps of all discs."""

    def nucleus_maps(self, embedding, side):
        return self.maps(embedding[0], side)

    def maps(self, image: Tensor, side: int) -> Tensor:
        assert image.shape[-1] == side
        disc = (image.sum(1, keepdim=True) < 3 * 255).float()
        # Deep inside: whatever is three pixels from another colour.
        same = (F.max_pool2d(image, 7, 1, 3) == image) & (-F.max_pool2d(-image, 7, 1, 3) == image)
        deep = same.all(dim=1, keepdim=True).float() * disc
        return torch.cat([disc, 1 - deep, 1 - deep], dim=1)


def disc_model(tile: int, *, network: nn.Module | None = None) -> LoadedModel:
    classes = (ClassSpec(name="disc", color="#c83264"),)
    spec = ModelSpec(name="discs", architecture="discs", classes=classes, mpp=0.25, tile=tile)
    return LoadedModel((network or DiscNetwork()).eval(), spec, "0" * 64, "discs")


def disc_picture(
    height: int, width: int, *, step: int = 26, radius: tuple[float, float] = (6, 11), seed: int = 0
) -> np.ndarray:
    """Discs 1..n, some of which touch, as int64 (height, width), 0 for glass."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((height, width), np.int64)
    y, x = np.indices(labels.shape)
    number = 0
    for row in range(step // 2, height, step):
        for column in range(step // 2, width, step):
            number += 1
            middle = (row, column) + rng.uniform(-4, 4, 2)
            disc = np.hypot(y - middle[0], x - middle[1]) < rng.uniform(*radius)
            labels[disc & (labels == 0)] = number
    return labels


def coloured(labels: np.ndarray) -> np.ndarray:
    """Each disc in a colour of its own, uint8 (height, width, 3)."""
    codes = np.where(labels > 0, labels * 1009 % 0xFFFF00, GLASS)
    return np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=-1).astype(np.uint8)


def write_discs(path: Path, labels: np.ndarray) -> Path:
    """Write discs as a slide of 0.25 um per pixel."""
    tifffile.imwrite(
        path,
        coloured(labels),
        tile=(256, 256),
        photometric="rgb",
        compression="zlib",
        resolution=(40000, 40000),
        resolutionunit="CENTIMETER",
    )
    return path
