"""One slide of a batch and where its result goes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Job:
    """One slide and the zarr it becomes.

    Attributes
    ----------
    slide, zarr
        The files.
    mpp
        True (x, y) um per level-0 pixel, where a list stated it; weaker than a flag.
    fault
        Why the slide need not be opened at all, one sentence: it fails by this.
    """

    slide: Path
    zarr: Path
    mpp: tuple[float, float] | None = None
    fault: str = ""
