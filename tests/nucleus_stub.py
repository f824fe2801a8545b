"""A slide whose colours are the maps of its nuclei, and a network that reads them off."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsi_sampath.classes import ClassSpec
from wsi_sampath.models.network import LoadedModel
from wsi_sampath.models.parts.specs import SamSpec
from wsi_sampath.models.patho_sam.spec import PathoSamSpec

COLORS = ("#c83264", "#3264c8", "#64c832")


class MapNetwork(nn.Module):
    """Red is the foreground, green and blue are the distances; classes by columns of 64 px."""

    def __init__(self, n_classes: int = 1) -> None:
        super().__init__()
        self.n_classes = n_classes
        self.register_buffer("anchor", torch.zeros(1))
        self.calls: list[int] = []

    def preprocess(self, tiles: Tensor) -> Tensor:
        return tiles.permute(0, 3, 1, 2).float() / 255

    def maps(self, images: Tensor, side: int) -> Tensor:
        self.calls.append(len(images))
        found = [images]
        if self.n_classes > 1:
            # A class is a matter of the centre's distance here: whatever is the same everywhere.
            steps = torch.arange(self.n_classes, device=images.device).view(1, -1, 1, 1)
            near = (images[:, 2:] * self.n_classes - steps - 0.5).abs()
            found += [1 - images[:, :1], images[:, :1] / (1 + near)]
        return F.adaptive_avg_pool2d(torch.cat(found, dim=1), side)


def nucleus_model(n_classes: int = 1, *, tile: int = 128, network: nn.Module | None = None):
    classes = tuple(
        ClassSpec(name="nucleus" if n_classes == 1 else f"kind {i + 1}", color=COLORS[i])
        for i in range(n_classes)
    )
    spec = PathoSamSpec(
        name="maps",
        classes=classes,
        mpp=0.25,
        tile=tile,
        sam=SamSpec(embed_dim=32, depth=1, num_heads=2, global_attn_indexes=(0,)),
        enlargement=1,
        class_decoder=n_classes > 1,
    )
    module = network or MapNetwork(n_classes)
    return LoadedModel(module.eval(), spec, "0" * 64, "maps")


def map_picture(
    height: int, width: int, n_nuclei: int, seed: int = 0, radius: tuple[float, float] = (4, 9)
) -> np.ndarray:
    """Nuclei in clumps, uint8 (h, w, 3): foreground, distance to the centre, to the inside."""
    rng = np.random.default_rng(seed)
    nearest = np.full((height, width), 2.0, np.float32)
    for _ in range(n_nuclei):
        y, x = rng.uniform(0, (height, width))
        size = rng.uniform(*radius)
        reach = int(2 * size) + 1
        rows = slice(max(0, int(y) - reach), int(y) + reach + 1)
        columns = slice(max(0, int(x) - reach), int(x) + reach + 1)
        grid_y, grid_x = np.mgrid[rows, columns][:, : height - rows.start, : width - columns.start]
        part = nearest[rows, columns]
        np.minimum(part, np.hypot(grid_y - y, grid_x - x) / size, out=part)
    distance = np.minimum(nearest, 1)
    return np.rint(255 * np.stack([nearest < 1, distance, distance], axis=-1)).astype(np.uint8)


def write_picture(path: Path, picture: np.ndarray) -> Path:
    """Write a picture as a slide of 0.25 um per pixel, every value as it is."""
    per_cm = 1e4 / 0.25
    tifffile.imwrite(
        path,
        picture,
        tile=(256, 256),
        photometric="rgb",
        compression="zlib",
        resolution=(per_cm, per_cm),
        resolutionunit="CENTIMETER",
    )
    return path
