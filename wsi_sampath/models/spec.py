"""What a model is, in data: read from YAML, kept in checkpoint headers, refused if misspelt."""

from __future__ import annotations

import difflib
import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from wsi_sampath.classes import ClassName, check_class_names
from wsi_sampath.errors import WsiError

Triple = tuple[float, float, float]
Positive = Annotated[int, Field(gt=0)]

IMAGENET_MEAN: Triple = (0.485, 0.456, 0.406)
IMAGENET_STD: Triple = (0.229, 0.224, 0.225)

SAM_SIZES: dict[str, dict[str, Any]] = {
    "vit_b": {
        "embed_dim": 768,
        "depth": 12,
        "num_heads": 12,
        "global_attn_indexes": (2, 5, 8, 11),
    },
    "vit_l": {
        "embed_dim": 1024,
        "depth": 24,
        "num_heads": 16,
        "global_attn_indexes": (5, 11, 17, 23),
    },
    "vit_h": {
        "embed_dim": 1280,
        "depth": 32,
        "num_heads": 16,
        "global_attn_indexes": (7, 15, 23, 31),
    },
}
TIMM_PREFIX = "timm:"


class Frozen(BaseModel):
    """Settings that refuse unknown keys and never change."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ClassSpec(Frozen):
    """One class of the output, in the order of the label values 1..k."""

    name: ClassName
    color: Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")]


class SamSpec(Frozen):
    """Sizes of a SAM image encoder; the YAML may say ``vit_b``, ``vit_l`` or ``vit_h`` instead."""

    embed_dim: Positive
    depth: Positive
    num_heads: Positive
    global_attn_indexes: tuple[int, ...]
    window_size: Annotated[int, Field(ge=0)] = 14
    patch: Positive = 16
    mlp_ratio: Annotated[float, Field(gt=0)] = 4.0
    absolute_positions: bool = True

    @model_validator(mode="before")
    @classmethod
    def _expand_size(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        if value not in SAM_SIZES:
            raise ValueError(f"SAM size '{value}' is not one of {', '.join(SAM_SIZES)}")
        return SAM_SIZES[value]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.embed_dim % self.num_heads:
            raise ValueError("embed_dim must be a multiple of num_heads")
        if any(not 0 <= index < self.depth for index in self.global_attn_indexes):
            raise ValueError(f"global_attn_indexes must lie in 0..{self.depth - 1}")
        return self


class VitSpec(Frozen):
    """Sizes of a plain vision transformer with one class token and learned positions."""

    embed_dim: Positive
    depth: Positive
    num_heads: Positive
    patch: Positive = 16
    mlp_ratio: Annotated[float, Field(gt=0)] = 4.0
    position_grid: Positive = 14


HIPT_VIT = VitSpec(embed_dim=384, depth=12, num_heads=6)


class PathologySpec(Frozen):
    """The second encoder: ``hipt_vits16``, ``timm:NAME`` or explicit ViT sizes.

    `mean` and `std` are the statistics this encoder was trained with; images are re-normalised to
    them. `stride` (input px a feature) picks the stage of a convolutional timm model; a vision
    transformer has the stride of its patches and ignores it.
    """

    encoder: str | VitSpec = "hipt_vits16"
    mean: Triple = (0.5, 0.5, 0.5)
    std: Triple = (0.5, 0.5, 0.5)
    stride: Positive = 16
    options: dict[str, int | float | str | bool | tuple[int, ...]] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _expand_name(cls, value: object) -> object:
        return {"encoder": value} if isinstance(value, str) else value

    @field_validator("encoder")
    @classmethod
    def _known(cls, value: str | VitSpec) -> str | VitSpec:
        if isinstance(value, str) and value != "hipt_vits16" and not value.startswith(TIMM_PREFIX):
            raise ValueError(f"'{value}' is neither hipt_vits16 nor {TIMM_PREFIX}NAME")
        return value


class DecoderSpec(Frozen):
    """Sizes of the two-way mask decoder; the defaults are SAM's."""

    dim: Annotated[int, Field(gt=0, multiple_of=8)] = 256
    depth: Positive = 2
    num_heads: Positive = 8
    mlp_dim: Positive = 2048


class ModelSpec(Frozen):
    """Everything needed to build a model and to feed it.

    Attributes
    ----------
    name
        Name in reports and in the zoo.
    architecture
        ``sam_path``.
    classes
        The k real classes; label value i + 1 is ``classes[i]``, 0 means "not analysed".
    mpp
        Microns per pixel of the network's input.
    tile
        Side of the square network input, px.
    output_stride
        Input pixels per output pixel, along each axis.
    sam, pathology
        The two encoders; one of them may be absent (the ablations of the paper).
    decoder
        Sizes of the mask decoder.
    mean, std
        Normalisation of RGB in 0..1 before the network.
    """

    name: Annotated[str, Field(min_length=1)]
    architecture: Literal["sam_path"] = "sam_path"
    classes: Annotated[tuple[ClassSpec, ...], Field(min_length=1, max_length=254)]
    mpp: Annotated[float, Field(gt=0)]
    tile: Positive = 1024
    output_stride: Literal[4] = 4
    sam: SamSpec | None = None
    pathology: PathologySpec | None = None
    decoder: DecoderSpec = DecoderSpec()
    mean: Triple = IMAGENET_MEAN
    std: Triple = IMAGENET_STD
    description: str = ""
    licence: str = ""
    training_data: str = ""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.sam is None and self.pathology is None:
            raise ValueError("a model needs a sam encoder, a pathology encoder or both")
        if self.tile % self.patch:
            raise ValueError(f"tile must be a multiple of {self.patch} px")
        check_class_names(one.name for one in self.classes)
        return self

    @property
    def patch(self) -> int:
        """Input pixels per cell of the decoder's grid."""
        return self.sam.patch if self.sam else 4 * self.output_stride

    @property
    def grid(self) -> int:
        """Cells per side of the decoder's grid."""
        return self.tile // self.patch

    @property
    def num_channels(self) -> int:
        """Channels of the logits: the ignored channel 0 and the k classes."""
        return len(self.classes) + 1

    def to_json(self) -> str:
        """Return the specification as one line of JSON, as kept in a checkpoint header."""
        return self.model_dump_json()

    @classmethod
    def from_json(cls, text: str, *, subject: str = "") -> Self:
        """Read `to_json`'s text.

        Raises
        ------
        WsiError
            ``bad-model`` if the text is no valid specification.
        """
        try:
            values = json.loads(text)
        except ValueError as error:
            raise WsiError(
                "bad-model", f"its model description is no JSON ({error})", subject=subject
            ) from error
        return cls._validated(values, subject)

    @classmethod
    def from_yaml(cls, path: str | Path) -> Self:
        """Read a specification from a YAML file.

        Raises
        ------
        WsiError
            ``bad-model`` if the file is missing, is no YAML, or misses or misspells a key.
        """
        try:
            values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise WsiError("bad-model", f"cannot be read: {error}", subject=str(path)) from error
        return cls._validated(values, str(path))

    def to_yaml(self, path: str | Path) -> None:
        """Write the specification so that `from_yaml` returns an equal one."""
        values = self.model_dump(mode="json")
        Path(path).write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")

    @classmethod
    def _validated(cls, values: object, subject: str) -> Self:
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            lines = "; ".join(_explain(one) for one in error.errors()[:3])
            raise WsiError("bad-model", lines, subject=subject) from error


_PARTS: dict[str, type[Frozen]] = {
    "classes": ClassSpec,
    "sam": SamSpec,
    "pathology": PathologySpec,
    "decoder": DecoderSpec,
    "encoder": VitSpec,
}


def _explain(error: ErrorDetails) -> str:
    where = [str(part) for part in error["loc"]]
    if error["type"] != "extra_forbidden":
        return f"{'.'.join(where) or 'model'}: {error['msg']}"
    known = list(_fields_at(where[:-1]))
    near = difflib.get_close_matches(where[-1], known, n=1, cutoff=0.0)
    return f"unknown key '{'.'.join(where)}'; did you mean '{near[0]}'?"


def _fields_at(where: list[str]) -> dict[str, Any]:
    part: type[Frozen] = ModelSpec
    for name in where:
        part = _PARTS.get(name, part)
    return part.model_fields


def nearest_multiple(value: int, unit: int) -> int:
    """Return the positive multiple of `unit` nearest to `value` (the lower one on a tie)."""
    return max(1, math.ceil(value / unit - 0.5)) * unit
