"""Settings of a training of WSI-SAM; the defaults are those of its authors but where it is told."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from wsi_sampath.evaluation.drawn_prompts import RESIZE, SHIFT
from wsi_sampath.settings import Help
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
    """What a WSI-SAM starts from; what it learns begins at random where it is not named."""

    sam: Annotated[
        str, Help("SAM that stays as it is: a published file, or a trained model that has one.")
    ]
    high: Annotated[
        str | None, Help("Published weights of the high resolution; null begins at random.")
    ] = None
    low: Annotated[str | None, Help("Published weights of the low resolution.")] = None

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.high is None) != (self.low is None):
            raise ValueError("high and low were trained together: give both or none")
        return self


class ConstantRate(Rate):
    """AdamW at one rate from the first step to the last."""

    learning_rate: PositiveFloat = 1e-3


class PromptTrainSettings(RunSettings):
    """Settings of a training of WSI-SAM."""

    objective: Annotated[Literal["prompts"], Help("By this a training of a WSI-SAM is known.")]
    weights: str | WsiSamWeights | None = None
    trainable: Literal["decoder"] = "decoder"
    objects: Annotated[
        tuple[str, ...], Help("Classes whose areas are objects; all if none is named.")
    ] = ()
    min_size_px: Annotated[
        Positive, Help("Areas of fewer pixels of the patch, in the network's, are not asked for.")
    ] = 100
    objects_per_patch: Annotated[
        Positive, Help("Objects of a patch asked for at once, at most; published is 1.")
    ] = 4
    kinds: Annotated[
        tuple[Kind, ...],
        Field(min_length=1),
        Help("Kinds of prompts, of which each batch gets one by chance."),
    ] = ("box", "points", "mask")
    points: Annotated[Positive, Help("Points in a prompt of points.")] = 10
    box_shift: Annotated[
        Share, Help("Largest shift of a box's centre, as a share of its size.")
    ] = SHIFT
    box_resize: Annotated[Share, Help("Largest change of a box's size, as a share of it.")] = RESIZE
    high_share: Annotated[
        Share, Help("Share of the high resolution in the loss; lambda in the paper.")
    ] = 0.5
    paper_compatible: Annotated[
        bool,
        Help(
            "As published: all areas of a patch are one object, all of the context belongs to it, "
            "and points and masks of the low resolution are drawn anew from all of the context."
        ),
    ] = False
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
