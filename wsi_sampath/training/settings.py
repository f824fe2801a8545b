"""Everything that decides a training, in one frozen object: what all have, and SAM-Path's own."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from wsi_sampath.models.limits import Text
from wsi_sampath.settings import Frozen, Help
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

    sam: Annotated[str, Help("Published SAM to start from: a name of wsi-models list, or a file.")]

    @property
    def given(self) -> dict[str, str]:
        """The files that are named, by their role."""
        return self.model_dump(exclude_none=True)


class PublishedWeights(StartWeights):
    """Published encoders a new SAM-Path starts from."""

    pathology: Annotated[
        str | None, Help("Published pathology encoder to start from: a name, or a file.")
    ] = None


class Augmentation(Frozen):
    """Random changes of training patches; the defaults are SAM-Path's."""

    crop_scale: Annotated[
        tuple[PositiveShare, PositiveShare],
        Help("Area, as a share of the patch, of the random crop that is resized to the side."),
    ] = (0.08, 1.0)
    crop_ratio: Annotated[
        tuple[PositiveFloat, PositiveFloat], Help("Width by height of that crop, from and to.")
    ] = (0.75, 4 / 3)
    flip: Annotated[Share, Help("Probability of a flip: across, down or both.")] = 0.75
    rotate: Annotated[Share, Help("Probability of a turn by 0, 90, 180 or 270 degrees.")] = 0.5
    colour: Annotated[
        float,
        Field(ge=0, le=0.5),
        Help("Largest change of brightness, contrast, saturation and hue."),
    ] = 0.1
    hue: Annotated[
        Annotated[float, Field(ge=0, le=0.5)] | None,
        Help("Largest change of the hue; null takes that of colour."),
    ] = None
    colour_probability: Annotated[Share, Help("How often colours are changed.")] = 0.5
    stain: Annotated[
        float,
        Field(ge=0, lt=1),
        Help("Largest relative change of haematoxylin and eosin; 0, as in the paper, for none."),
    ] = 0.0
    variants: Annotated[
        Positive | None,
        Help("How many versions of a patch there are, in turn; null makes a new one every epoch."),
    ] = None

    @field_validator("crop_scale", "crop_ratio")
    @classmethod
    def _ascending(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] > value[1]:
            raise ValueError("the lower end comes first")
        return value


class Rate(Frozen):
    """AdamW, as every training has it."""

    learning_rate: Annotated[PositiveFloat, Help("Rate of AdamW, after a warm-up if there is one.")]
    weight_decay: Annotated[NotNegative, Help("Weight decay of AdamW.")] = 1e-2


class Optimiser(Rate):
    """AdamW and its schedule; the defaults are SAM-Path's for BCSS."""

    learning_rate: PositiveFloat = 1e-4
    warm_up: Annotated[NotNegative, Help("Length of the linear rise from 0, in units.")] = 72
    drops: Annotated[
        tuple[NotNegative, ...], Help("When the rate falls to a tenth, in units; in any order.")
    ] = (1800, 2088)
    unit: Annotated[
        Literal["steps", "epochs"], Help("Unit of warm_up and drops: optimiser steps, or epochs.")
    ] = "steps"
    gradient_clip: Annotated[
        PositiveFloat | None, Help("Largest norm of the gradient; null, as in the paper, for any.")
    ] = None


class RunSettings(Frozen):
    """Settings that every training has; each field says by its `Help` what it is."""

    model: Annotated[
        str,
        Help("A .yaml specification, or a trained model (a name or .safetensors) to go on from."),
    ]
    name: Annotated[
        str | None, Help("Name of the trained model; null takes that of the model it starts from.")
    ] = None
    description: Annotated[
        Text | None,
        Help("What the trained model says of itself [its origin and data]."),
    ] = None
    licence: Annotated[
        Text | None,
        Help("Licence of the trained model; null states none: that of the first is not about it."),
    ] = None
    data: Annotated[str, Help("Folder made by wsi-prepare.")]
    out: Annotated[str, Help("Folder to write; the same one resumes an interrupted training.")]
    weights: Annotated[
        str | StartWeights | None,
        Help("What to start from: a .safetensors of this model, or published files by their role."),
    ] = None
    allow_random_weights: Annotated[bool, Help("Start from nothing if no weights are named.")] = (
        False
    )
    classes: Annotated[
        Literal["model", "data"],
        Help("model: the classes of the model, which the data must have; data: those of the data."),
    ] = "model"
    mpp: Annotated[
        PositiveFloat | None,
        Help("Microns per pixel at the network's input, over what the model says."),
    ] = None
    tile: Annotated[
        Annotated[int, Field(ge=32)] | None,
        Help(
            "Side of the network's input, px, over what the model says; of trained models only a "
            "SAM-Path without absolute positions (as gland-mini) can change it."
        ),
    ] = None
    trainable: Annotated[
        Literal["decoder", "all"],
        Help("decoder: encoders are frozen; all: they learn as well."),
    ]
    batch_size: Annotated[Positive, Help("Patches a step of one device.")]
    accumulate: Annotated[Positive, Help("Batches a step of the optimiser.")]
    epochs: Annotated[Positive, Help("Passes over the training patches.")]
    optimiser: Annotated[Rate, Help("How fast is learned.")]
    augmentation: Annotated[
        Augmentation | None, Help("Random changes of training patches; null for none.")
    ]
    keep: Annotated[
        Literal["best", "last"],
        Help(
            "Epoch whose weights become the model: the best on the validation split, or the last."
        ),
    ] = "best"
    patience: Annotated[
        Positive | None,
        Help("Stop after so many validations without a better one; null never does."),
    ] = None
    validate_every: Annotated[Positive, Help("Epochs from one validation to the next.")] = 1
    precision: Annotated[
        Literal["fp32", "fp16", "bf16"],
        Help("Precision of the network; fp16 and bf16 are mixed, and the loss is always in fp32."),
    ] = "fp32"
    device: Annotated[str, Help("Where to train: auto, cpu, cuda, cuda:N or mps.")] = "auto"
    devices: Annotated[Positive, Help("Number of such devices.")] = 1
    workers: Annotated[
        int, Field(ge=0), Help("Processes that read patches; 0 reads in the main one.")
    ] = 4
    seed: Annotated[
        int,
        Field(ge=0, lt=_SEEDS),
        Help("Seed of initial weights, of the order of patches and of their augmentation."),
    ] = 0
    deterministic: Annotated[
        bool, Help("Only bit-reproducible kernels on a GPU, which is slower.")
    ] = False
    pictures: Annotated[
        int, Field(ge=0), Help("Validation patches shown in the picture of every validation.")
    ] = 6
    store: Annotated[Literal["fp16", "fp32"], Help("Precision of the final file.")] = "fp16"

    @property
    def keeps_last(self) -> bool:
        """Whether the last epoch's weights become the model."""
        return self.keep == "last"

    @property
    def gradient_clip(self) -> float | None:
        """Largest norm of the gradient, where Lightning is to see to it."""
        return None


class TrainSettings(RunSettings):
    """Settings of a training of SAM-Path; the defaults are those for BCSS."""

    weights: str | PublishedWeights | None = None
    trainable: Literal["decoder", "all"] = "decoder"
    side: Annotated[
        Annotated[int, Field(ge=32)] | None,
        Help("Px to which patches are brought, and at which the loss is taken [the model's tile]."),
    ] = None
    batch_size: Positive = 12
    accumulate: Positive = 2
    epochs: Positive = 32
    loss: Annotated[LossWeights, Help("What the loss is summed of.")] = LossWeights()
    optimiser: Optimiser = Optimiser()
    augmentation: Augmentation | None = Augmentation()
    paper_compatible: Annotated[
        bool,
        Help("As published: count unlabelled pixels in the loss, and keep the last epoch."),
    ] = False
    cache_features: Annotated[
        bool,
        Help(
            "Keep the features of frozen encoders on disk; needs augmentation null or its variants."
        ),
    ] = False
    cache_precision: Annotated[
        Literal["fp16", "fp32"],
        Help("Precision of kept features; rounded to fp16 they change the weights a little."),
    ] = "fp16"
    cache_folder: Annotated[
        str | None, Help("Folder of kept features [OUT/features]; trainings may share it.")
    ] = None

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
