"""The training of nuclei-mini, made for one processor core, and to survive a kill."""

from __future__ import annotations

import copy
import io
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pipelines.nuclei_mini.crops import Crop, Crops
from pipelines.nuclei_mini.outlines import outline_loss
from wsi_sampath.data.patches import write_atomically
from wsi_sampath.evaluation.prompting import Prompting
from wsi_sampath.models.parts.encoders import resized
from wsi_sampath.models.patho_sam.network import PathoSam
from wsi_sampath.training.nuclei.joint import decoded_maps, interactive_loss
from wsi_sampath.training.nuclei.losses import nucleus_map_loss

Network = TypeVar("Network", bound=nn.Module)
Losses = dict[str, Tensor]
Learn = Callable[[Network, Sequence[Crop], int], Losses]
"""What a network in training loses by a batch, as parts of a sum, in the step of this number."""
Report = Callable[[Network], dict[str, float]]

_WEIGHT_DECAY = 0.02
_LARGEST_GRADIENT = 1.0
_PRINT_EVERY = 20
_ASK_EVERY = 2
"""One batch in so many is prompted as well, which costs as much as its maps."""
_DISTANCES = 4.0
"""Weight of the distances beside the foreground, whose errors are larger."""
_TINY = 1e-4
_OUTLINE_EVERY = 4
"""One in so many of these is asked for with rough outlines."""
_BOX_EVERY = 3
"""One in so many of these is asked for with boxes first, the others with points."""


@dataclass(frozen=True)
class Plan:
    """How long, how fast, and what with.

    The learning rate is constant after a short warm-up, and falls to zero in a straight line over
    the last part: until then, `steps` may still be changed for a run that resumes.
    """

    steps: int
    batch: int = 3
    peak: float = 2e-3
    warm_up: int = 60
    falling: float = 0.5
    averaged: int = 60
    prompting: Prompting = Prompting(objects=4, rounds=2)
    outlines: int = 8
    seed: int = 0
    save_every: float = 120.0
    validate_every: int = 200

    def rate(self, step: int) -> float:
        """Return the learning rate of a step."""
        left = (self.steps - step) / (self.steps * self.falling)
        return self.peak * min(1.0, (step + 1) / self.warm_up, left)


def train_nuclei(
    model: Network,
    learn: Learn[Network],
    crops: Crops,
    plan: Plan,
    state: Path,
    report: Report[Network],
) -> Network:
    """Train; resume from `state` if that file exists.

    Parameters
    ----------
    model
        With the weights to begin with; trained in place.
    learn
        By what it is wrong.
    crops
        What to learn from.
    plan
        How.
    state
        File for everything that a resumed training needs; kept at the end.
    report
        Scores the averaged network now and then.

    Returns
    -------
    Network
        The running mean of the weights, in evaluation mode.
    """
    run = _Run(model, learn, plan)
    if state.is_file():
        run.restore(torch.load(state, weights_only=True))
    began = saved_at = time.monotonic()
    while run.step < plan.steps:
        parts = run.take_step(crops)
        if run.step % _PRINT_EVERY == 0:
            shown = " ".join(f"{name} {value:.3f}" for name, value in parts.items())
            print(f"step {run.step}: {shown}, {time.monotonic() - began:.0f} s", flush=True)
        if run.step % plan.validate_every == 0:
            print(json.dumps({"step": run.step, **report(run.average)}), flush=True)
        if time.monotonic() - saved_at > plan.save_every:
            run.save(state)
            saved_at = time.monotonic()
    run.save(state)
    return run.average


def joint_losses(plan: Plan, model: PathoSam, batch: Sequence[Crop], step: int) -> Losses:
    """Return the losses of the maps and, in every `_ASK_EVERY`-th step, of answered prompts."""
    images, maps, instances = stacked(batch)
    embedding = model.sam.image_encoder(resized(model.preprocess(images), model.spec.frame))
    losses = map_losses(decoded_maps(model, embedding, model.spec.tile), maps)
    number, rest = divmod(step, _ASK_EVERY)
    if rest:
        return losses
    generator = torch.Generator().manual_seed(plan.seed + step)
    if number % _OUTLINE_EVERY == 1:
        refined = outline_loss(model, embedding, instances, plan.outlines, generator)
        return losses if refined is None else {**losses, "outlines": refined}
    asked = interactive_loss(
        model,
        embedding,
        instances,
        plan.prompting,
        generator,
        box_first=number % _BOX_EVERY == 0,
    )
    return losses if asked is None else {**losses, "prompts": asked}


def stacked(batch: Sequence[Crop]) -> tuple[Tensor, Tensor, Tensor]:
    """Return the images, maps and instances of crops."""
    images, maps, instances = (
        torch.from_numpy(np.stack([getattr(crop, name) for crop in batch]))
        for name in ("image", "maps", "instances")
    )
    return images, maps, instances


def map_losses(found: Tensor, wanted: Tensor) -> Losses:
    """Return the published loss of the maps, and `pixel_loss`; see there for the arguments."""
    return {"maps": nucleus_map_loss(found, wanted), "pixels": pixel_loss(found, wanted)}


def pixel_loss(found: Tensor, wanted: Tensor) -> Tensor:
    """Return what single pixels are wrong by, beside the published loss, which is of whole maps.

    Weights that begin at random learn faster with it.

    Parameters
    ----------
    found, wanted
        (batch, 3, height, width) in 0..1, as of `nucleus_map_loss`.

    Returns
    -------
    Tensor
        Cross-entropy of the foreground, and the squared errors of both distances inside of nuclei.
    """
    inside, found = wanted[:, :1], found.clamp(_TINY, 1 - _TINY)
    errors = (found[:, 1:] - wanted[:, 1:]).square() * inside
    distances = errors.sum() / inside.sum().clamp(min=1)
    return functional.binary_cross_entropy(found[:, :1], inside) + _DISTANCES * distances


class _Run(Generic[Network]):
    """The weights, their mean, and the optimiser."""

    def __init__(self, model: Network, learn: Learn[Network], plan: Plan) -> None:
        self.model, self.plan, self.step = model.train(), plan, 0
        self._learn = learn
        self.average = copy.deepcopy(model).eval()
        self.optimizer = torch.optim.AdamW(
            model.parameters(), weight_decay=_WEIGHT_DECAY, betas=(0.9, 0.98), fused=True
        )
        self.sums: dict[str, float] = {}

    def restore(self, saved: dict[str, Any]) -> None:
        for name in ("model", "average", "optimizer"):
            getattr(self, name).load_state_dict(saved[name])
        self.step = saved["step"]

    def save(self, path: Path) -> None:
        content = io.BytesIO()
        values = {
            name: getattr(self, name).state_dict() for name in ("model", "average", "optimizer")
        }
        torch.save({**values, "step": self.step}, content)
        write_atomically(path, content.getvalue())

    def take_step(self, crops: Crops) -> dict[str, float]:
        first = self.step * self.plan.batch
        batch = [crops[index] for index in range(first, first + self.plan.batch)]
        losses = self._learn(self.model, batch, self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = self.plan.rate(self.step)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(torch.stack(list(losses.values())).sum())
        nn.utils.clip_grad_norm_(self.model.parameters(), _LARGEST_GRADIENT)
        self.optimizer.step()
        self.step += 1
        self._average()
        for name, loss in losses.items():
            old = self.sums.get(name, loss.item())
            self.sums[name] = old + (loss.item() - old) / _PRINT_EVERY
        return self.sums

    @torch.no_grad()
    def _average(self) -> None:
        share = 1 / min(self.plan.averaged, 1 + self.step // 4)
        for mean, weight in zip(self.average.parameters(), self.model.parameters(), strict=True):
            mean.lerp_(weight, share)
        for old, new in zip(self.average.buffers(), self.model.buffers(), strict=True):
            old.copy_(new)
