"""What a training says while it lasts: one line per epoch, and a bar or lines in between."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from wsi_sampath.shown import format_duration
from wsi_sampath.training.base_task import Score, Task
from wsi_sampath.training.callbacks import Curve, validated

Say = Callable[[str], None]
_LINE_EVERY_S = 10.0


class Lines(Callback):
    """Prints one line per epoch, and one every ten seconds where there is no progress bar.

    Parameters
    ----------
    say
        Prints a line.
    curve
        Called before this, and after a resume knows the epochs before it.
    steps
        Whether there is no progress bar.
    """

    def __init__(self, say: Say, curve: Curve, *, steps: bool) -> None:
        self.say, self.curve, self.steps = say, curve, steps
        self._last = self._started = time.monotonic()
        self._first = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of the whole, which a resume starts anew."""
        self._started, self._first = time.monotonic(), trainer.current_epoch

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of the epoch."""
        self._last = time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Say how far the epoch is."""
        if not (self.steps and trainer.is_global_zero):
            return
        if time.monotonic() - self._last >= _LINE_EVERY_S:
            self._last = time.monotonic()
            self.say(f"{_epoch(trainer)}: batch {batch_idx + 1} of {trainer.num_training_batches}")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say the loss and the score of the epoch, the best so far, and the time left."""
        if not trainer.is_global_zero:
            return
        parts = [f"{_epoch(trainer)}: loss {_loss(trainer):.3f}"]
        if validated(pl_module):
            parts.append(_scored(cast(Task, pl_module).score, self.curve))
        parts.append(self._time_left(trainer))
        self.say(", ".join(parts))

    def _time_left(self, trainer: Trainer) -> str:
        assert trainer.max_epochs is not None
        spent, done = time.monotonic() - self._started, trainer.current_epoch + 1
        left = trainer.max_epochs - done
        if not left:
            return format_duration(spent)
        return f"{format_duration(spent / (done - self._first) * left)} left"


class Bar(Callback):
    """One bar on stderr for all epochs, with the time left; lines are printed above it."""

    def __init__(self) -> None:
        columns = (TextColumn("{task.description}", markup=False), BarColumn())
        batches = TextColumn("{task.completed:.0f}/{task.total:.0f} batches")
        console = Console(stderr=True)
        # It goes when it has ended: the last line of an epoch says more.
        self._bar = Progress(
            *columns, batches, TimeRemainingColumn(), console=console, transient=True
        )
        self._task: TaskID | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the bar, after a resume as full as it was."""
        if trainer.is_global_zero and self._task is None:
            self._task = self._bar.add_task(_epoch(trainer), total=_batches(trainer))
            self._bar.start()
            self._bar.advance(self._task, trainer.current_epoch * trainer.num_training_batches)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Name the epoch."""
        self._update(description=_epoch(trainer))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count a batch."""
        self._update(advance=1)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say that the epoch is validated."""
        self._update(description=f"{_epoch(trainer)}, validation")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the bar away."""
        self._bar.stop()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Take the bar away, however the training ended."""
        self._bar.stop()

    def _update(self, **changes: Any) -> None:
        if self._task is not None:
            self._bar.update(self._task, **changes)


def _batches(trainer: Trainer) -> float:
    assert trainer.max_epochs is not None
    return trainer.max_epochs * trainer.num_training_batches


def _epoch(trainer: Trainer) -> str:
    return f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs}"


def _loss(trainer: Trainer) -> float:
    return float(trainer.callback_metrics["train_total_epoch"])


def _scored(score: Score, curve: Curve) -> str:
    """Return the score of the last epoch beside the best one."""
    known = curve.scores(score)
    last, best = max(known), score.best(known)
    told = f"{score.title} {known[last]:.3f}"
    return f"{told} (best)" if last == best else f"{told} (best {known[best]:.3f})"
