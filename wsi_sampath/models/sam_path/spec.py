"""What a SAM-Path is, in data."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import model_validator

from wsi_sampath.models.limits import MAX_GRID, Triple
from wsi_sampath.models.parts.specs import DecoderSpec, PathologySpec, SamSpec
from wsi_sampath.models.spec import ModelSpec
from wsi_sampath.settings import Help


class SamPathSpec(ModelSpec):
    """A SAM-Path, or one of its two ablations."""

    architecture: Literal["sam_path"] = "sam_path"
    output_stride: Literal[4] = 4
    sam: Annotated[
        SamSpec | None,
        Help("SAM's encoder: vit_b, vit_l, vit_h, or its sizes; null for none (an ablation)."),
    ] = None
    pathology: Annotated[
        PathologySpec | None,
        Help("Second encoder: hipt_vits16, timm:NAME, or a block; null for none (an ablation)."),
    ] = None
    decoder: Annotated[DecoderSpec, Help("Sizes of the mask decoder.")] = DecoderSpec()

    @model_validator(mode="after")
    def _check_encoders(self) -> Self:
        if self.sam is None and self.pathology is None:
            raise ValueError("a model needs a sam encoder, a pathology encoder or both")
        if self.grid > MAX_GRID:
            raise ValueError(f"a tile of {self.tile} px has more than {MAX_GRID} patches a side")
        return self

    @property
    def patch(self) -> int:
        """Input pixels per cell of the decoder's grid."""
        return self.sam.patch if self.sam else 4 * self.output_stride

    @property
    def num_channels(self) -> int:
        """Channels of the logits: the ignored channel 0 and the k classes."""
        return len(self.classes) + 1

    @property
    def means(self) -> dict[str, Triple]:
        """Every mean of the colours that the network subtracts, by its key."""
        if self.pathology is None:
            return super().means
        return super().means | {"pathology.mean": self.pathology.mean}
