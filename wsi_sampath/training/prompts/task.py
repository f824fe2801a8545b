"""WSI-SAM's training as a Lightning module."""

from __future__ import annotations

from typing import Self, cast

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from wsi_sampath.classes import ClassSpec
from wsi_sampath.errors import WsiError
from wsi_sampath.models.network import Embedding, Prompts
from wsi_sampath.models.parts.encoders import resized
from wsi_sampath.models.wsi_sam.network import Look, WsiSam
from wsi_sampath.training.augment import version_seed
from wsi_sampath.training.base_task import Picture, Score, Task
from wsi_sampath.training.loader import Sample, Unusable, usable
from wsi_sampath.training.prompts.asking import (
    answer_loss,
    drawn_prompts,
    in_both,
    some_objects,
)
from wsi_sampath.training.prompts.reader import PromptSample
from wsi_sampath.training.prompts.settings import PromptTrainSettings

PROMPT_DICE = Score("val_dice", "validation_dice", "validation Dice of answers", "max")
_OBJECT = ClassSpec(name="object", color="#c83232")
_LEARNED = ("model.high.", "model.low.")


class PromptTask(Task):
    """WSI-SAM's training.

    Batches are those of `PromptSample`. A batch without any object is left out.

    Parameters
    ----------
    model
        The network.
    settings
        Settings of the training.
    """

    model: WsiSam
    score = PROMPT_DICE
    legend = (_OBJECT,)

    def __init__(self, model: WsiSam, settings: PromptTrainSettings) -> None:
        super().__init__()
        # A batch without an object makes no step.
        self.automatic_optimization = False
        self.model, self.settings = model, settings
        model.requires_grad_(False)
        for part in (model.high, model.low):
            part.requires_grad_(True)
        self._asked = False
        self._found: dict[str, list[float]] = {}
        self.train()

    @property
    def trained(self) -> set[str]:
        """Names of the tensors that training may change."""
        return {name for name in self.state_dict() if name.startswith(_LEARNED)}

    def train(self, mode: bool = True) -> Self:
        """Set the mode of what learns; SAM stays in evaluation mode."""
        super().train(mode)
        return self

    def loss(self, sample: PromptSample, index: int) -> Tensor | None:
        """Return the mean loss of the objects of a batch; None where there is none.

        All are asked for at once, by one kind of prompt.

        Parameters
        ----------
        sample
            A batch.
        index
            Its number in the epoch.
        """
        settings, generator = self.settings, self._generator(self.current_epoch, index)
        asked = some_objects(sample.objects, settings.objects_per_patch, generator)
        if asked is None:
            return None
        kind = settings.kinds[int(torch.randint(len(settings.kinds), (), generator=generator))]
        prompts = in_both(self.model, asked.masks, kind, settings, generator)
        looks = asked.among(self._looks(sample))
        return answer_loss(self.model, looks, asked.masks, prompts, settings.high_share)

    def training_step(self, batch: Sample | Unusable, index: int) -> None:
        """Take a step, and log the loss."""
        sample = PromptSample(*usable(batch))
        loss = self.loss(sample, index)
        if loss is None:
            self._check_asked()
            return
        self._asked = True
        optimiser = cast(LightningOptimizer, self.optimizers())
        optimiser.zero_grad()
        self.manual_backward(loss)
        optimiser.step()
        size = len(sample.views)
        self.log("train_total", loss.detach(), on_step=True, on_epoch=True, batch_size=size)

    def on_train_epoch_start(self) -> None:
        """Forget what was asked for in the epoch before."""
        self._asked = False

    def validation_step(self, batch: Sample | Unusable, index: int) -> None:
        """Ask for the objects of a batch by one kind of prompt, of the next one by the next."""
        sample = PromptSample(*usable(batch))
        generator = self._generator(-1, index)
        asked = some_objects(sample.objects, self.settings.objects_per_patch, generator)
        if asked is not None:
            kind = self.settings.kinds[index % len(self.settings.kinds)]
            side = self.model.spec.mask_side
            prompts = drawn_prompts(asked.masks[0], kind, self.settings, generator, side)
            self._count(asked.among(self._looks(sample)), prompts, asked.masks[0])

    def on_validation_epoch_end(self) -> None:
        """Log the mean Dice of the answers, and of those of the frozen SAM to the same prompts."""
        if not self._found:
            message = f"no validation patch holds an object of {self.settings.min_size_px} px"
            raise WsiError("bad-input", message, subject=self.settings.data)
        self.log_dict({name: sum(dice) / len(dice) for name, dice in self._found.items()})
        self._found = {}
        self.validated_epoch = self.current_epoch

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return AdamW over what trains."""
        options = self.settings.optimiser
        chosen = [weight for weight in self.parameters() if weight.requires_grad]
        return torch.optim.AdamW(
            chosen, lr=options.learning_rate, weight_decay=options.weight_decay
        )

    def drawn(self, sample: Sample) -> tuple[Picture, Picture, Picture]:
        """Return a patch, its objects, and what is answered to a box around each of some."""
        one = PromptSample(*(part[None].to(self.device) for part in sample))
        picture = one.views[0, 0].cpu().numpy()
        truth = (one.objects[0, 0] > 0).to(torch.uint8).cpu().numpy()
        generator = self._generator(-1, 0)
        asked = some_objects(one.objects, self.settings.objects_per_patch, generator)
        if asked is None:
            return picture, truth, truth
        looks = asked.among(self._looks(one))
        side = self.model.spec.mask_side
        prompts = drawn_prompts(asked.masks[0], "box", self.settings, generator, side)
        found = self._answered(self._embedding(looks), prompts, asked.masks[0]).any(dim=0)
        return picture, truth, found.to(torch.uint8).cpu().numpy()

    def _check_asked(self) -> None:
        """Refuse an epoch in which there was nothing to learn from, at its end."""
        if self.trainer.is_last_batch and not self._asked:
            message = (
                f"no training patch holds an object of {self.settings.min_size_px} px or more; see "
                "min_size_px and objects"
            )
            raise WsiError("bad-input", message, subject=self.settings.data)

    def _looks(self, sample: PromptSample) -> tuple[Look, Look]:
        """Return what the frozen encoder says of both views."""
        with torch.no_grad():
            views = [self.model.preprocess(view) for view in sample.views.unbind(1)]
            return self.model.look(views)

    def _embedding(self, looks: tuple[Look, Look]) -> Embedding:
        high, low = looks
        return high.features, low.features, self.model.high.fused(high)

    def _answered(self, embedding: Embedding, prompts: Prompts, truth: Tensor) -> Tensor:
        logits, _ = self.model.masks(embedding, prompts, multimask=False)
        return resized(logits.float(), truth.shape[-1])[:, 0] > 0

    def _count(self, looks: tuple[Look, Look], prompts: Prompts, truth: Tensor) -> None:
        found = self._answered(self._embedding(looks), prompts, truth)
        # SAM's own decoder takes one image at a time.
        answers = [
            self.model.sam.masks((features[None],), prompt, multimask=False)[0]
            for features, prompt in zip(looks[0].features, prompts.batches(1), strict=True)
        ]
        frozen = resized(torch.cat(answers).float(), truth.shape[-1])[:, 0] > 0
        for name, masks in ((PROMPT_DICE.logged, found), ("val_dice_frozen", frozen)):
            common = (masks & truth).sum(dim=(1, 2))
            dice = 2 * common / (masks.sum(dim=(1, 2)) + truth.sum(dim=(1, 2)))
            self._found.setdefault(name, []).extend(dice.tolist())

    def _generator(self, epoch: int, index: int) -> torch.Generator:
        """Return what all random choices of a batch come from, the same after a resume."""
        seed = version_seed(self.settings.seed, epoch + 1, f"batch {index}")
        return torch.Generator().manual_seed(seed)
