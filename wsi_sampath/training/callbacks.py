"""Training callbacks: curve, pictures of predictions, epochs to keep."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from wsi_sampath.classes import ClassSpec
from wsi_sampath.data.patches import Patch, write_atomically
from wsi_sampath.training.base_task import Score, Task
from wsi_sampath.training.loader import Reader
from wsi_sampath.training.run_folder import RunFolder, load_state, save_state

Rgb = NDArray[np.uint8]
_PANEL_PX, _GAP_PX, _LEGEND_PX = 256, 4, 20
_TINT = 0.45
_EPOCH_SUFFIX = "_epoch"
_PATHS_OF_STATE = ("best_model_path", "kth_best_model_path", "last_model_path")


class Curve(Callback):
    """Writes ``curve.csv``, one row per epoch; an interrupted training resumes it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, float]] = []

    def state_dict(self) -> dict[str, Any]:
        """Return the rows so far, to be kept in the checkpoint."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the rows of a checkpoint."""
        self.rows = list(state_dict["rows"])

    def scores(self, score: Score) -> dict[int, float]:
        """Return a score by the epochs, from 1, in which it was taken."""
        return {int(row["epoch"]): row[score.logged] for row in self.rows if score.logged in row}

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add a row."""
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        row = {"epoch": float(trainer.current_epoch + 1), "step": float(trainer.global_step)}
        row["learning_rate"] = float(trainer.optimizers[0].param_groups[0]["lr"])
        row |= {
            name.removesuffix(_EPOCH_SUFFIX): value
            for name, value in metrics.items()
            if name.endswith(_EPOCH_SUFFIX) or (name.startswith("val_") and validated(pl_module))
        }
        self.rows.append(row)
        if trainer.is_global_zero:
            write_atomically(self.path, _table(self.rows).encode())


class Pictures(Callback):
    """Saves ``epoch_NNN.png``: validation patches, their truth, and what is predicted."""

    def __init__(self, folder: Path, read: Reader, patches: Sequence[Patch]) -> None:
        self.folder, self.read, self.patches = folder, read, patches

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the patches one at a time: there are few."""
        if not (self.patches and trainer.is_global_zero):
            return
        task = cast(Task, pl_module)
        with torch.no_grad():
            rows = [
                task.drawn(self.read(patch, self.read.views(patch)[0])) for patch in self.patches
            ]
        picture = drawn(rows, task.legend)
        self.folder.mkdir(exist_ok=True)
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        name = f"epoch_{trainer.current_epoch + 1:03d}.png"
        write_atomically(self.folder / name, buffer.getvalue())


def drawn(rows: Sequence[tuple[Rgb, Rgb, Rgb]], classes: Sequence[ClassSpec]) -> Image.Image:
    """Draw one row per patch (image, truth, prediction) over a legend.

    Parameters
    ----------
    rows
        Images (side, side, 3) and labels (side, side), 0 = not labelled, uint8.
    classes
        Names and colours of the labels 1..k.
    """
    step = _PANEL_PX + _GAP_PX
    canvas = Image.new("RGB", (3 * step, len(rows) * step + _LEGEND_PX), "white")
    colours = np.array([(0, 0, 0), *(_rgb(spec.color) for spec in classes)], np.float32)
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
        (spec.name, spec.color) for spec in classes
    ]:
        draw.text((left, top + _GAP_PX), text, fill=color)
        left += round(draw.textlength(text)) + 3 * _GAP_PX


def validated(pl_module: LightningModule) -> bool:
    """Return whether the scores at hand are of the current epoch."""
    return cast(Task, pl_module).validated_epoch == pl_module.current_epoch


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


def keeper(folder: RunFolder, name: str, score: Score | None) -> ModelCheckpoint:
    """Return the callback that keeps ``NAME.ckpt``: the best epoch by a score, or the last."""
    return ModelCheckpoint(
        dirpath=folder.root.absolute(),
        filename=name,
        monitor=None if score is None else score.logged,
        mode="max" if score is None else score.mode,
        save_top_k=1,
        enable_version_counter=False,
        save_on_train_epoch_end=True,
    )


def best_keeper(trainer: Trainer) -> ModelCheckpoint | None:
    """Return the callback that keeps the best epoch, or None where the last one is kept."""
    keepers = [kept for kept in trainer.checkpoint_callbacks if isinstance(kept, ModelCheckpoint)]
    return next((kept for kept in keepers if kept.monitor is not None), None)


class Patience(EarlyStopping):
    """Stops after `validations` without improvement; a stopped run stays so when resumed."""

    def __init__(self, validations: int, score: Score) -> None:
        super().__init__(
            score.logged, mode=score.mode, patience=validations, check_on_train_epoch_end=False
        )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop again: every `fit` of Lightning clears the flag."""
        if self.wait_count >= self.patience:
            trainer.should_stop = True


class WholeFiles(CheckpointIO):
    """Writes checkpoints atomically, and runs no code of theirs when it reads them."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write a checkpoint."""
        save_state(checkpoint, Path(path))

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint, tensors on the CPU."""
        return _moved_to(Path(path).parent, load_state(Path(path)))

    def remove_checkpoint(self, path: str | Path) -> None:
        """Delete a checkpoint."""
        Path(path).unlink(missing_ok=True)


def _moved_to(root: Path, state: dict[str, Any]) -> dict[str, Any]:
    """Return the state with its files in `root`: the folder may have moved since."""

    def here(path: str) -> str:
        return str(root.absolute() / Path(path).name) if path else path

    for saved in state["callbacks"].values():
        if "best_k_models" in saved:
            saved |= {name: here(saved[name]) for name in _PATHS_OF_STATE}
            saved["best_k_models"] = {here(path): v for path, v in saved["best_k_models"].items()}
            saved["dirpath"] = str(root.absolute())
    return state
