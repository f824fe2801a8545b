"""Training callbacks: a curve, one line per epoch, pictures of predictions."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from wsi_sampath.classes import ClassSpec
from wsi_sampath.data.patches import Patch, write_atomically
from wsi_sampath.training.loader import PLAIN, PatchReader, stacked
from wsi_sampath.training.task import SCORE, SegmentationTask

Rgb = NDArray[np.uint8]
Say = Callable[[str], None]
_PANEL_PX, _GAP_PX, _LEGEND_PX = 256, 4, 20
_TINT = 0.45
_EPOCH_SUFFIX = "_epoch"
_LINE_EVERY_S = 10.0


class Curve(Callback):
    """Writes ``curve.csv``, one row per epoch; an interrupted training resumes it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, float]] = []

    def state_dict(self) -> dict[str, Any]:
        """Return the rows so far, to be kept in the checkpoint."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the rows of a checkpoint."""
        self.rows = list(state_dict["rows"])

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add a row."""
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        row = {"epoch": float(trainer.current_epoch + 1), "step": float(trainer.global_step)}
        row["learning_rate"] = float(trainer.optimizers[0].param_groups[0]["lr"])
        row |= {
            name.removesuffix(_EPOCH_SUFFIX): value
            for name, value in metrics.items()
            if name.endswith(_EPOCH_SUFFIX) or (name.startswith("val_") and _validated(pl_module))
        }
        self.rows.append(row)
        if trainer.is_global_zero:
            write_atomically(self.path, _table(self.rows).encode())


class Lines(Callback):
    """Tells one line per epoch, and one every ten seconds where there is no progress bar."""

    def __init__(self, say: Say, *, steps: bool) -> None:
        self.say, self.steps = say, steps
        self._told = self._began = time.monotonic()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._told = self._began = time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Tell where the epoch is."""
        if not (self.steps and trainer.is_global_zero):
            return
        if time.monotonic() - self._told >= _LINE_EVERY_S:
            self._told = time.monotonic()
            epoch, of = trainer.current_epoch + 1, trainer.max_epochs
            self.say(
                f"epoch {epoch} of {of}: batch {batch_idx + 1} of {trainer.num_training_batches}"
            )

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tell the loss and the scores of an epoch."""
        if not trainer.is_global_zero:
            return
        metrics = trainer.callback_metrics
        parts = [f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs}"]
        parts.append(f"loss {float(metrics['train_total_epoch']):.4f}")
        if _validated(pl_module):
            parts.append(f"validation macro Dice {float(metrics[SCORE]):.4f}")
        parts.append(f"{time.monotonic() - self._began:.1f} s")
        self.say(", ".join(parts))


class Pictures(Callback):
    """Saves ``epoch_NNN.png``: validation patches, their truth, and what is predicted."""

    def __init__(self, folder: Path, read: PatchReader, patches: Sequence[Patch]) -> None:
        self.folder, self.read, self.patches = folder, read, patches

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the patches one by one: there are few."""
        if not (self.patches and trainer.is_global_zero):
            return
        task = cast(SegmentationTask, pl_module)
        rows = [self._row(task, patch) for patch in self.patches]
        picture = drawn(rows, task.model.spec.classes)
        self.folder.mkdir(exist_ok=True)
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        name = f"epoch_{trainer.current_epoch + 1:03d}.png"
        write_atomically(self.folder / name, buffer.getvalue())

    def _row(self, task: SegmentationTask, patch: Patch) -> tuple[Rgb, Rgb, Rgb]:
        images, truth = stacked([self.read(patch, PLAIN)])
        with torch.no_grad():
            found = task.labels(images.to(task.device), truth.shape[-1])
        return images[0].numpy(), truth[0].numpy(), found[0].to(torch.uint8).cpu().numpy()


def drawn(rows: Sequence[tuple[Rgb, Rgb, Rgb]], classes: Sequence[ClassSpec]) -> Image.Image:
    """Draw a row of image, truth and prediction for each of some patches, over a legend.

    Parameters
    ----------
    rows
        Images (side, side, 3) and labels (side, side), 0 = not labelled, uint8.
    classes
        Of the labels 1..k.
    """
    step = _PANEL_PX + _GAP_PX
    canvas = Image.new("RGB", (3 * step, len(rows) * step + _LEGEND_PX), "white")
    colours = np.array([(0, 0, 0), *(_rgb(one.color) for one in classes)], np.float32)
    for number, (image, truth, found) in enumerate(rows):
        panels = (image, _tinted(image, truth, colours), _tinted(image, found, colours))
        for column, panel in enumerate(panels):
            small = Image.fromarray(panel).resize((_PANEL_PX, _PANEL_PX))
            canvas.paste(small, (column * step, number * step))
    _draw_legend(ImageDraw.Draw(canvas), classes, len(rows) * step)
    return canvas


def _draw_legend(draw: ImageDraw.ImageDraw, classes: Sequence[ClassSpec], top: int) -> None:
    left = _GAP_PX
    for text, color in [("image, truth, prediction", "#000000")] + [
        (one.name, one.color) for one in classes
    ]:
        draw.text((left, top + _GAP_PX), text, fill=color)
        left += round(draw.textlength(text)) + 3 * _GAP_PX


def _validated(pl_module: LightningModule) -> bool:
    """Return whether the scores at hand are of the current epoch."""
    return cast(SegmentationTask, pl_module).validated_epoch == pl_module.current_epoch


def spread_out(patches: Sequence[Patch], count: int) -> list[Patch]:
    """Return `count` of the patches, evenly over the list."""
    chosen = np.linspace(0, len(patches) - 1, min(count, len(patches))).round().astype(int)
    return [patches[i] for i in chosen]


def _tinted(image: Rgb, labels: Rgb, colours: NDArray[np.float32]) -> Rgb:
    share = np.where(labels > 0, _TINT, 0.0).astype(np.float32)[..., None]
    mixed: Rgb = ((1 - share) * image + share * colours[labels]).round().astype(np.uint8)
    return mixed


def _rgb(color: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(color.removeprefix("#")))


def _table(rows: Sequence[dict[str, float]]) -> str:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO(newline="")
    out = csv.DictWriter(text, columns, lineterminator="\n")
    out.writeheader()
    out.writerows({name: f"{value:.9g}" for name, value in row.items()} for row in rows)
    return text.getvalue()
