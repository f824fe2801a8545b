"""What a WSI-SAM is, in data."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import model_validator

from wsi_sampath.models.limits import Mpp
from wsi_sampath.models.parts.specs import SamSpec
from wsi_sampath.models.plain_sam.spec import PromptableSpec
from wsi_sampath.settings import Frozen, Help


class Compat(Frozen):
    """What the published program does, and a new model should not."""

    floored_boxes: Annotated[
        bool,
        Help(
            "Boxes in the low resolution are rounded down to whole px, by up to half a px of the "
            "tissue that is not asked about."
        ),
    ] = False


class WsiSamSpec(PromptableSpec):
    """A WSI-SAM: a frozen SAM, and what it learned of each of two resolutions."""

    views: ClassVar[tuple[float, ...]] = (1.0, 2.0)

    architecture: Literal["wsi_sam"] = "wsi_sam"
    mpp: Annotated[
        Mpp, Help("Microns per pixel of the high resolution; the low one has twice as many.")
    ] = 1.0
    aggregation: Annotated[
        Literal["sum", "mean"],
        Help(
            "What becomes of the two tokens: their sum, as in the published program and weights, "
            "or their mean, as in the paper."
        ),
    ] = "sum"
    compat: Annotated[Compat, Help("Habits of the published program.")] = Compat()

    @model_validator(mode="after")
    def _check_views(self) -> Self:
        if self.grid % 4:
            # Its quarter is where the high resolution begins within the low one.
            raise ValueError(f"tile must be a multiple of {4 * self.patch} px")
        sam = self.sam
        if isinstance(sam, SamSpec) and sam.window_size and not sam.global_attn_indexes:
            raise ValueError("sam needs a block in global_attn_indexes, whose features are used")
        return self
