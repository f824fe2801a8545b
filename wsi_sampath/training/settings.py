"""Everything that decides a training, in one frozen object: what all have, and SAM-Path's own."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from wsi_sampath.models.limits import Text
from wsi_sampath.settings import Frozen
from wsi_sampath.training.losses import LossWeights

Positive = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
PositiveShare = Annotated[float, Field(gt=0, le=1)]
_SEEDS = 1 << 32
"""Numpy's old generator, which Lightning seeds too, knows no more."""


class StartWeights(Frozen):
    """Published files that a new model starts from; files, or names known to ``wsi-models``."""

    sam: str

    @property
    def given(self) -> dict[str, str]:
        """The files that are named, by their role."""
        return self.model_dump(exclude_none=True)


class PublishedWeights(StartWeights):
    """Published encoders a new SAM-Path starts from."""

    pathology: str | None = None


class Augmentation(Frozen):
    """Random changes of training patches; the defaults are SAM-Path's.

    Attributes
    ----------
    crop_scale, crop_ratio
        Area (share of the patch) and aspect of the random crop that is resized to the side.
    flip
        Probability of a flip: horizontal, vertical or both.
    rotate
        Probability of a rotation by 0, 90, 180 or 270 degrees.
    colour, colour_probability
        Largest change of brightness, contrast, saturation and hue, and how often.
    hue
        Largest change of hue, where that is not `colour`.
    stain
        Largest relative change of haematoxylin and eosin; 0, as in the paper, for none.
    variants
        How many different versions of a patch there are: epoch e sees version e modulo this. None
        makes a new one every epoch.
    """

    crop_scale: tuple[PositiveShare, PositiveShare] = (0.08, 1.0)
    crop_ratio: tuple[PositiveFloat, PositiveFloat] = (3 / 4, 4 / 3)
    flip: Share = 0.75
    rotate: Share = 0.5
    colour: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    hue: Annotated[float, Field(ge=0, le=0.5)] | None = None
    colour_probability: Share = 0.5
    stain: Annotated[float, Field(ge=0, lt=1)] = 0.0
    variants: Positive | None = None

    @field_validator("crop_scale", "crop_ratio")
    @classmethod
    def _ascending(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] > value[1]:
            raise ValueError("the lower end comes first")
        return value


class Rate(Frozen):
    """AdamW, as every training has it."""

    learning_rate: PositiveFloat
    weight_decay: NotNegative = 1e-2


class Optimiser(Rate):
    """AdamW and its schedule; the defaults are SAM-Path's for BCSS.

    Attributes
    ----------
    learning_rate
        The one after the warm-up.
    warm_up
        Length of the linear rise from 0.
    drops
        When the rate falls to a tenth; in any order.
    unit
        Of `warm_up` and `drops`: optimiser steps, or epochs.
    gradient_clip
        Largest norm of the gradient; None, as in the paper, for any.
    """

    learning_rate: PositiveFloat = 1e-4
    warm_up: NotNegative = 72
    drops: tuple[NotNegative, ...] = (1800, 2088)
    unit: Literal["steps", "epochs"] = "steps"
    gradient_clip: PositiveFloat | None = None


class RunSettings(Frozen):
    """Settings that every training has.

    Attributes
    ----------
    model
        A ``.yaml`` specification, or a trained model (a name or ``.safetensors``) to go on from.
    name
        Of the trained model; None takes that of `model`.
    description, licence
        What the trained model says of itself. Without them it says what it was trained from and
        on, and its licence is not stated: that of `model` is about other weights.
    data
        Folder made by ``wsi-prepare``.
    out
        Folder to write.
    weights
        What to start from: a ``.safetensors`` of this model, or published files.
    allow_random_weights
        Start from nothing.
    classes
        ``model``: those of `model`, which the data must have; ``data``: those of the data.
    mpp
        Um per pixel at the network's input, over what `model` says.
    tile
        Side of the network's input, px, over what `model` says; a trained model can only change it
        if it is a SAM-Path without absolute positions (as gland-mini).
    batch_size, accumulate, epochs
        Patches a step of one device, steps a step of the optimiser, and passes over the data.
    augmentation
        See there; None changes nothing.
    keep
        The epoch whose weights become the model: the best on the validation split, or the last.
    patience
        Stop after so many validations without a better one; None never does.
    validate_every
        Epochs between two validations.
    precision
        Of the network; fp16 and bf16 are mixed. The loss is always in fp32.
    device, devices
        Where to train: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``; and on how many.
    workers
        Processes that read patches; 0 reads in the main one.
    seed
        Of the initial weights, of the order of the patches and of their augmentation.
    deterministic
        Only bit-reproducible kernels on a GPU; slower.
    pictures
        Validation patches shown in the picture of every validation.
    store
        Precision of the final file.
    """

    model: str
    name: str | None = None
    description: Text | None = None
    licence: Text | None = None
    data: str
    out: str
    weights: str | StartWeights | None = None
    allow_random_weights: bool = False
    classes: Literal["model", "data"] = "model"
    mpp: PositiveFloat | None = None
    tile: Annotated[int, Field(ge=32)] | None = None
    trainable: Literal["decoder", "all"]
    batch_size: Positive
    accumulate: Positive
    epochs: Positive
    optimiser: Rate
    augmentation: Augmentation | None
    keep: Literal["best", "last"] = "best"
    patience: Positive | None = None
    validate_every: Positive = 1
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    device: str = "auto"
    devices: Positive = 1
    workers: Annotated[int, Field(ge=0)] = 4
    seed: Annotated[int, Field(ge=0, lt=_SEEDS)] = 0
    deterministic: bool = False
    pictures: Annotated[int, Field(ge=0)] = 6
    store: Literal["fp16", "fp32"] = "fp16"

    @property
    def keeps_last(self) -> bool:
        """Whether the last epoch's weights become the model."""
        return self.keep == "last"

    @property
    def gradient_clip(self) -> float | None:
        """Largest norm of the gradient, where Lightning is to see to it."""
        return None


class TrainSettings(RunSettings):
    """Settings of a training of SAM-Path; the defaults are those for BCSS.

    Attributes
    ----------
    trainable
        ``decoder``: as published, with frozen encoders; ``all``: everything.
    side
        Px to which patches are brought before the network, and at which the loss is taken; None is
        the model's tile. The network itself resizes to its tile.
    loss, optimiser
        See there.
    paper_compatible
        Count unlabelled pixels in the loss, and keep the last epoch, as the published code does.
    cache_features, cache_precision, cache_folder
        Keep the features of frozen encoders on disk; needs `augmentation` None or its `variants`.
        Kept in fp16 they are rounded, so that the weights come out a little different. The folder
        (``OUT/features`` by default) may be shared by several trainings.
    """

    weights: str | PublishedWeights | None = None
    trainable: Literal["decoder", "all"] = "decoder"
    side: Annotated[int, Field(ge=32)] | None = None
    batch_size: Positive = 12
    accumulate: Positive = 2
    epochs: Positive = 32
    loss: LossWeights = LossWeights()
    optimiser: Optimiser = Optimiser()
    augmentation: Augmentation | None = Augmentation()
    paper_compatible: bool = False
    cache_features: bool = False
    cache_precision: Literal["fp16", "fp32"] = "fp16"
    cache_folder: str | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.cache_features:
            return self
        if self.trainable == "all":
            raise ValueError("cache_features needs frozen encoders (trainable: decoder)")
        if self.augmentation is not None and self.augmentation.variants is None:
            raise ValueError(
                "cache_features needs a fixed augmentation: augmentation=null, or "
                "augmentation.variants=N"
            )
        return self

    @property
    def keeps_last(self) -> bool:
        """Whether the last epoch's weights become the model."""
        return self.paper_compatible or self.keep == "last"

    @property
    def gradient_clip(self) -> float | None:
        """Largest norm of the gradient."""
        return self.optimiser.gradient_clip


# What may differ between two runs that must still give the same weights.
_IRRELEVANT = {
    "data",
    "out",
    "cache_folder",
    "device",
    "workers",
    "pictures",
    "weights",
    "model",
    "allow_random_weights",
    "description",
    "licence",
}


def deciding(settings: RunSettings) -> dict[str, Any]:
    """Return the settings that decide the weights, as plain JSON values.

    Files are left out: what is in them counts, not where they are.
    """
    return settings.model_dump(mode="json", exclude=_IRRELEVANT)
