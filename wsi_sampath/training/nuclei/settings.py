"""Settings of a training of PathoSAM; the defaults are those of its authors."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from wsi_sampath.settings import Frozen
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
    """Published files a PathoSAM starts from; a decoder that is not named starts at random.

    Attributes
    ----------
    sam
        SAM's weights, or a checkpoint of PathoSAM's authors that holds the nucleus decoder as well.
    decoder, class_decoder
        Of nuclei, and of their classes.
    """

    decoder: str | None = None
    class_decoder: str | None = None


class PromptSettings(Frozen):
    """How objects are asked for in training.

    Attributes
    ----------
    objects
        How many of a patch, at most; published with 40 for ViT-B, 30 for L and 25 for H.
    rounds
        Answers to each of them, every one after a correction of the last.
    mask_share
        Probability that a round is also given the last answer as a mask.
    box_noise
        Sides of a box move outwards by up to this share of its size.
    """

    objects: Positive = 40
    rounds: Positive = 8
    mask_share: Share = 0.5
    box_noise: Share = 0.025


class Plateau(Rate):
    """AdamW, and a rate that falls where validation does not improve.

    Attributes
    ----------
    learning_rate, weight_decay
        Of AdamW.
    factor
        What the rate is multiplied with.
    patience
        Validations without improvement that are waited for; 5 for classes, as published.
    """

    learning_rate: PositiveFloat = 1e-5
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.9
    patience: Positive = 10


class NucleiSettings(RunSettings):
    """Settings of a training of PathoSAM.

    Attributes
    ----------
    objective
        ``nuclei``: the nucleus decoder, and with `prompting` what answers prompts; ``classes``: the
        decoder of classes alone.
    trainable
        ``all``: the encoder as well; ``decoder``: nothing but the decoder.
    prompting
        How prompts are trained, in turn with the decoder; None leaves them out.
    class_start
        Where a decoder of classes starts that the weights do not have: ``random``, or as the
        ``nuclei`` decoder but for its last layer.
    min_nuclei, min_size_px
        A random crop with fewer nuclei of this size is drawn again.
    optimiser
        See there.
    """

    objective: Literal["nuclei", "classes"]
    weights: str | PathoSamWeights | None = None
    trainable: Literal["decoder", "all"] = "all"
    prompting: PromptSettings | None = PromptSettings()
    class_start: Literal["random", "nuclei"] = "random"
    min_nuclei: Annotated[int, Field(ge=0)] = 3
    min_size_px: Positive = 10
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
