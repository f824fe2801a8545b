"""A network that costs nothing, and what it says of a whole plane at once."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsi_sampath.classes import ClassSpec
from wsi_sampath.models.network import LoadedModel
from wsi_sampath.models.spec import ModelSpec


class StubNetwork(nn.Module):
    """Classes by colour alone: pixel averages over the stride, then one linear map.

    The answer to a pixel depends on nothing but that pixel's block, so that blending must give
    back exactly what the network says of the whole plane at once.
    """

    def __init__(self, n_classes: int = 3, stride: int = 4, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.stride = stride
        self.weight = nn.Parameter(torch.randn(n_classes, 3, generator=generator) * 8)
        self.calls: list[int] = []

    def preprocess(self, tiles: Tensor) -> Tensor:
        return tiles.permute(0, 3, 1, 2).float() / 255 - 0.7

    def maps(self, images: Tensor, side: int) -> Tensor:
        logits = self(images)
        if side > logits.shape[-1]:
            logits = F.interpolate(logits, size=(side, side), mode="bilinear")
        return F.adaptive_avg_pool2d(logits.softmax(1), side)

    def forward(self, images: Tensor) -> Tensor:
        self.calls.append(len(images))
        return torch.einsum("kc,bchw->bkhw", self.weight, F.avg_pool2d(images, self.stride))


class FailingNetwork(StubNetwork):
    """Answers `after` batches, then raises."""

    def __init__(self, error: BaseException, after: int = 0) -> None:
        super().__init__()
        self.error, self.after = error, after

    def forward(self, images: Tensor) -> Tensor:
        if len(self.calls) >= self.after:
            raise self.error
        return super().forward(images)


def make_stub(
    *, n_classes: int = 3, mpp: float = 0.5, tile: int = 256, network: nn.Module | None = None
) -> LoadedModel:
    colors = ("#c83264", "#3264c8", "#64c832", "#c8c832", "#32c8c8")
    classes = tuple(
        ClassSpec(name=f"class {i + 1}", color=colors[i % len(colors)]) for i in range(n_classes)
    )
    spec = ModelSpec(name="stub", architecture="stub", classes=classes, mpp=mpp, tile=tile)
    module = network or StubNetwork(n_classes)
    return LoadedModel(module.eval(), spec, "0" * 64, "stub")


def dense_reference(model: LoadedModel, plane: np.ndarray) -> np.ndarray:
    """Probabilities (k, h, w) of the network on a whole plane (h, w, 3) at once."""
    with torch.inference_mode():
        images = model.module.preprocess(torch.from_numpy(plane[None]))
        return model.module(images).softmax(1)[0].numpy()
