"""The metadata of a slide file, in our terms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

WHITE = (255, 255, 255)


@dataclass(frozen=True)
class SlideMetadata:
    """The metadata of a file.

    Attributes
    ----------
    level_sizes
        (width, height) of every level in pixels, level 0 first.
    mpp
        (x, y) in um per level-0 pixel, None if not stated.
    background
        RGB of empty areas.
    bounds_offset
        Level-0 (x, y) at which QuPath puts its origin: the slide's bounds where all four are
        stated (MIRAX and a few others), else (0, 0).
    vendor, objective
        As stated by the file, empty or None if not stated.
    warnings
        Sentences for the user about what is doubtful in the file.
    """

    level_sizes: tuple[tuple[int, int], ...]
    mpp: tuple[float, float] | None
    background: tuple[int, int, int] = WHITE
    bounds_offset: tuple[int, int] = (0, 0)
    vendor: str = ""
    objective: float | None = None
    warnings: tuple[str, ...] = ()


def openslide_metadata(handle: Any) -> SlideMetadata:
    """Read OpenSlide's properties."""
    properties = handle.properties
    return SlideMetadata(
        level_sizes=tuple(handle.level_dimensions),
        mpp=_pair(properties, "openslide.mpp-x", "openslide.mpp-y"),
        background=_colour(properties.get("openslide.background-color")),
        bounds_offset=_bounds(properties),
        vendor=properties.get("openslide.vendor") or "",
        objective=stated_number(properties.get("openslide.objective-power")),
    )


def tiffslide_metadata(handle: Any) -> SlideMetadata:
    """Read tiffslide's properties."""
    properties = handle.properties
    return SlideMetadata(
        level_sizes=tuple((int(w), int(h)) for w, h in handle.level_dimensions),
        mpp=_pair(properties, "tiffslide.mpp-x", "tiffslide.mpp-y"),
        background=_colour(properties.get("tiffslide.background-color")),
        vendor=properties.get("tiffslide.vendor") or "",
        objective=stated_number(properties.get("tiffslide.objective-power")),
    )


def stated_number(value: object) -> float | None:
    """Turn a property into a finite number, None where it is not one."""
    try:
        number = float(str(value))
    except ValueError:
        return None
    return number if np.isfinite(number) else None


def _pair(properties: Mapping[str, Any], x: str, y: str) -> tuple[float, float] | None:
    first, second = stated_number(properties.get(x)), stated_number(properties.get(y))
    return None if first is None or second is None else (first, second)


def _colour(text: str | None) -> tuple[int, int, int]:
    if not text or len(text) != 6:
        return WHITE
    red, green, blue = bytes.fromhex(text)
    return red, green, blue


def _bounds(properties: Mapping[str, Any]) -> tuple[int, int]:
    names = ("x", "y", "width", "height")
    values = [stated_number(properties.get(f"openslide.bounds-{name}")) for name in names]
    if any(value is None for value in values):
        return 0, 0
    return int(values[0] or 0), int(values[1] or 0)
