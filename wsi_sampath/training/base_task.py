"""What every training is to Lightning: what may change and is kept, and the score that decides."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import lightning
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wsi_sampath.classes import ClassSpec
from wsi_sampath.errors import WsiError

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Score:
    """The score by which the best epoch is chosen.

    Attributes
    ----------
    logged
        Its name in ``curve.csv``.
    stored
        Its name in ``result.json``.
    title
        What it is, for people.
    mode
        Whether more of it is better, or less.
    """

    logged: str
    stored: str
    title: str
    mode: Literal["max", "min"]

    def best(self, known: Mapping[int, float]) -> int:
        """Return the first of the epochs with the best of their scores.

        Examples
        --------
        >>> MACRO_DICE.best({1: 0.7, 2: 0.9, 3: 0.9})
        2
        """
        choose = max if self.mode == "max" else min
        return choose(known, key=known.__getitem__)


MACRO_DICE = Score("val_macro_dice", "validation_macro_dice", "validation macro Dice", "max")


class Task(lightning.LightningModule):
    """A training.

    Attributes
    ----------
    model
        The network, which has a `spec`.
    score
        What is logged after every validation, and decides.
    legend
        What the labels 1..k of its pictures are.
    validated_epoch
        The last epoch whose score is known.
    """

    mending: ClassVar[str] = "lower optimiser.learning_rate, or set precision=fp32"
    model: nn.Module
    score: Score
    legend: Sequence[ClassSpec]

    def __init__(self) -> None:
        super().__init__()
        self.validated_epoch = -1

    @property
    @abstractmethod
    def trained(self) -> set[str]:
        """Names of the tensors that training may change."""

    @abstractmethod
    def drawn(self, sample: tuple[Tensor, ...]) -> tuple[Picture, Picture, Picture]:
        """Return an image (side, side, 3), its labels and those predicted (side, side), uint8.

        Parameters
        ----------
        sample
            What the reader returns of one patch.
        """

    def on_train_epoch_end(self) -> None:
        """Stop if the loss is not finite any more, before anything is kept."""
        total = self.trainer.callback_metrics["train_total_epoch"]
        if not torch.isfinite(total):
            raise WsiError(
                "bad-input",
                f"the loss of epoch {self.current_epoch + 1} is {total.item()}; {self.mending}",
            )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave out what training cannot change: the initial weights bring it again."""
        state, trained = checkpoint["state_dict"], self.trained
        checkpoint["state_dict"] = {name: state[name] for name in state if name in trained}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put back what `on_save_checkpoint` left out."""
        if set(checkpoint["state_dict"]) != self.trained:
            raise WsiError("bad-model", "the checkpoint to resume from is of another model")
        checkpoint["state_dict"] = self.state_dict() | checkpoint["state_dict"]
