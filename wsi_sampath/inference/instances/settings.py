"""What decides which nuclei are found in the three maps; defaults as published with PathoSAM."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from wsi_sampath.settings import Flags, Frozen, Help, Panel

Share = Annotated[float, Field(ge=0, le=1)]
Sigma = Annotated[float, Field(ge=0, le=100)]


class NucleusSettings(Frozen):
    """How nuclei are cut out of foreground and distances; lengths are in px of the stored maps."""

    center_distance_threshold: Annotated[
        Share,
        *(Panel.NUCLEI, Flags("--center-distance")),
        Help("A nucleus begins where the smoothed distance to its centre is below this, 0 to 1."),
    ] = 0.5
    boundary_distance_threshold: Annotated[
        Share,
        *(Panel.NUCLEI, Flags("--boundary-distance")),
        Help("And where the smoothed distance to its inside (1 at the border) is below this."),
    ] = 0.5
    foreground_threshold: Annotated[
        Share,
        *(Panel.NUCLEI, Flags("--foreground")),
        Help("A pixel may belong to a nucleus where the smoothed foreground is above this."),
    ] = 0.5
    foreground_smoothing_px: Annotated[
        Sigma,
        *(Panel.NUCLEI, Flags("--foreground-smoothing")),
        Help("Sigma of the Gaussian over the foreground, px; 0 for none."),
    ] = 1.0
    distance_smoothing_px: Annotated[
        Sigma,
        *(Panel.NUCLEI, Flags("--distance-smoothing")),
        Help("Sigma of the Gaussian over both distances, px; 0 for none."),
    ] = 1.6
    min_size_px: Annotated[
        int,
        Field(ge=0, le=1 << 30),
        *(Panel.NUCLEI, Flags("--min-nucleus")),
        Help("Leave out nuclei of fewer pixels."),
    ] = 0
    # Counted from the plane's corner.
    largest_px: Annotated[
        int,
        Field(ge=1, le=16_384),
        *(Panel.NUCLEI, Flags("--largest-piece")),
        Help(
            "Touching nuclei are told apart together as long as neither side of their box is "
            "longer, px; larger pieces are cut along a fixed lattice."
        ),
    ] = 4096
