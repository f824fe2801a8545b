"""What a PathoSAM is, in data."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from wsi_sampath.models.limits import MAX_GRID, PatchSide, Positive, Side
from wsi_sampath.models.parts.specs import DecoderSpec, SamSpec, UnetrSpec
from wsi_sampath.models.spec import ModelSpec
from wsi_sampath.settings import Frozen

MAX_ENLARGEMENT = 16


class Compat(Frozen):
    """What the published system does, and a new model should not.

    Attributes
    ----------
    cropped_skips
        The decoder computes twice the skip channels that it reads, and reads the middle half. The
        published weights need it.
    batch_statistics
        Batch norms take their statistics from each tile, as the published programs do with batches
        of one tile, in place of those of the training.
    stretched_tiles
        Every colour channel of every tile is stretched to 0..255, as the published programs do.
    """

    cropped_skips: bool = False
    batch_statistics: bool = False
    stretched_tiles: bool = False


class PathoSamSpec(ModelSpec):
    """A PathoSAM: three maps of nuclei, and perhaps one more for each class of them.

    Attributes
    ----------
    sam
        SAM's encoder.
    prompts
        Sizes of what answers prompts, and of the encoder's neck; the defaults are SAM's.
    enlargement
        Times that a tile is enlarged before it is encoded.
    decoder
        Sizes of the decoders.
    class_decoder
        Whether a second decoder tells classes of nuclei apart. Without it there is one class.
    compat
        Habits of the published system.
    """

    labels_pixels: ClassVar[bool] = False

    architecture: Literal["patho_sam"] = "patho_sam"
    tile: Side = 512
    output_stride: PatchSide = 1
    sam: SamSpec
    prompts: DecoderSpec = DecoderSpec()
    enlargement: Annotated[Positive, Field(le=MAX_ENLARGEMENT)] = 2
    decoder: UnetrSpec = UnetrSpec()
    class_decoder: bool = False
    compat: Compat = Compat()

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
