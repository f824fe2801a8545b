"""PathoSAM's training as a LightningModule: nuclei and prompts in turn, or classes of nuclei."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self, cast

import numpy as np
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.lr_scheduler import ReduceLROnPlateau

from wsi_sampath.classes import ClassSpec
from wsi_sampath.evaluation.metrics import confusion
from wsi_sampath.evaluation.prompting import Prompting
from wsi_sampath.evaluation.scores import overlaps
from wsi_sampath.models.parts.encoders import resized
from wsi_sampath.models.patho_sam.network import NUCLEUS_MAPS, PathoSam
from wsi_sampath.training.augment import version_seed
from wsi_sampath.training.base_task import MACRO_DICE, Picture, Score, Task
from wsi_sampath.training.loader import Sample, Unusable, usable
from wsi_sampath.training.nuclei.joint import interactive_loss, map_loss
from wsi_sampath.training.nuclei.reader import UNKNOWN, NucleusSample
from wsi_sampath.training.nuclei.settings import NucleiSettings
from wsi_sampath.training.nuclei.validation import PROMPT_KINDS, validation_dice

NUCLEUS_LOSS = Score("val_loss", "validation_loss", "validation loss", "min")
_NUCLEUS = ClassSpec(name="nucleus", color="#c83232")
_INSIDE = 0.5


def score_of(settings: NucleiSettings) -> Score:
    """Return the score by which the best epoch is chosen."""
    return MACRO_DICE if settings.objective == "classes" else NUCLEUS_LOSS


class NucleusTask(Task):
    """PathoSAM's training.

    Batches are those of `NucleusSample`.

    Parameters
    ----------
    model
        The network.
    settings
        Settings of the training.

    Notes
    -----
    With prompts every batch makes two steps, as published: one by the answers, and one by the
    nucleus maps, for which the encoder looks again.
    """

    model: PathoSam

    def __init__(self, model: PathoSam, settings: NucleiSettings) -> None:
        super().__init__()
        # Two losses a batch, each with a step of its own.
        self.automatic_optimization = False
        self.model, self.settings = model, settings
        self.score = score_of(settings)
        classes = settings.objective == "classes"
        self.legend = model.spec.classes if classes else (_NUCLEUS,)
        self.learning = _learning(model, settings)
        model.requires_grad_(False)
        for part in self.learning:
            part.requires_grad_(True)
        self._sums: dict[str, list[tuple[float, int]]] = {}
        self._counts = np.zeros((len(self.legend) + 1, len(self.legend) + 2), np.int64)
        self.train()

    @property
    def trained(self) -> set[str]:
        """Names of the tensors that training may change, statistics of norms among them."""
        prefixes = tuple(
            f"{name}."
            for name, module in self.named_modules()
            if any(module is part for part in self.learning)
        )
        return {name for name in self.state_dict() if name.startswith(prefixes)}

    def train(self, mode: bool = True) -> Self:
        """Set the mode of what learns; the rest stays in evaluation mode."""
        super().train(False)
        self.training = mode
        for part in self.learning:
            part.train(mode)
        return self

    def losses(self, sample: NucleusSample, index: int) -> Iterator[tuple[str, Tensor]]:
        """Yield the losses of a batch by their names, each computed when it is asked for.

        Parameters
        ----------
        sample
            A batch.
        index
            Its number in the epoch.
        """
        if self.settings.objective == "classes":
            yield "classes", self._class_loss(sample)
            return
        if self.settings.prompting is not None:
            loss = interactive_loss(
                self.model,
                self._embedding(sample),
                sample.instances,
                Prompting(**self.settings.prompting.model_dump()),
                self._generator(self.current_epoch, index),
                box_first=(self.current_epoch + index) % 2 == 1,
            )
            if loss is not None:
                yield "prompts", loss
        yield "nuclei", map_loss(self.model, self._embedding(sample), sample.maps)

    def training_step(self, batch: Sample | Unusable, index: int) -> None:
        """Take one step for each loss of a batch, and log them."""
        sample = NucleusSample(*usable(batch))
        optimiser = cast(LightningOptimizer, self.optimizers())
        values = {}
        for name, loss in self.losses(sample, index):
            optimiser.zero_grad()
            self.manual_backward(loss)
            optimiser.step()
            values[f"train_{name}"] = loss.detach()
        values["train_total"] = torch.stack([*values.values()]).sum()
        self.log_dict(values, on_step=True, on_epoch=True, batch_size=len(sample.image))

    def validation_step(self, batch: Sample | Unusable, index: int) -> None:
        """Add up the losses of a batch, or count its pixels."""
        sample = NucleusSample(*usable(batch))
        embedding = self._embedding(sample)
        if self.settings.objective == "classes":
            found = self._classes(embedding, sample.types.shape[-1]).cpu().numpy()
            truth = sample.types.cpu().numpy()
            known = truth != UNKNOWN
            # No nucleus is a class here, and 0 would be "not labelled".
            self._counts += confusion(truth[known] + 1, found[known] + 1, len(self._counts))
            return
        self._add("nuclei", float(map_loss(self.model, embedding, sample.maps)), len(embedding))
        if self.settings.prompting is None:
            return
        for number, (features, objects) in enumerate(zip(embedding, sample.instances, strict=True)):
            generator = self._generator(-1, index * self.settings.batch_size + number)
            dice = validation_dice(
                self.model,
                features[None],
                objects,
                self.settings.prompting.objects,
                generator,
                kind=PROMPT_KINDS[index % len(PROMPT_KINDS)],
            )
            if dice is not None:
                self._add("prompts", dice, 1)

    def on_validation_epoch_end(self) -> None:
        """Log the score of the whole split, and lower the rate where it has not improved."""
        scores = self._class_scores() if self.settings.objective == "classes" else self._means()
        self.log_dict(scores)
        self.validated_epoch = self.current_epoch
        scheduler = self.lr_schedulers()
        if isinstance(scheduler, ReduceLROnPlateau):
            scheduler.step(scores[self.score.logged])

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return AdamW over what trains, and the rate that falls on a plateau."""
        options = self.settings.optimiser
        chosen = [weight for weight in self.parameters() if weight.requires_grad]
        optimiser = torch.optim.AdamW(
            chosen, lr=options.learning_rate, weight_decay=options.weight_decay
        )
        falling = ReduceLROnPlateau(
            optimiser, mode=self.score.mode, factor=options.factor, patience=options.patience
        )
        return {
            "optimizer": optimiser,
            "lr_scheduler": {"scheduler": falling, "monitor": self.score.logged},
        }

    def drawn(self, sample: Sample) -> tuple[Picture, Picture, Picture]:
        """Return an image, its nuclei (or their classes) and those predicted."""
        batch = NucleusSample(*(part[None].to(self.device) for part in sample))
        embedding, side = self._embedding(batch), batch.types.shape[-1]
        if self.settings.objective == "classes":
            truth = torch.where(batch.types == UNKNOWN, 0, batch.types)
            found = self._classes(embedding, side)
        else:
            truth = batch.instances > 0
            found = resized(self.model.decoder(embedding)[:, :1].float().sigmoid(), side)[:, 0]
            found = found > _INSIDE
        picture = batch.image[0].cpu().numpy()
        first, other = (one[0].to(torch.uint8).cpu().numpy() for one in (truth, found))
        return picture, first, other

    def _embedding(self, sample: NucleusSample) -> Tensor:
        encoder = self.model.sam.image_encoder
        learns = torch.is_grad_enabled() and self.settings.trainable == "all"
        with torch.set_grad_enabled(learns):
            images = self.model.preprocess(sample.image)
            return cast(Tensor, encoder(resized(images, self.model.spec.frame)))

    def _class_loss(self, sample: NucleusSample) -> Tensor:
        """Return the cross entropy of all pixels whose class is known."""
        assert self.model.class_decoder is not None
        logits = self.model.class_decoder(self._embedding(sample)).float()
        target = sample.types.long()
        known = target != UNKNOWN
        total = functional.cross_entropy(
            resized(logits, target.shape[-1]), target, ignore_index=UNKNOWN, reduction="sum"
        )
        return total / known.sum().clamp(min=1)

    def _classes(self, embedding: Tensor, side: int) -> Tensor:
        """Return the likeliest class of every pixel, 0 for no nucleus, (batch, side, side)."""
        assert self.model.class_decoder is not None
        maps = resized(self.model.class_decoder(embedding).float().sigmoid(), side)
        return maps.argmax(dim=1)

    def _generator(self, epoch: int, index: int) -> torch.Generator:
        """Return what all random choices of a batch come from, the same after a resume."""
        seed = version_seed(self.settings.seed, epoch + 1, f"batch {index}")
        return torch.Generator().manual_seed(seed)

    def _add(self, name: str, value: float, count: int) -> None:
        self._sums.setdefault(name, []).append((value * count, count))

    def _means(self) -> dict[str, float]:
        """Return the mean losses; their sum as published, the nucleus maps divided by three."""
        means = {
            name: sum(value for value, _ in values) / sum(count for _, count in values)
            for name, values in self._sums.items()
        }
        self._sums = {}
        total = means.get("prompts", 0.0) + means["nuclei"] / len(NUCLEUS_MAPS)
        return {f"val_{name}": value for name, value in means.items()} | {self.score.logged: total}

    def _class_scores(self) -> dict[str, float]:
        """Return the Dice of every class of nuclei, and their mean."""
        dice, _ = overlaps(self._counts)
        self._counts = np.zeros_like(self._counts)
        named = zip(self.legend, dice[1:], strict=True)
        known = {f"val_dice/{one.name}": float(value) for one, value in named if value == value}
        mean = sum(known.values()) / len(known) if known else 0.0
        return {self.score.logged: mean, **known}


def _learning(model: PathoSam, settings: NucleiSettings) -> list[nn.Module]:
    """Return the parts of a network that a training changes."""
    decoder = model.class_decoder if settings.objective == "classes" else model.decoder
    assert decoder is not None
    if settings.trainable == "decoder":
        return [decoder]
    whole = settings.prompting is not None
    return [model.sam if whole else model.sam.image_encoder, decoder]
