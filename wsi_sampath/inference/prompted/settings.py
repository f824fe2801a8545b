"""What decides which objects are found by asking; defaults as published."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from wsi_sampath.settings import Frozen, Help, Neutral

Share = Annotated[float, Field(ge=0, le=1)]
AreaPx = Annotated[int, Field(ge=0)]
_MORE_MEMORY = "Prompts that are answered at once; more take more memory."


class MaskSettings(Frozen):
    """What both ways of asking have in common."""

    stability_offset: Annotated[
        Annotated[float, Field(ge=0, le=100)],
        Help("How far the threshold of a mask is moved up and down to see whether it is stable."),
    ] = 1.0
    max_covered: Annotated[
        Share,
        Help("A mask is left out if a larger share of it belongs to better ones already."),
    ] = 0.2


class GridSettings(MaskSettings):
    """Objects by a regular grid of points: automatic mask generation, "amg".

    The defaults are those of SAM, made for SAM as Meta trained it. A network that was trained
    further, as PathoSAM is, thinks less of its masks, and with these thresholds finds next to
    nothing: 0.6 to 0.9 for both is the range that its authors search.
    """

    points_per_side: Annotated[
        Annotated[int, Field(ge=1, le=512)],
        Help("Points along a side of a field; objects smaller than their distance may be missed."),
    ] = 32
    points_per_batch: Annotated[
        Annotated[int, Field(ge=1, le=4096)], Neutral, Help(_MORE_MEMORY)
    ] = 64
    min_predicted_iou: Annotated[
        Share,
        Help(
            "Leave out masks of which the network itself thinks less. The default suits SAM; "
            "networks trained further, as PathoSAM, need 0.6 to 0.8."
        ),
    ] = 0.88
    min_stability: Annotated[
        Share,
        Help(
            "Leave out masks that change more with the threshold. The default suits SAM; "
            "networks trained further, as PathoSAM, need 0.6 to 0.9."
        ),
    ] = 0.95
    max_box_overlap: Annotated[
        Share,
        Help("Two masks with boxes of a larger IoU are the same object; the better one stays."),
    ] = 0.7
    min_area_px: Annotated[AreaPx, Help("Leave out objects of fewer pixels.")] = 0
    drop_background: Annotated[
        bool,
        Help("Leave out the largest object of a field if it is larger than all that is none."),
    ] = True
    overlaps: Annotated[
        Literal["better", "smaller"],
        Help(
            "Which of two overlapping masks keeps the pixels that they share: the better one, or "
            "the smaller, as published, where every piece of what is left is an object."
        ),
    ] = "better"


class OwnPromptSettings(MaskSettings):
    """Objects by points that the network's own maps suggest: automatic prompt generation, "apg"."""

    center_distance_threshold: Annotated[
        Share, Help("A point is put where the distance to the centre is below this,")
    ] = 0.5
    boundary_distance_threshold: Annotated[
        Share, Help("and the distance to the boundary is below this,")
    ] = 0.5
    foreground_threshold: Annotated[Share, Help("and the foreground is at least this.")] = 0.5
    points_per_batch: Annotated[
        Annotated[int, Field(ge=1, le=4096)], Neutral, Help(_MORE_MEMORY)
    ] = 32
    several_masks: Annotated[
        bool,
        Help("Take the best of the masks that the network has for a point, not its only one."),
    ] = False
    refine_by_box: Annotated[
        bool, Help("Ask once more with the box of each mask, 1 % larger, instead of the point.")
    ] = False
    min_area_px: Annotated[AreaPx, Help("Leave out objects of fewer pixels.")] = 25
    max_mask_overlap: Annotated[
        Share, Help("Two masks that overlap more are the same object; the better one stays.")
    ] = 0.9
    overlap_share_of: Annotated[
        Literal["union", "smaller"],
        Help("What this overlap is a share of: the union of both masks, or the smaller one."),
    ] = "union"
