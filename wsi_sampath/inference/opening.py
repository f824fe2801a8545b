"""Opening a slide as the settings of a run ask for it."""

from __future__ import annotations

import os

from wsi_sampath.inference.settings import SegmentSettings
from wsi_sampath.slides.slide import Slide


def open_slide(
    slide: str | os.PathLike[str],
    settings: SegmentSettings,
    *,
    csv_mpp: tuple[float, float] | None = None,
) -> Slide:
    """Open a slide; needs no network, and so says what is wrong with a slide before one is there.

    Parameters
    ----------
    slide
        The slide file.
    settings
        Name the slide's mpp, its reader, and the picture in its file.
    csv_mpp
        (x, y) um per level-0 pixel from an mpp table.

    Raises
    ------
    WsiError
        See `Slide.open`.
    """
    return Slide.open(
        slide,
        slide_mpp=settings.slide_mpp,
        csv_mpp=csv_mpp,
        reader=settings.reader,
        image=settings.image,
    )
