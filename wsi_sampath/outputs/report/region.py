"""The region that a run was asked for, drawn the same way in every picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from wsi_sampath.outputs.report.sheet import Entry

FloatArray = npt.NDArray[np.float64]

REGION = (230, 119, 0)
REGION_ENTRY = Entry("region", "", REGION)


def shares_of(region: Sequence[float] | None, size: Sequence[float]) -> FloatArray | None:
    """Return where a region lies, as shares of the slide.

    Parameters
    ----------
    region
        x, y, width and height in level-0 px; None for the whole slide.
    size
        Width and height of the slide in level-0 px.

    Returns
    -------
    float64 (4,) or None
        Left, top, right and bottom, 0 to 1; None where there is no region.
    """
    if region is None:
        return None
    x, y, width, height = region
    corners = np.array([x, y, x + width, y + height], np.float64)
    return (corners / (*size, *size)).clip(0, 1)


def region_shown(run: dict[str, Any]) -> FloatArray | None:
    """Return `shares_of` what a result's attributes record."""
    return shares_of(run.get("region"), run["slide_size"])


def line_width(width: int) -> int:
    """Return the width of the lines in a picture of `width` px."""
    return max(2, round(width / 700))


def draw_region(picture: Image.Image, region: FloatArray) -> None:
    """Draw the box of a region into a picture of the whole slide.

    Its line lies around the region as far as the picture has room, and so hides little of it.
    """
    width, height = picture.size
    left, top, right, bottom = (region * (width, height, width, height)).round().astype(int)
    line = 2 * line_width(width)
    outer = (
        max(0, left - line),
        max(0, top - line),
        min(width, max(left + 1, right) + line) - 1,
        min(height, max(top + 1, bottom) + line) - 1,
    )
    ImageDraw.Draw(picture).rectangle(outer, outline=REGION, width=line)
