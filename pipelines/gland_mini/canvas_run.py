"""A training on canvases that survives a kill: averaged weights, one cosine, canvases that grow.

Made for processors without a GPU: bfloat16 where it is exact enough, the loss at half resolution,
and depthwise convolutions in float32, whose gradients are there several times as fast.
"""

from __future__ import annotations

import copy
import io
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Subset

from pipelines.gland_mini.mosaic import Collection, Mosaics
from wsi_sampath.data.patches import write_atomically
from wsi_sampath.models.parts.retile import Model, with_tile
from wsi_sampath.models.sam_path.network import SegmentationOutput
from wsi_sampath.training.losses import cross_entropy, dice_loss, iou_error

Report = Callable[[nn.Module], dict[str, float]]

_IOU_WEIGHT = 0.0625
_WEIGHT_DECAY = 0.05
_LARGEST_GRADIENT = 1.0
_PRINT_EVERY = 20
_AVERAGE_EVERY = 5


class TrainableNetwork(Protocol):
    """What a network needs to be trained here: SamPath's two methods."""

    def preprocess(self, tiles: Tensor) -> Tensor:
        """Return uint8 tiles (batch, height, width, 3) ready for the network."""

    def __call__(self, images: Tensor) -> SegmentationOutput:
        """Segment a batch."""


@dataclass(frozen=True)
class Stage:
    """A stretch of training on canvases of one size."""

    side: int
    batch: int
    steps: int


@dataclass(frozen=True)
class Curriculum:
    """A whole training: half a cosine from `peak` to zero over all stages.

    `averaged` is about the number of steps that the running mean of the weights spans; the state is
    saved every `save_every` seconds.
    """

    stages: tuple[Stage, ...]
    peak: float = 8e-4
    warm_up: int = 40
    averaged: int = 150
    seed: int = 0
    save_every: float = 180.0
    validate_every: int = 250

    @property
    def steps(self) -> int:
        """Steps of all stages."""
        return sum(stage.steps for stage in self.stages)


def train_on_canvases(
    model: Model,
    build: Callable[[int], Model],
    curriculum: Curriculum,
    sources: Sequence[Collection],
    state: Path,
    report: Report,
) -> Model:
    """Train; resume from `state` if that file exists.

    Parameters
    ----------
    model
        The network for its full tile; left as it is.
    build
        Returns the same network for canvases of another side, with any weights.
    curriculum, sources
        How long and on what.
    state
        File for everything that a resumed training needs; kept at the end.
    report
        Scores the averaged network, of a small tile, now and then.

    Returns
    -------
    Module
        The averaged network for the full tile, in evaluation mode.
    """
    saved = torch.load(state, weights_only=True) if state.is_file() else None
    done = 0
    for number, stage in enumerate(curriculum.stages):
        if saved is None or saved["stage"] <= number:
            run = _Run(model, build, curriculum, stage, number, done)
            if saved is not None and saved["stage"] == number:
                run.restore(saved)
                model = run.distant
            model = run.finish(sources, state, report)
            saved = None
        done += stage.steps
    return model.eval()


class _Run(Generic[Model]):
    """One stage: the weights, their mean, and the optimiser."""

    def __init__(
        self,
        model: Model,
        build: Callable[[int], Model],
        curriculum: Curriculum,
        stage: Stage,
        number: int,
        done: int,
    ) -> None:
        self.distant, self.build, self.curriculum, self.stage = model, build, curriculum, stage
        self.number, self.done, self.step = number, done, 0
        self.model = with_exact_depthwise(with_tile(model, build(stage.side))).train()
        self.average = with_tile(model, build(stage.side)).eval()
        trained = [weight for weight in self.model.parameters() if weight.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, weight_decay=_WEIGHT_DECAY, fused=True)

    def restore(self, saved: dict[str, Any]) -> None:
        """Take over a saved state of this stage."""
        self.distant = _filled(self.distant, saved["distant"])
        self.model.load_state_dict(saved["model"])
        self.average.load_state_dict(saved["average"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.step = saved["step"]

    def save(self, path: Path) -> None:
        content = io.BytesIO()
        parts = ("distant", "model", "average", "optimizer")
        values = {name: getattr(self, name).state_dict() for name in parts}
        torch.save({**values, "stage": self.number, "step": self.step}, content)
        write_atomically(path, content.getvalue())

    def finish(self, sources: Sequence[Collection], state: Path, report: Report) -> Model:
        """Take the steps that are left; return the mean of the weights at the full tile."""
        began = time.monotonic()
        saved_at = began
        for images, target in self._batches(sources):
            parts = self._take_step(images, target)
            if self.step % _PRINT_EVERY == 0:
                _say(self, parts, time.monotonic() - began)
            if self.step % self.curriculum.validate_every == 0 or self.step == self.stage.steps:
                print(json.dumps({"step": self.done + self.step, **report(self.average)}))
            if time.monotonic() - saved_at > self.curriculum.save_every:
                self.save(state)
                saved_at = time.monotonic()
        self.save(state)
        full = _filled(self.distant, self.distant.state_dict())
        return with_tile(self.average, full, self.distant)

    def _batches(self, sources: Sequence[Collection]) -> DataLoader[Any]:
        size, batch = self.stage.steps * self.stage.batch, self.stage.batch
        data = Mosaics(sources, self.stage.side, self.curriculum.seed, size)
        left = Subset(data, range(self.step * batch, size))
        return DataLoader(left, batch_size=batch, num_workers=1, prefetch_factor=4)

    def _take_step(self, images: Tensor, target: Tensor) -> dict[str, float]:
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate()
        loss, parts = canvas_loss(self.model, images, target)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.model.parameters(), _LARGEST_GRADIENT)
        self.optimizer.step()
        self.step += 1
        if self.step % _AVERAGE_EVERY == 0:
            horizon = min(self.curriculum.averaged, (self.done + self.step) // 3)
            move_towards(self.average, self.model, max(1, horizon // _AVERAGE_EVERY))
        return parts

    def _rate(self) -> float:
        rate = cosine_rate(self.done + self.step, self.curriculum.steps, self.curriculum.peak)
        return rate * min(1.0, (self.step + 1) / self.curriculum.warm_up)


def cosine_rate(step: int, steps: int, peak: float) -> float:
    """Return half a cosine from `peak` to zero."""
    return peak * 0.5 * (1 + math.cos(math.pi * step / max(1, steps)))


def canvas_loss(
    model: TrainableNetwork | nn.Module, images: Tensor, target: Tensor
) -> tuple[Tensor, dict[str, float]]:
    """Return cross entropy + Dice over the whole batch (+ the error of the predicted IoU).

    Parameters
    ----------
    model
        A network like SamPath.
    images
        uint8 (batch, side, side, 3).
    target
        uint8 (batch, side, side), 0 = not labelled, 1..k.
    """
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(model.preprocess(images))  # type: ignore[operator]
    target = target[:, 1::2, 1::2].long()
    logits = enlarged(output.logits[:, 1:].float(), target.shape[-1])
    labelled = (target > 0).unsqueeze(1)
    truth = torch.stack([target == i + 1 for i in range(logits.shape[1])], dim=1).float()
    probability = logits.softmax(dim=1) * labelled
    pooled = [planes.transpose(0, 1).flatten(2)[None] for planes in (probability, truth)]
    parts = {
        # Channel 0, the unlabelled pixels, is not a class.
        "ce": cross_entropy(functional.pad(logits, (0, 0, 0, 0, 1, 0), value=-1e4), target),
        "dice": dice_loss(pooled[0], pooled[1]),
        "iou": iou_error(probability, truth, output.iou[:, 1:].float()),
    }
    total = parts["ce"] + parts["dice"] + _IOU_WEIGHT * parts["iou"]
    return total, {name: float(value.detach()) for name, value in parts.items()}


def enlarged(logits: Tensor, side: int) -> Tensor:
    """Return logits at another size, bilinear."""
    return functional.interpolate(logits, size=(side, side), mode="bilinear", align_corners=False)


@torch.no_grad()
def move_towards(average: nn.Module, model: nn.Module, steps: int) -> None:
    """Update the running mean of the weights over about `steps` calls; copy the buffers."""
    for mean, weight in zip(average.parameters(), model.parameters(), strict=True):
        mean.lerp_(weight, 1 / steps)
    for old, new in zip(average.buffers(), model.buffers(), strict=True):
        old.copy_(new)


class _Float32Conv2d(nn.Conv2d):
    def forward(self, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, enabled=False):
            return super().forward(images.float())


def with_exact_depthwise(model: Model) -> Model:
    """Let depthwise convolutions run in float32 under autocast; same parameters, same names."""
    for module in model.modules():
        if type(module) is nn.Conv2d and module.groups > 1:
            module.__class__ = _Float32Conv2d
    return model


def _filled(like: Model, values: dict[str, Tensor]) -> Model:
    filled = copy.deepcopy(like)
    filled.load_state_dict(values)
    return filled


def _say(run: _Run[Model], parts: dict[str, float], seconds: float) -> None:
    scores = " ".join(f"{name} {value:.3f}" for name, value in parts.items())
    print(f"{run.stage.side} px, step {run.done + run.step}: {scores}, {seconds:.0f} s", flush=True)
