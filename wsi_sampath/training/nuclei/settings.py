"""Settings of a training of PathoSAM; the defaults are those of its authors."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from wsi_sampath.settings import Frozen, Help
from wsi_sampath.training.settings import (
    Augmentation,
    Positive,
    PositiveFloat,
    Rate,
    RunSettings,
    Share,
    StartWeights,
)

FLIPS = Augmentation(crop_scale=(1, 1), crop_ratio=(1, 1), rotate=0, colour_probability=0)
"""A flip across, down, both or none, each as often as the others."""


class PathoSamWeights(StartWeights):
    """Published files a PathoSAM starts from; a decoder that is not named starts at random."""

    sam: Annotated[
        str, Help("SAM to start from, or a checkpoint of PathoSAM's authors that has decoders too.")
    ]
    decoder: Annotated[
        str | None, Help("Published nucleus decoder to start from; null begins at random.")
    ] = None
    class_decoder: Annotated[
        str | None, Help("Published decoder of classes to start from; null begins at class_start.")
    ] = None


class PromptSettings(Frozen):
    """How objects are asked for in training."""

    objects: Annotated[
        Positive,
        Help("Objects of a patch, at most; published with 40 for ViT-B, 30 for L and 25 for H."),
    ] = 40
    rounds: Annotated[
        Positive, Help("Answers to each of them, every one after a correction of the last.")
    ] = 8
    mask_share: Annotated[
        Share, Help("Probability that a round is also given the last answer as a mask.")
    ] = 0.5
    box_noise: Annotated[
        Share, Help("Sides of a box move outwards by up to this share of its size.")
    ] = 0.025


class Plateau(Rate):
    """AdamW, and a rate that falls where validation does not improve."""

    learning_rate: PositiveFloat = 1e-5
    factor: Annotated[float, Field(gt=0, lt=1), Help("What a falling rate is multiplied with.")] = (
        0.9
    )
    patience: Annotated[
        Positive,
        Help("Validations without a better one before the rate falls; published 5 for classes."),
    ] = 10


class NucleiSettings(RunSettings):
    """Settings of a training of PathoSAM."""

    objective: Annotated[
        Literal["nuclei", "classes"],
        Help(
            "nuclei: the nucleus decoder, and with prompting what answers prompts; classes: the "
            "decoder of classes alone."
        ),
    ]
    weights: str | PathoSamWeights | None = None
    trainable: Literal["decoder", "all"] = "all"
    prompting: Annotated[
        PromptSettings | None,
        Help("How prompts are trained, in turn with the decoder; null leaves them out."),
    ] = PromptSettings()
    class_start: Annotated[
        Literal["random", "nuclei"],
        Help(
            "Where a decoder of classes starts that the weights lack: at random, or as the nucleus "
            "decoder but for its last layer."
        ),
    ] = "random"
    min_nuclei: Annotated[
        int, Field(ge=0), Help("A random crop with fewer nuclei of min_size_px is drawn again.")
    ] = 3
    min_size_px: Annotated[Positive, Help("Pixels of a nucleus that counts there.")] = 10
    batch_size: Positive = 2
    accumulate: Literal[1] = 1
    devices: Literal[1] = 1
    epochs: Positive = 100
    optimiser: Plateau = Plateau()
    augmentation: Augmentation | None = FLIPS

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.prompting is not None and (self.objective, self.trainable) != ("nuclei", "all"):
            raise ValueError(
                "prompts are trained with objective: nuclei and trainable: all; set prompting=null"
            )
        return self
