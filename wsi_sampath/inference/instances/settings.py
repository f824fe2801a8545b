"""What decides which nuclei are found in the three maps; defaults as published with PathoSAM."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from wsi_sampath.settings import Frozen

Share = Annotated[float, Field(ge=0, le=1)]
Sigma = Annotated[float, Field(ge=0, le=100)]


class NucleusSettings(Frozen):
    """How nuclei are cut out of foreground and distances.

    Attributes
    ----------
    center_distance_threshold, boundary_distance_threshold
        A nucleus begins where both smoothed distances are below these.
    foreground_threshold
        A pixel may belong to a nucleus where the smoothed foreground is above this.
    foreground_smoothing_px, distance_smoothing_px
        Sigma of the Gaussians; 0 for none.
    min_size_px
        Nuclei of fewer pixels are left out.
    largest_px
        A piece of foreground is taken whole as long as neither side of its bounding box is longer.
        A larger one is cut at the multiples of this, counted from the plane's corner.
    """

    center_distance_threshold: Share = 0.5
    boundary_distance_threshold: Share = 0.5
    foreground_threshold: Share = 0.5
    foreground_smoothing_px: Sigma = 1.0
    distance_smoothing_px: Sigma = 1.6
    min_size_px: Annotated[int, Field(ge=0)] = 0
    largest_px: Annotated[int, Field(ge=1, le=16_384)] = 4096
