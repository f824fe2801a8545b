"""The LightningDataModule of a training: batches of images, or of features kept on disk."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from wsi_sampath.data.patches import Patch
from wsi_sampath.training.features import FeatureStore, embedder, store_key
from wsi_sampath.training.loader import (
    PLAIN,
    PatchReader,
    Read,
    Reader,
    Sample,
    Unusable,
    batches,
    share_of,
    shuffled,
    versions,
)
from wsi_sampath.training.settings import RunSettings
from wsi_sampath.training.task import SegmentationTask

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class PatchData(LightningDataModule):
    """The batches of every epoch.

    Parameters
    ----------
    settings
        Settings of the training.
    read
        Reads patches as images and their labels.
    """

    def __init__(self, settings: RunSettings, read: Reader) -> None:
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

    def train_dataloader(self) -> DataLoader[Sample | Unusable]:
        """Return the batches of the current epoch, of this device."""
        assert self.trainer is not None
        settings, epoch = self.settings, self.trainer.current_epoch
        order = shuffled(self.training, settings.seed, epoch)
        mine = share_of(order, self.trainer.global_rank, self.trainer.world_size)
        wanted = [(patch, self.read.version(epoch)) for patch in mine]
        return self._batches(wanted)

    def val_dataloader(self) -> list[DataLoader[Sample | Unusable]]:
        """Return the batches of the validation split, of this device; no loader if it is empty."""
        assert self.trainer is not None
        mine = self.validation[self.trainer.global_rank :: self.trainer.world_size]
        if not self.validation:
            return []
        return [self._batches([(patch, view) for patch in mine for view in self.read.views(patch)])]

    def _batches(self, wanted: Sequence[tuple[Patch, int]]) -> DataLoader[Sample | Unusable]:
        size, workers = self.settings.batch_size, self.settings.workers
        return batches(self._source, wanted, batch_size=size, workers=workers)

    def keep_features(
        self,
        task: SegmentationTask,
        read: PatchReader,
        device: torch.device,
        folder: Path,
        say: Callable[[str], None],
    ) -> None:
        """Compute the features that are not on disk yet, and serve features from now on.

        Parameters
        ----------
        task
            Its encoders compute the features; it is left on the device.
        read
            Reads the patches.
        device
            Where they are computed.
        folder
            Where they are kept, unless the settings name a folder.
        say
            Called with lines of progress.
        """
        settings = task.settings
        folder = Path(settings.cache_folder) if settings.cache_folder else folder
        key = store_key(task.model, settings, read.table.tobytes())
        store = FeatureStore(folder / key, read, DTYPES[settings.cache_precision])
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
