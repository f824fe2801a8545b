"""Everything that decides a training, in one frozen object read from YAML."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from wsi_sampath.errors import UsageError
from wsi_sampath.models.spec import Frozen
from wsi_sampath.training.losses import LossWeights

Positive = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]

_BASE = "base"
_PATHS = ("model", "data", "out", "weights", "cache_folder")


class PublishedWeights(Frozen):
    """Published encoders a new SAM-Path starts from; files, or names known to ``wsi-models``."""

    sam: str
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
    stain
        Largest relative change of haematoxylin and eosin; 0, as in the paper, for none.
    variants
        How many different versions of a patch there are: epoch e sees version e modulo this. None
        makes a new one every epoch.
    """

    crop_scale: tuple[Share, Share] = (0.08, 1.0)
    crop_ratio: tuple[PositiveFloat, PositiveFloat] = (3 / 4, 4 / 3)
    flip: Share = 0.75
    rotate: Share = 0.5
    colour: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    colour_probability: Share = 0.5
    stain: Annotated[float, Field(ge=0, lt=1)] = 0.0
    variants: Positive | None = None


class Optimiser(Frozen):
    """AdamW and its schedule; the defaults are SAM-Path's for BCSS.

    Attributes
    ----------
    learning_rate, weight_decay
        Of AdamW; the rate is the one after the warm-up.
    warm_up
        Length of the linear rise from 0.
    drops
        When the rate falls to a tenth.
    unit
        Of `warm_up` and `drops`: optimiser steps, or epochs.
    gradient_clip
        Largest norm of the gradient; None, as in the paper, for any.
    """

    learning_rate: PositiveFloat = 1e-4
    weight_decay: NotNegative = 1e-2
    warm_up: NotNegative = 72
    drops: tuple[NotNegative, ...] = (1800, 2088)
    unit: Literal["steps", "epochs"] = "steps"
    gradient_clip: PositiveFloat | None = None


class TrainSettings(Frozen):
    """Settings of a training; the defaults are SAM-Path's for BCSS.

    Attributes
    ----------
    model
        A ``.yaml`` specification, or a trained model (a name or ``.safetensors``) to go on from.
    name
        Of the trained model; None takes that of `model`.
    data
        Folder made by ``wsi-prepare``.
    out
        Folder to write.
    weights
        What to start from: a ``.safetensors`` of this model, or published encoders.
    allow_random_weights
        Start from nothing.
    classes
        ``model``: those of `model`, which the data must have; ``data``: those of the data.
    mpp
        Um per pixel at the network's input, over what `model` says.
    tile
        Side of the network's input, px, over what `model` says; a trained model can only change it
        if it has no absolute positions (as gland-mini).
    trainable
        ``decoder``: as published, with frozen encoders; ``all``: everything.
    side
        Px to which patches are brought before the network, and at which the loss is taken; None is
        the model's tile. The network itself resizes to its tile.
    batch_size, accumulate, epochs
        Patches a step of one device, steps a step of the optimiser, and passes over the data.
    loss, optimiser, augmentation
        See there; `augmentation` None resizes only.
    paper_compatible
        Count unlabelled pixels in the loss, and keep the last epoch, as the published code does.
    keep
        The epoch whose weights become the model: the best by validation macro Dice, or the last.
    patience
        Stop after so many validations without a better one; None never does.
    validate_every
        Epochs between two validations.
    precision
        Of the network; fp16 and bf16 are mixed. The loss is always in fp32.
    cache_features, cache_precision, cache_folder
        Keep the features of frozen encoders on disk; needs `augmentation` None or its `variants`.
        The folder (``OUT/features`` by default) may be shared by several trainings.
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
    data: str
    out: str
    weights: str | PublishedWeights | None = None
    allow_random_weights: bool = False
    classes: Literal["model", "data"] = "model"
    mpp: PositiveFloat | None = None
    tile: Annotated[int, Field(ge=32)] | None = None
    trainable: Literal["decoder", "all"] = "decoder"
    side: Annotated[int, Field(ge=32)] | None = None
    batch_size: Positive = 12
    accumulate: Positive = 2
    epochs: Positive = 32
    loss: LossWeights = LossWeights()
    optimiser: Optimiser = Optimiser()
    augmentation: Augmentation | None = Augmentation()
    paper_compatible: bool = False
    keep: Literal["best", "last"] = "best"
    patience: Positive | None = None
    validate_every: Positive = 1
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    cache_features: bool = False
    cache_precision: Literal["fp16", "fp32"] = "fp16"
    cache_folder: str | None = None
    device: str = "auto"
    devices: Positive = 1
    workers: Annotated[int, Field(ge=0)] = 4
    seed: Annotated[int, Field(ge=0)] = 0
    deterministic: bool = False
    pictures: Annotated[int, Field(ge=0)] = 6
    store: Literal["fp16", "fp32"] = "fp16"

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


# What may differ between two runs that must still give the same weights.
_IRRELEVANT = {
    "data",
    "out",
    "cache_features",
    "cache_folder",
    "device",
    "workers",
    "pictures",
    "weights",
    "model",
    "allow_random_weights",
}


def deciding(settings: TrainSettings) -> dict[str, Any]:
    """Return the settings that decide the weights, as plain JSON values.

    Files are left out: what is in them counts, not where they are.
    """
    return settings.model_dump(mode="json", exclude=_IRRELEVANT)


def read_settings(path: Path, overrides: Sequence[str] = ()) -> TrainSettings:
    """Read settings from a YAML file and ``key=value`` texts, which come last.

    The file may name another one as its ``base`` and then only says what differs. Paths in a file
    are relative to its folder, those in `overrides` to the current one.

    Parameters
    ----------
    path
        The YAML file.
    overrides
        As ``epochs=3`` or ``loss.iou=0``; values are YAML.

    Raises
    ------
    UsageError
        If a file cannot be read or a setting is wrong or missing; for unknown ones the nearest
        known name is told.
    """
    values = _read(path, ())
    for text in overrides:
        key, value = _override(text)
        values = merged(values, _nested(key.split("."), value))
    try:
        return TrainSettings.model_validate(values)
    except ValidationError as error:
        raise UsageError(_explained(error.errors()[0], values), subject=str(path)) from None


def merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return `values` with `changes` put in; mappings are merged, all else is replaced.

    Examples
    --------
    >>> merged({"loss": {"dice": 1, "iou": 2}}, {"loss": {"iou": 0}})
    {'loss': {'dice': 1, 'iou': 0}}
    """
    out = dict(values)
    for name, change in changes.items():
        old = out.get(name)
        if isinstance(old, Mapping) and isinstance(change, Mapping):
            out[name] = merged(old, change)
        else:
            out[name] = change
    return out


def _read(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"cannot be read: {error}", subject=str(path)) from error
    if not isinstance(values, dict):
        raise UsageError("holds no settings (key: value lines)", subject=str(path))
    own = _resolved(values, path.parent)
    base = own.pop(_BASE, None)
    if base is None:
        return own
    parent = path.parent / str(base)
    if parent.resolve() in seen or parent.resolve() == path.resolve():
        raise UsageError(f"its base {base} leads back to itself", subject=str(path))
    return merged(_read(parent, (*seen, path.resolve())), own)


def _resolved(values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return the values with the paths that exist beside the file made independent of where."""

    def beside(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: beside(one) for name, one in value.items()}
        here = folder / value if isinstance(value, str) else None
        return str(here) if here is not None and here.exists() else value

    return {name: beside(value) if name in _PATHS else value for name, value in values.items()}


def _override(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not all(key.split(".")):
        raise UsageError(f"{text!r} is not of the form key=value, as epochs=3 or loss.iou=0")
    try:
        return key, yaml.safe_load(value)
    except yaml.YAMLError:
        raise UsageError(f"{text!r}: the value is no YAML; put it in quotes") from None


def _nested(keys: list[str], value: Any) -> dict[str, Any]:
    return {keys[0]: _nested(keys[1:], value) if keys[1:] else value}


def _explained(error: ErrorDetails, values: Mapping[str, Any]) -> str:
    where = [str(part) for part in error["loc"]]
    if error["type"] == "missing":
        return f"setting {where[-1]} is missing: add {where[-1]}=... to the command"
    if error["type"] != "extra_forbidden":
        return f"setting {'.'.join(where) or 'file'}: {error['msg']}"
    near = difflib.get_close_matches(where[-1], _known(where[:-1]), n=1, cutoff=0.0)
    return f"unknown setting '{'.'.join(where)}'; did you mean '{'.'.join([*where[:-1], *near])}'?"


_PARTS: dict[str, type[Frozen] | type[LossWeights]] = {
    "loss": LossWeights,
    "optimiser": Optimiser,
    "augmentation": Augmentation,
    "weights": PublishedWeights,
    "PublishedWeights": PublishedWeights,
}


def _known(where: list[str]) -> list[str]:
    part = _PARTS.get(where[-1], TrainSettings) if where else TrainSettings
    return list(part.model_fields)
