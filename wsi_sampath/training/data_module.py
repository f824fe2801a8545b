"""What Lightning feeds the network with: images, or features kept on disk."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

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
from wsi_sampath.training.transforms import Pair

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class Feeding(LightningDataModule):
    """The batches of every epoch.

    Parameters
    ----------
    settings
        Of the training.
    read
        Reads patches.
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
        given = self.settings
        batches_each = math.ceil(math.ceil(len(self.training) / given.devices) / given.batch_size)
        return math.ceil(batches_each / given.accumulate)

    def train_dataloader(self) -> DataLoader[Pair | Unusable]:
        """Return the batches of the current epoch, of this device."""
        assert self.trainer is not None
        given, epoch = self.settings, self.trainer.current_epoch
        order = shuffled(self.training, given.seed, epoch)
        mine = share_of(order, self.trainer.global_rank, self.trainer.world_size)
        version = version_of(epoch, given.augmentation)
        return batches(
            self._source, mine, version, batch_size=given.batch_size, workers=given.workers
        )

    def val_dataloader(self) -> list[DataLoader[Pair | Unusable]]:
        """Return the batches of the validation split, of this device; no loader if it is empty."""
        assert self.trainer is not None
        mine = self.validation[self.trainer.global_rank :: self.trainer.world_size]
        if not self.validation:
            return []
        given = self.settings
        return [
            batches(self._source, mine, PLAIN, batch_size=given.batch_size, workers=given.workers)
        ]

    def keep_features(
        self,
        task: SegmentationTask,
        device: torch.device,
        folder: Path,
        say: Callable[[str], None],
    ) -> None:
        """Compute the features that are not on disk yet, and feed these from now on.

        Parameters
        ----------
        task
            Whose encoders; it is left on the device.
        device
            Where to compute.
        folder
            Where to keep them, unless the settings name a folder.
        say
            Takes lines of progress.
        """
        given = self.settings
        folder = Path(given.cache_folder) if given.cache_folder else folder
        key = store_key(task.model, given, self.read.table.tobytes())
        store = FeatureStore(folder / key, self.read, DTYPES[given.cache_precision])
        wanted = store.missing(self.training, versions(given.augmentation))
        wanted += store.missing(self.validation, [PLAIN])
        task.to(device).eval()
        autocast = torch.autocast(
            device.type, DTYPES[given.precision], enabled=given.precision != "fp32"
        )
        embed = embedder(task.features, device, autocast)
        step = max(1, len(wanted) // 10)
        told = 0
        for done in store.fill(wanted, embed, given.batch_size):
            if done - told >= step or done == len(wanted):
                told = done
                say(f"features: {done} of {len(wanted)}")
        task.train()
        self._source = store
