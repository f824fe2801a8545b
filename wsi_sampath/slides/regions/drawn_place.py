"""Whether areas that somebody drew are of this slide, and in its pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import shapely
from numpy.typing import NDArray

from wsi_sampath.slides.regions.annotations import Annotation

_SLACK = 0.02
"""Share of the slide's longer side by which a hand may slip over the edge."""
_ON_TISSUE, _COVERED = 0.2, 0.5
"""Whoever draws by hand leaves less glass in, or leaves less tissue out."""
_ASK = "are they of this slide, in pixels of level 0 with y counted downwards?"
_ASK_OF_ANY = "is it of this slide, the same way up, and (GeoJSON) in pixels of level 0?"


def outside_notes(
    areas: Sequence[Annotation], slide_size: tuple[int, int], bounds_offset: tuple[float, float]
) -> tuple[str, ...]:
    """Say how many areas lie outside of the slide, or reach far beyond it.

    Parameters
    ----------
    areas
        What was drawn.
    slide_size
        Width and height of level 0.
    bounds_offset
        Added to coordinates: QuPath counts from the corner of the slide's bounds.
    """
    if not areas:
        return ()
    corners = shapely.bounds([area.area for area in areas]) + np.array([*bounds_offset] * 2)
    size = np.array(slide_size)
    slack = _SLACK * size.max()
    outside = (corners[:, 2:] <= 0).any(axis=1) | (corners[:, :2] >= size).any(axis=1)
    beyond = (corners[:, :2] < -slack).any(axis=1) | (corners[:, 2:] > size + slack).any(axis=1)
    counts = {
        "outside of": int(outside.sum()),
        "partly outside of": int((beyond & ~outside).sum()),
    }
    slide = f"the slide ({slide_size[0]} x {slide_size[1]} px)"
    return tuple(
        f"{count:,} of {len(areas):,} areas {_lie(count)} {where} {slide}; {_ASK}"
        for where, count in counts.items()
        if count
    )


def _lie(count: int) -> str:
    return "lies" if count == 1 else "lie"


def glass_notes(drawn: NDArray[np.bool_], tissue: NDArray[np.bool_]) -> tuple[str, ...]:
    """Say so where most of what was drawn is glass, and most of the tissue lies elsewhere.

    Parameters
    ----------
    drawn, tissue
        bool (height, width) over the whole slide: what was drawn, and the tissue that was found.
    """
    both = int((drawn & tissue).sum())
    share = both / max(1, int(drawn.sum()))
    if not drawn.any() or share >= _ON_TISSUE or both >= _COVERED * int(tissue.sum()):
        return ()
    return (f"only {100 * share:.0f} % of what was drawn looks like tissue; {_ASK_OF_ANY}",)
