"""What a model is, in data: read from YAML, kept in checkpoint headers, refused if misspelt."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from wsi_sampath.classes import ClassSpec, check_class_names
from wsi_sampath.errors import WsiError
from wsi_sampath.models.limits import (
    MAX_GRID,
    MAX_HEADER_TEXT,
    MAX_NAME,
    Channels,
    Depth,
    Mpp,
    Name,
    PatchSide,
    Positive,
    Ratio,
    Side,
    Std,
    Text,
    Triple,
    unique_object,
    wrong_option,
)
from wsi_sampath.settings import Frozen, did_you_mean
from wsi_sampath.yaml_files import read_yaml

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


def _check_heads(channels: int, heads: int) -> None:
    if channels % heads:
        raise ValueError("embed_dim must be a multiple of num_heads")


class SamSpec(Frozen):
    """Sizes of a SAM image encoder; the YAML may say ``vit_b``, ``vit_l`` or ``vit_h`` instead."""

    embed_dim: Channels
    depth: Depth
    num_heads: Channels
    global_attn_indexes: tuple[int, ...]
    window_size: Annotated[int, Field(ge=0, le=MAX_GRID)] = 14
    patch: PatchSide = 16
    mlp_ratio: Ratio = 4.0
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
        _check_heads(self.embed_dim, self.num_heads)
        if any(not 0 <= index < self.depth for index in self.global_attn_indexes):
            raise ValueError(f"global_attn_indexes must lie in 0..{self.depth - 1}")
        return self


class VitSpec(Frozen):
    """Sizes of a plain vision transformer with one class token and learned positions."""

    embed_dim: Channels
    depth: Depth
    num_heads: Channels
    patch: PatchSide = 16
    mlp_ratio: Ratio = 4.0
    position_grid: Annotated[Positive, Field(le=MAX_GRID)] = 14

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_heads(self.embed_dim, self.num_heads)
        return self


HIPT_VIT = VitSpec(embed_dim=384, depth=12, num_heads=6)


Option = int | float | str | bool | tuple[int, ...]


class PathologySpec(Frozen):
    """The second encoder: ``hipt_vits16``, ``timm:NAME`` or explicit ViT sizes.

    `mean` and `std` are the statistics this encoder was trained with; images are re-normalised to
    them. `stride` (input px a feature) picks the stage of a convolutional timm model; a vision
    transformer has the stride of its patches and ignores it.
    """

    encoder: str | VitSpec = "hipt_vits16"
    mean: Triple = (0.5, 0.5, 0.5)
    std: Std = (0.5, 0.5, 0.5)
    stride: PatchSide = 16
    options: dict[str, Option] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _expand_name(cls, value: object) -> object:
        return {"encoder": value} if isinstance(value, str) else value

    @field_validator("encoder")
    @classmethod
    def _known(cls, value: str | VitSpec) -> str | VitSpec:
        if isinstance(value, str) and len(value) > MAX_NAME:
            raise ValueError(f"is a name of more than {MAX_NAME} characters")
        if isinstance(value, str) and value != "hipt_vits16" and not value.startswith(TIMM_PREFIX):
            raise ValueError(f"'{value[:MAX_NAME]}' is neither hipt_vits16 nor {TIMM_PREFIX}NAME")
        return value

    @field_validator("options")
    @classmethod
    def _harmless(cls, value: dict[str, Option]) -> dict[str, Option]:
        for name, option in value.items():
            wrong = wrong_option(name, option)
            if wrong:
                raise ValueError(wrong)
        return value


class DecoderSpec(Frozen):
    """Sizes of the two-way mask decoder; the defaults are SAM's."""

    dim: Annotated[Channels, Field(multiple_of=8)] = 256
    depth: Depth = 2
    num_heads: Channels = 8
    mlp_dim: Channels = 2048

    @model_validator(mode="after")
    def _check(self) -> Self:
        # SAM's decoder attends across in half of its channels.
        if self.dim // 2 % self.num_heads:
            raise ValueError("half of dim must be a multiple of num_heads")
        return self


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
        Microns per pixel of the network's input, 0.05 to 20.
    tile
        Side of the square network input, px: a multiple of the patch, 32 to 8192.
    output_stride
        Input pixels per output pixel, along each axis.
    sam, pathology
        The two encoders; one of them may be absent (the ablations of the paper).
    decoder
        Sizes of the mask decoder.
    mean, std
        Normalisation of RGB in 0..1 before the network.
    description, licence, training_data
        What is claimed of the weights, for people; empty where nothing is.
    """

    name: Name
    architecture: Literal["sam_path"] = "sam_path"
    classes: Annotated[tuple[ClassSpec, ...], Field(min_length=1, max_length=254)]
    mpp: Mpp
    tile: Side = 1024
    output_stride: Literal[4] = 4
    sam: SamSpec | None = None
    pathology: PathologySpec | None = None
    decoder: DecoderSpec = DecoderSpec()
    mean: Triple = IMAGENET_MEAN
    std: Std = IMAGENET_STD
    description: Text = ""
    licence: Text = ""
    training_data: Text = ""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.sam is None and self.pathology is None:
            raise ValueError("a model needs a sam encoder, a pathology encoder or both")
        if self.tile % self.patch:
            raise ValueError(f"tile must be a multiple of {self.patch} px")
        if self.grid > MAX_GRID:
            raise ValueError(f"a tile of {self.tile} px has more than {MAX_GRID} patches a side")
        names = [one.name for one in self.classes]
        check_class_names(names)
        if max(map(len, names)) > MAX_NAME:
            raise ValueError(f"classes must have names of at most {MAX_NAME} characters")
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
            ``bad-model`` if the text is not a valid specification.
        """
        if len(text) > MAX_HEADER_TEXT:
            raise WsiError("bad-model", "its model description is absurdly long", subject=subject)
        try:
            values = json.loads(text, object_pairs_hook=unique_object)
        except (ValueError, RecursionError) as error:
            raise WsiError(
                "bad-model", f"its model description is not JSON ({error})", subject=subject
            ) from error
        return cls._validated(values, subject)

    @classmethod
    def from_yaml(cls, path: str | Path) -> Self:
        """Read a specification from a YAML file.

        Raises
        ------
        WsiError
            ``bad-model`` if the file is missing, is not YAML, or misses or misspells a key.
        """
        return cls._validated(read_yaml(path, reason="bad-model"), str(path))

    def to_yaml(self, path: str | Path) -> None:
        """Write the specification so that `from_yaml` returns an equal one."""
        values = self.model_dump(mode="json")
        Path(path).write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")

    @classmethod
    def _validated(cls, values: object, subject: str) -> Self:
        if not isinstance(values, dict):
            message = "describes no model (key: value lines, as in configs/models)"
            raise WsiError("bad-model", message, subject=subject)
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            told = [one for one in error.errors() if one["loc"][-1:] != _NO_NAME] or error.errors()
            lines = "; ".join(_explain(one) for one in told[:3])
            raise WsiError("bad-model", lines, subject=subject) from error


_PARTS: dict[str, type[Frozen]] = {
    "classes": ClassSpec,
    "sam": SamSpec,
    "pathology": PathologySpec,
    "decoder": DecoderSpec,
    "encoder": VitSpec,
}


_WRONG = {
    "missing": "must be given",
    "string_type": "must be text, in quotes where it looks like something else",
    "tuple_type": "must be a list, as in [1, 2]",
    "too_long": "has {actual_length} entries, which is more than {max_length}",
    "too_short": "has {actual_length} entries, which is fewer than {min_length}",
    "model_type": "must be a block of 'key: value' lines",
    "dict_type": "must be a block of 'key: value' lines",
    "float_type": "must be a number",
    "float_parsing": "is not a number (with a decimal point, without a unit)",
    "int_type": "must be a whole number",
    "int_parsing": "is not a whole number",
    "int_from_float": "must be a whole number",
    "literal_error": "must be {expected}",
}
"""What pydantic says in the words of its types, in those of somebody who writes YAML."""
_NO_NAME = ("str",)
"""Where pydantic says that the sizes of an encoder are not a name, which nobody meant."""


def _explain(error: ErrorDetails) -> str:
    where = [str(part)[:MAX_NAME] for part in error["loc"] if not _is_of_pydantic(part)]
    if error["type"] != "extra_forbidden":
        return f"{'.'.join(where) or 'model'}: {_wrong(error)}"
    known = list(_fields_at(where[:-1]))
    return f"unknown key '{'.'.join(where)}'{did_you_mean(where[-1], known, least=0.0)}"


def _wrong(error: ErrorDetails) -> str:
    if error["loc"][-1:] == ("color",):
        return "is not a colour such as '#1f77b4', in quotes (YAML takes # for a comment)"
    said = _WRONG.get(error["type"], error["msg"].removeprefix("Value error, "))
    return said.format(**error.get("ctx", {}))


def _is_of_pydantic(part: str | int) -> bool:
    return isinstance(part, str) and (part in ("str", "VitSpec") or part.startswith("function-"))


def _fields_at(where: list[str]) -> dict[str, Any]:
    part: type[Frozen] = ModelSpec
    for name in where:
        part = _PARTS.get(name, part)
    return part.model_fields


def nearest_multiple(value: int, unit: int) -> int:
    """Return the positive multiple of `unit` nearest to `value` (the lower one on a tie)."""
    return max(1, math.ceil(value / unit - 0.5)) * unit
