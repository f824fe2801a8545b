"""What a SAM is that answers prompts, in data."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import model_validator

from wsi_sampath.classes import ClassSpec
from wsi_sampath.models.limits import MAX_GRID
from wsi_sampath.models.parts.specs import DecoderSpec, EncoderSpec
from wsi_sampath.models.spec import Classes, ModelSpec
from wsi_sampath.settings import Help

_ANYTHING = (ClassSpec(name="object", color="#c83232"),)


class PromptableSpec(ModelSpec):
    """What all networks have in common that answer prompts, and do nothing else."""

    labels_pixels: ClassVar[bool] = False
    makes_maps: ClassVar[bool] = False

    classes: Annotated[
        Classes, Help("What answers are of where a prompt names no class of its own.")
    ] = _ANYTHING
    output_stride: Annotated[Literal[4], Help("Input px per px of the logits of answers.")] = 4
    sam: Annotated[
        EncoderSpec,
        Help("Image encoder: vit_b, vit_l, vit_h, vit_tiny (MobileSAM), or its sizes."),
    ]
    prompts: Annotated[
        DecoderSpec, Help("Sizes of what answers prompts, and of the encoder's neck.")
    ] = DecoderSpec()

    @model_validator(mode="after")
    def _check_grid(self) -> Self:
        if self.grid > MAX_GRID:
            raise ValueError(f"a tile of {self.tile} px has more than {MAX_GRID} patches a side")
        return self

    @property
    def patch(self) -> int:
        """Input pixels per cell of the grid."""
        return self.sam.patch


class PlainSamSpec(PromptableSpec):
    """SAM or MobileSAM, as published."""

    architecture: Literal["sam"] = "sam"
