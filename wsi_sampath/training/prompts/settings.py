"""Settings of a training of WSI-SAM; the defaults are those of its authors but where it is told."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from wsi_sampath.evaluation.drawn_prompts import RESIZE, SHIFT
from wsi_sampath.training.settings import (
    Augmentation,
    Positive,
    PositiveFloat,
    Rate,
    RunSettings,
    Share,
    StartWeights,
)

Kind = Literal["box", "points", "mask"]

FLIPS_AND_COLOURS = Augmentation(
    crop_scale=(1, 1), crop_ratio=(1, 1), rotate=0, colour=0.2, hue=0.1, colour_probability=0.5
)
"""A flip across, down, both or none, and other colours half of the time."""


class WsiSamWeights(StartWeights):
    """What a WSI-SAM starts from; what it learns begins at random where it is not named.

    Attributes
    ----------
    sam
        The SAM that stays as it is: a published file, or a trained model that has one.
    high, low
        Of both resolutions, as published.
    """

    high: str | None = None
    low: str | None = None

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.high is None) != (self.low is None):
            raise ValueError("high and low were trained together: give both or none")
        return self


class ConstantRate(Rate):
    """AdamW at one rate from the first step to the last."""

    learning_rate: PositiveFloat = 1e-3


class PromptTrainSettings(RunSettings):
    """Settings of a training of WSI-SAM.

    Attributes
    ----------
    objective
        ``prompts``, by which these settings are known.
    objects
        Classes whose areas are objects; all if none is named.
    min_size_px
        Areas of fewer pixels of the patch, in the network's, are not asked for.
    objects_per_patch
        How many of a patch are asked for at once, at most; published is 1.
    kinds
        Of prompts, of which each batch gets one by chance.
    points
        How many are in a prompt of points.
    box_shift, box_resize
        Largest shift of a box's centre and change of its size, as shares of its size.
    high_share
        Of the high resolution in the loss; lambda in the paper.
    paper_compatible
        As published: all areas of a patch are one object, all of the context belongs to it, and
        points and masks of the low resolution are drawn anew from all of the context.
    optimiser
        See there.
    """

    objective: Literal["prompts"]
    weights: str | WsiSamWeights | None = None
    trainable: Literal["decoder"] = "decoder"
    objects: tuple[str, ...] = ()
    min_size_px: Positive = 100
    objects_per_patch: Positive = 4
    kinds: Annotated[tuple[Kind, ...], Field(min_length=1)] = ("box", "points", "mask")
    points: Positive = 10
    box_shift: Share = SHIFT
    box_resize: Share = RESIZE
    high_share: Share = 0.5
    paper_compatible: bool = False
    batch_size: Positive = 1
    accumulate: Literal[1] = 1
    devices: Literal[1] = 1
    epochs: Positive = 20
    optimiser: ConstantRate = ConstantRate()
    augmentation: Augmentation | None = FLIPS_AND_COLOURS

    @model_validator(mode="after")
    def _check(self) -> Self:
        change = self.augmentation
        if change is not None and (change.crop_scale, change.crop_ratio) != ((1, 1), (1, 1)):
            raise ValueError(
                "a crop would move patch and context apart; set augmentation.crop_scale and "
                "augmentation.crop_ratio to [1, 1]"
            )
        return self
