"""What decides which objects are found by asking; defaults as published."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from wsi_sampath.settings import Frozen, Help, Neutral, Panel

Share = Annotated[float, Field(ge=0, le=1)]
Batch = Annotated[int, Field(ge=1, le=4096)]
AreaPx = Annotated[int, Field(ge=0, le=1 << 30)]


class AskingSettings(Frozen):
    """What both ways of asking have in common.

    Attributes
    ----------
    points_per_batch
        Points that are answered at once; more take more memory.
    stability_offset
        By how much the threshold of a mask is moved up and down to see whether it is stable.
    max_covered
        A mask is left out if a larger share of it belongs to better ones already; 0.2 is what
        PathoSAM's authors use for points of the network's own.
    min_area_px
        Objects of fewer pixels are left out.
    """

    points_per_batch: Annotated[Batch, Neutral] = 64
    stability_offset: Annotated[float, Field(ge=0, le=100)] = 1.0
    max_covered: Share = 0.2
    min_area_px: AreaPx = 0


class GridSettings(AskingSettings):
    """Objects by a regular grid of points: automatic mask generation, "amg".

    The defaults are those of SAM, for SAM as it was published. A network that was trained further,
    as PathoSAM is, thinks less of its masks: with these thresholds it finds next to nothing. Its
    authors search 0.6 to 0.9 for the predicted IoU and 0.6 to 0.95 for the stability.

    Attributes
    ----------
    points_per_side
        Points along a side of a field.
    min_predicted_iou, min_stability
        Masks with less of either are left out.
    max_box_overlap
        Two masks whose boxes have a larger IoU are one object.
    drop_background
        Whether the largest object of a field is left out where it is larger than all that is none.
    overlaps
        Which of two overlapping masks keeps the pixels they share: the better one; or the smaller
        one, as published, where masks may be covered to any extent and every piece of what is left
        is an object.
    """

    points_per_side: Annotated[
        Annotated[int, Field(ge=1, le=512)],
        Panel.NUCLEI,
        Help(
            "Points along a side of a tile that mode amg asks for; objects smaller than their "
            "distance may be missed."
        ),
    ] = 32
    min_predicted_iou: Annotated[
        Share,
        Panel.NUCLEI,
        Help(
            "Leave out masks of mode amg of which the network itself thinks less. The default is "
            "for SAM as published; networks trained further, as PathoSAM, need 0.6 to 0.8."
        ),
    ] = 0.88
    min_stability: Annotated[
        Share,
        Panel.NUCLEI,
        Help(
            "Leave out masks of mode amg that change more with their threshold. The default is "
            "for SAM as published; networks trained further, as PathoSAM, need 0.6 to 0.9."
        ),
    ] = 0.95
    max_box_overlap: Share = 0.7
    drop_background: bool = True
    overlaps: Literal["better", "smaller"] = "better"


class OwnPromptSettings(AskingSettings):
    """Objects at points that the network's own maps suggest: automatic prompt generation, "apg".

    Where the maps suggest a point is decided by the thresholds of `NucleusSettings`.

    Attributes
    ----------
    several_masks
        Whether the best of several masks for each point is taken, in place of the only one.
    refine_by_box
        Whether the network is asked once more, with the box of each mask, 1 % larger.
    max_mask_overlap, overlap_share_of
        Two masks that overlap by a larger share, of their union or of the smaller, are one object.
    """

    points_per_batch: Annotated[Batch, Neutral] = 32
    min_area_px: AreaPx = 25
    several_masks: bool = False
    refine_by_box: bool = False
    max_mask_overlap: Share = 0.9
    overlap_share_of: Literal["union", "smaller"] = "union"
