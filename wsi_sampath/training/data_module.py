"""The LightningDataModule of a training: batches of images, or of features kept on disk."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from wsi_sampath.training.augment import Pair
from wsi_sampath.training.features import FeatureStore, embedder, store_key
from wsi_sampath.training.loader import (
    PLAIN,
    PatchReader,
    Read,
    Unusable,
    batches,
    share_of,
    shuffled,
    version_of,
    versions,
)
from wsi_sampath.training.settings import TrainSettings
from wsi_sampath.training.task import SegmentationTask

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class PatchData(LightningDataModule):
    """The batches of every epoch.

    Parameters
    ----------
    settings
        Settings of the training.
    read
        Reads a patch as an image and its labels.
    """

    def __init__(self, settings: TrainSettings, read: PatchReader) -> None:
        super().__init__()
        self.settings, self.read = settings, read
        self.training = read.patches.split("train")
        self.validation = read.patches.split("validation")
        self._source: Read = read

    @property
    def steps_per_epoch(self) -> int:
        """Steps of the optimiser in one epoch."""
        settings = self.settings
        patches = math.ceil(len(self.training) / settings.devices)
        return math.ceil(math.ceil(patches / settings.batch_size) / settings.accumulate)

    def train_dataloader(self) -> DataLoader[Pair | Unusable]:
        """Return the batches of the current epoch, of this device."""
        assert self.trainer is not None
        settings, epoch = self.settings, self.trainer.current_epoch
        order = shuffled(self.training, settings.seed, epoch)
        mine = share_of(order, self.trainer.global_rank, self.trainer.world_size)
        version = version_of(epoch, settings.augmentation)
        return batches(
            self._source, mine, version, batch_size=settings.batch_size, workers=settings.workers
        )

    def val_dataloader(self) -> list[DataLoader[Pair | Unusable]]:
        """Return the batches of the validation split, of this device; no loader if it is empty."""
        assert self.trainer is not None
        mine = self.validation[self.trainer.global_rank :: self.trainer.world_size]
        if not self.validation:
            return []
        settings = self.settings
        return [
            batches(
                self._source, mine, PLAIN, batch_size=settings.batch_size, workers=settings.workers
            )
        ]

    def keep_features(
        self,
        task: SegmentationTask,
        device: torch.device,
        folder: Path,
        say: Callable[[str], None],
    ) -> None:
        """Compute the features that are not on disk yet, and serve features from now on.

        Parameters
        ----------
        task
            Its encoders compute the features; it is left on the device.
        device
            Where they are computed.
        folder
            Where they are kept, unless the settings name a folder.
        say
            Called with lines of progress.
        """
        settings = self.settings
        folder = Path(settings.cache_folder) if settings.cache_folder else folder
        key = store_key(task.model, settings, self.read.table.tobytes())
        store = FeatureStore(folder / key, self.read, DTYPES[settings.cache_precision])
        wanted = store.missing(self.training, versions(settings.augmentation))
        wanted += store.missing(self.validation, [PLAIN])
        task.to(device).eval()
        autocast = torch.autocast(
            device.type, DTYPES[settings.precision], enabled=settings.precision != "fp32"
        )
        embed = embedder(task.features, device, autocast)
        step = max(1, len(wanted) // 10)
        shown = 0
        for done in store.fill(wanted, embed, settings.batch_size):
            if done - shown >= step or done == len(wanted):
                shown = done
                say(f"features: {done} of {len(wanted)}")
        task.train()
        self._source = store
