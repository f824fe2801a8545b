"""The kinds of training there are: what each architecture starts from, reads and learns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, assert_never

import torch

from wsi_sampath.data.patches import PatchSet
from wsi_sampath.models.patho_sam.network import PathoSam
from wsi_sampath.models.sam_path.network import SamPath
from wsi_sampath.models.wsi_sam.network import WsiSam
from wsi_sampath.training.base_task import Score, Task
from wsi_sampath.training.configuration import AnySettings
from wsi_sampath.training.data_module import PatchData
from wsi_sampath.training.initial_weights import AnyStart, Start, start_model
from wsi_sampath.training.loader import PatchReader, Reader, label_table
from wsi_sampath.training.nuclei.doubts import nucleus_doubts
from wsi_sampath.training.nuclei.reader import NucleusReader, resampled_scale
from wsi_sampath.training.nuclei.settings import NucleiSettings
from wsi_sampath.training.nuclei.start import start_nuclei
from wsi_sampath.training.nuclei.task import NucleusTask, score_of
from wsi_sampath.training.prompts.reader import PromptReader
from wsi_sampath.training.prompts.settings import PromptTrainSettings
from wsi_sampath.training.prompts.start import start_prompts
from wsi_sampath.training.prompts.task import PROMPT_DICE, PromptTask
from wsi_sampath.training.settings import RunSettings, TrainSettings
from wsi_sampath.training.start_report import Doubt, scale_doubt, stretched_scale
from wsi_sampath.training.task import SegmentationTask


class Training(Protocol):
    """One kind of training, on its data, with its initial network."""

    @property
    def settings(self) -> RunSettings:
        """Everything that decides it."""

    @property
    def start(self) -> AnyStart:
        """The initial network."""

    @property
    def score(self) -> Score:
        """By which the best epoch is chosen."""

    def scale(self) -> str:
        """Say at which scale the network sees the patches."""

    def doubts(self) -> list[Doubt]:
        """Return what the user, and the model's credits, should be told in advance."""

    def reader(self) -> Reader:
        """Return what reads the patches."""

    def task(self, steps_per_epoch: int) -> Task:
        """Return what Lightning trains."""

    def cache(
        self,
        data: PatchData,
        task: Task,
        device: torch.device,
        folder: Path,
        say: Callable[[str], None],
    ) -> None:
        """Compute in advance, into a folder, what frozen parts of the network answer."""


@dataclass(frozen=True)
class PixelTraining:
    """SAM-Path, on masks of classes."""

    settings: TrainSettings
    patches: PatchSet
    start: Start[SamPath]
    score: Score = SegmentationTask.score

    def scale(self) -> str:
        """Say at which scale the network sees the patches."""
        return stretched_scale(self.patches, self.start.model.spec)

    def doubts(self) -> list[Doubt]:
        """Return what is doubtful about the scale of the patches."""
        doubt = scale_doubt(self.settings, self.patches, self.start.model.spec)
        return [] if doubt is None else [doubt]

    def reader(self) -> PatchReader:
        """Return what reads images and masks."""
        settings, spec = self.settings, self.start.model.spec
        table = label_table(spec, self.patches)
        side = settings.side or spec.tile
        return PatchReader(self.patches, table, side, settings.augmentation, settings.seed)

    def task(self, steps_per_epoch: int) -> SegmentationTask:
        """Return what Lightning trains."""
        return SegmentationTask(self.start.model, self.settings, steps_per_epoch)

    def cache(
        self,
        data: PatchData,
        task: Task,
        device: torch.device,
        folder: Path,
        say: Callable[[str], None],
    ) -> None:
        """Keep the features of frozen encoders, where the settings ask for it."""
        if self.settings.cache_features and isinstance(task, SegmentationTask):
            data.keep_features(task, self.reader(), device, folder, say)


class _WithoutFeatures:
    """A training that computes nothing in advance."""

    def cache(
        self,
        data: PatchData,
        task: Task,
        device: torch.device,
        folder: Path,
        say: Callable[[str], None],
    ) -> None:
        """Keep nothing."""


@dataclass(frozen=True)
class NucleusTraining(_WithoutFeatures):
    """PathoSAM, on nuclei."""

    settings: NucleiSettings
    patches: PatchSet
    start: Start[PathoSam]

    @property
    def score(self) -> Score:
        """By which the best epoch is chosen."""
        return score_of(self.settings)

    def scale(self) -> str:
        """Say at which scale the network sees the patches."""
        return resampled_scale(self.patches, self.start.model.spec)

    def doubts(self) -> list[Doubt]:
        """Return what is doubtful about scale and decoders."""
        return nucleus_doubts(self.settings, self.patches, self.start.model.spec)

    def reader(self) -> NucleusReader:
        """Return what reads images and nuclei."""
        return NucleusReader(self.patches, self.start.model.spec, self.settings)

    def task(self, steps_per_epoch: int) -> NucleusTask:
        """Return what Lightning trains; its rate does not depend on the length of an epoch."""
        return NucleusTask(self.start.model, self.settings)


@dataclass(frozen=True)
class PromptTraining(_WithoutFeatures):
    """WSI-SAM, on objects in their context."""

    settings: PromptTrainSettings
    patches: PatchSet
    start: Start[WsiSam]
    score: Score = PROMPT_DICE

    def scale(self) -> str:
        """Say at which scale the network sees the patches."""
        return stretched_scale(self.patches, self.start.model.spec)

    def doubts(self) -> list[Doubt]:
        """Return what is doubtful about the scale of the patches."""
        doubt = scale_doubt(self.settings, self.patches, self.start.model.spec)
        return [] if doubt is None else [doubt]

    def reader(self) -> PromptReader:
        """Return what reads patches and their context."""
        return PromptReader(self.patches, self.start.model.spec, self.settings)

    def task(self, steps_per_epoch: int) -> PromptTask:
        """Return what Lightning trains; its rate does not depend on the length of an epoch."""
        return PromptTask(self.start.model, self.settings)


def training_of(settings: AnySettings, patches: PatchSet) -> Training:
    """Return the training that the settings describe, its initial network loaded.

    Raises
    ------
    WsiError
        For weights that are missing or do not fit, and data that have not what is to be learned.
    """
    match settings:
        case TrainSettings():
            return PixelTraining(settings, patches, start_model(settings, patches))
        case NucleiSettings():
            return NucleusTraining(settings, patches, start_nuclei(settings, patches))
        case PromptTrainSettings():
            return PromptTraining(settings, patches, start_prompts(settings, patches))
        case _:
            assert_never(settings)
