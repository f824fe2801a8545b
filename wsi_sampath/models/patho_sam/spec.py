"""What a PathoSAM is, in data."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from wsi_sampath.models.limits import MAX_GRID, PatchSide, Positive, Side
from wsi_sampath.models.parts.specs import DecoderSpec, SamSpec, UnetrSpec
from wsi_sampath.models.spec import ModelSpec
from wsi_sampath.settings import Frozen, Help

MAX_ENLARGEMENT = 16


class Compat(Frozen):
    """What the published system does, and a new model should not."""

    cropped_skips: Annotated[
        bool,
        Help(
            "The decoder computes twice the skip channels that it reads, and reads the middle "
            "half; the published weights need it."
        ),
    ] = False
    batch_statistics: Annotated[
        bool,
        Help("Batch norms take their statistics from each tile, in place of those of training."),
    ] = False
    stretched_tiles: Annotated[
        bool, Help("Every colour channel of every tile is stretched to 0..255.")
    ] = False


class PathoSamSpec(ModelSpec):
    """A PathoSAM: three maps of nuclei, and perhaps one more for each class of them."""

    labels_pixels: ClassVar[bool] = False

    architecture: Literal["patho_sam"] = "patho_sam"
    tile: Side = 512
    output_stride: PatchSide = 1
    sam: Annotated[SamSpec, Help("SAM's encoder: vit_b, vit_l, vit_h, or its sizes.")]
    prompts: Annotated[
        DecoderSpec, Help("Sizes of what answers prompts, and of the encoder's neck.")
    ] = DecoderSpec()
    enlargement: Annotated[
        Positive,
        Field(le=MAX_ENLARGEMENT),
        Help("Times that a tile is enlarged before it is encoded: one of 512 px fills SAM's 1024."),
    ] = 2
    decoder: Annotated[UnetrSpec, Help("Sizes of the decoders of maps.")] = UnetrSpec()
    class_decoder: Annotated[
        bool, Help("A second decoder tells classes of nuclei apart; without it there is one class.")
    ] = False
    compat: Annotated[Compat, Help("Habits of the published system.")] = Compat()

    @model_validator(mode="after")
    def _check_decoders(self) -> Self:
        if self.grid > MAX_GRID:
            raise ValueError(f"a tile of {self.tile} px has more than {MAX_GRID} patches a side")
        if not self.class_decoder and len(self.classes) > 1:
            raise ValueError("more than one class of nuclei needs class_decoder: true")
        return self

    @property
    def frame(self) -> int:
        """Side of the square that is encoded, px."""
        return self.tile * self.enlargement

    @property
    def patch(self) -> int:
        """What the tile must be a multiple of, so that its frame is one of SAM's patches."""
        return self.sam.patch // math.gcd(self.sam.patch, self.enlargement)

    @property
    def grid(self) -> int:
        """Cells per side of SAM's grid."""
        return self.frame // self.sam.patch
