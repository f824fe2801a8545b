"""SAM-Path's training as a LightningModule: steps, learning rate, what may change, scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn import functional
from torchmetrics.classification import MulticlassConfusionMatrix

from wsi_sampath.evaluation.metrics import Counts
from wsi_sampath.evaluation.scores import accuracy, overlaps
from wsi_sampath.models.sam_path.network import SamPath, SegmentationOutput
from wsi_sampath.training.augment import Pair
from wsi_sampath.training.base_task import MACRO_DICE, Picture, Task
from wsi_sampath.training.loader import Sample, Unusable, usable
from wsi_sampath.training.losses import LossParts, segmentation_loss
from wsi_sampath.training.settings import Optimiser, TrainSettings

_DROP = 0.1


class SegmentationTask(Task):
    """SAM-Path's training.

    Batches are images, uint8 (batch, side, side, 3), or cached features of the encoders, float
    (batch, channels, grid, grid), each with labels, uint8 (batch, side, side), 0 = not labelled.

    Parameters
    ----------
    model
        The network.
    settings
        Settings of the training.
    steps_per_epoch
        Steps of the optimiser in one epoch.
    """

    mending = "lower optimiser.learning_rate, set optimiser.gradient_clip=1, or precision=fp32"
    model: SamPath
    score = MACRO_DICE

    def __init__(self, model: SamPath, settings: TrainSettings, steps_per_epoch: int) -> None:
        super().__init__()
        self.model, self.settings = model, settings
        self.rise = schedule_of(settings.optimiser, steps_per_epoch)
        self.legend = model.spec.classes
        model.trainable(settings.trainable)
        self.counts = MulticlassConfusionMatrix(model.spec.num_channels, ignore_index=0)

    @property
    def trained(self) -> set[str]:
        """Names of the tensors that training may change."""
        if self.settings.trainable == "all":
            return set(self.state_dict())
        return {name for name, weight in self.named_parameters() if weight.requires_grad}

    def forward(self, batch: Tensor) -> SegmentationOutput:
        """Segment images or cached features; logits at a quarter of the model's tile."""
        features = batch if batch.is_floating_point() else self.features(batch)
        return self.model.forward_features(features)

    def features(self, images: Tensor) -> Tensor:
        """Return the encoders' features of images; without gradient where they are frozen."""
        learns = self.settings.trainable == "all" and torch.is_grad_enabled()
        with torch.set_grad_enabled(learns):
            return self.model.features(self.model.preprocess(images))

    def labels(self, batch: Tensor, side: int) -> Tensor:
        """Return the predicted labels 1..k at `side` px, as the paper evaluates."""
        return self.model.labels(self(batch), side)

    def loss(self, batch: Pair) -> LossParts:
        """Return the loss of a batch, taken at the size of its labels."""
        images, target = batch
        output = self(images)
        size = (target.shape[-2], target.shape[-1])
        logits = functional.interpolate(
            output.logits.float(), size=size, mode="bilinear", align_corners=False
        )
        return segmentation_loss(
            logits,
            target,
            output.iou.float(),
            self.settings.loss,
            paper_compatible=self.settings.paper_compatible,
        )

    def drawn(self, sample: Sample) -> tuple[Picture, Picture, Picture]:
        """Return an image, its labels and those predicted."""
        image, truth = sample
        found = self.labels(image[None].to(self.device), truth.shape[-1])
        return image.numpy(), truth.numpy(), found[0].to(torch.uint8).cpu().numpy()

    def training_step(self, batch: Sample | Unusable, _: int) -> Tensor:
        """Return the loss of a batch, and log its parts."""
        images, target = usable(batch)
        parts = self.loss((images, target))
        values = {f"train_{name}": part.detach() for name, part in parts._asdict().items()}
        size = len(target)
        self.log_dict(values, on_step=True, on_epoch=True, batch_size=size, sync_dist=True)
        return parts.total

    def validation_step(self, batch: Sample | Unusable, _: int) -> None:
        """Count the pixels of a batch."""
        images, target = usable(batch)
        self.counts.update(self.labels(images, target.shape[-1]), target)

    def on_validation_epoch_end(self) -> None:
        """Log the scores of the whole split."""
        matrix = self.counts.compute().cpu().numpy().astype(np.int64)
        self.counts.reset()
        names = [spec.name for spec in self.model.spec.classes]
        self.log_dict(validation_scores(matrix[1:], names))
        self.validated_epoch = self.current_epoch

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return AdamW over what trains, and the schedule by step."""
        chosen = [weight for weight in self.parameters() if weight.requires_grad]
        options = self.settings.optimiser
        optimiser = torch.optim.AdamW(
            chosen, lr=options.learning_rate, weight_decay=options.weight_decay
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, self.rise)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def schedule_of(optimiser: Optimiser, steps_per_epoch: int) -> Callable[[int], float]:
    """Return the factor of the learning rate by optimiser step."""
    unit = steps_per_epoch if optimiser.unit == "epochs" else 1
    warm_up = round(optimiser.warm_up * unit)
    drops = [round(drop * unit) for drop in optimiser.drops]

    def factor(step: int) -> float:
        return learning_rate(step, 1.0, warm_up=warm_up, drops=drops)

    return factor


def learning_rate(step: int, peak: float, *, warm_up: int, drops: Sequence[int]) -> float:
    """Return the learning rate of one optimiser step.

    Parameters
    ----------
    step
        Number of the step, from 0.
    peak
        Rate after the warm-up.
    warm_up
        Steps of the linear rise; the first one has rate 0.
    drops
        Steps at which the rate falls to a tenth.
    """
    rise = min(1.0, step / warm_up) if warm_up else 1.0
    return peak * rise * _DROP ** sum(drop <= step for drop in drops)


def validation_scores(counts: Counts, names: list[str]) -> dict[str, float]:
    """Return the scores to log for a `confusion` matrix; undefined ones are 0 or left out."""
    dice, iou = overlaps(counts)
    scores = {f"val_dice/{name}": float(d) for name, d in zip(names, dice, strict=True)}
    scores = {name: value for name, value in scores.items() if not np.isnan(value)}
    known = not np.isnan(dice).all()
    return {
        MACRO_DICE.logged: float(np.nanmean(dice)) if known else 0.0,
        "val_macro_iou": float(np.nanmean(iou)) if known else 0.0,
        "val_pixel_accuracy": float(np.nan_to_num(accuracy(counts))),
        **scores,
    }
