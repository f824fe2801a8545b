"""Which epochs of a training are kept, and how."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from wsi_sampath.training.run_folder import RunFolder, load_state, save_state
from wsi_sampath.training.task import SCORE


def keeper(folder: RunFolder, name: str, monitor: str | None) -> ModelCheckpoint:
    """Return what keeps ``NAME.ckpt``: the best epoch in a logged score, or the last one."""
    return ModelCheckpoint(
        dirpath=folder.root.absolute(),
        filename=name,
        monitor=monitor,
        mode="max",
        save_top_k=1,
        enable_version_counter=False,
        save_on_train_epoch_end=True,
    )


def best_keeper(trainer: Trainer) -> ModelCheckpoint | None:
    """Return what keeps the best epoch, or None where the last one is kept."""
    found = [one for one in trainer.checkpoint_callbacks if isinstance(one, ModelCheckpoint)]
    return next((one for one in found if one.monitor == SCORE), None)


class Patience(EarlyStopping):
    """Stops after so many validations without a better one; stopped, it stays so when resumed."""

    def __init__(self, validations: int) -> None:
        super().__init__(SCORE, mode="max", patience=validations, check_on_train_epoch_end=False)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop again: Lightning forgets with every `fit` that it was told to."""
        if self.wait_count >= self.patience:
            trainer.should_stop = True


class WholeFiles(CheckpointIO):
    """Checkpoints that are there whole or not at all, and that run nothing when they are read."""

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


_PATHS_OF_STATE = ("best_model_path", "kth_best_model_path", "last_model_path")


def _moved_to(root: Path, state: dict[str, Any]) -> dict[str, Any]:
    """Return the state with its files in `root`: the folder may have been moved meanwhile."""

    def here(path: str) -> str:
        return str(root.absolute() / Path(path).name) if path else path

    for one in state["callbacks"].values():
        if "best_k_models" in one:
            one |= {name: here(one[name]) for name in _PATHS_OF_STATE}
            one["best_k_models"] = {here(path): v for path, v in one["best_k_models"].items()}
            one["dirpath"] = str(root.absolute())
    return state
