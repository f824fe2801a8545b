"""What to analyse on a slide: the tissue mask, found or given, and doubts about it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsi_sampath.errors import WsiError
from wsi_sampath.slides.overview import Overview, damage_warnings
from wsi_sampath.slides.readers.base import TileError
from wsi_sampath.slides.regions.drawn import glass_notes, read_mask
from wsi_sampath.slides.regions.glass import is_dark_field
from wsi_sampath.slides.regions.stain import Stain, stain_of
from wsi_sampath.slides.sampling import Sampling
from wsi_sampath.slides.slide import Slide

MASK_MPP = 8.0
MIN_TISSUE_UM2 = 8_000.0
# A disc of 113 um: most lumina and fat cells are smaller and count as tissue.
MAX_HOLE_UM2 = 10_000.0
_SPOT_MPP, _SPOT_PX, _MOST_SPOTS = 2.0, 96, 16
# What `--tissue none` may decode for its look at the whole slide; level 0 is decoded once more for
# its tiles.
_MOST_OVERVIEW_PX, _MOST_OF_LEVEL_0_PX = 50_000_000, 8_000_000


@dataclass(frozen=True)
class Seen:
    """What the whole slide shows at about `MASK_MPP`.

    Attributes
    ----------
    image
        uint8 (h, w, 3).
    tissue, marked
        bool (h, w): stained tissue; black borders and marker strokes.
    mpp_x, mpp_y
        Um per pixel.
    threshold
        Optical density above which stain counts as tissue; None where none was needed.
    """

    image: NDArray[np.uint8]
    tissue: NDArray[np.bool_]
    marked: NDArray[np.bool_]
    mpp_x: float
    mpp_y: float
    threshold: float | None = None


@dataclass(frozen=True)
class Tissue:
    """What is to be analysed.

    Attributes
    ----------
    mask
        bool (h, w) over the whole slide.
    warnings
        Sentences for the user.
    unknown
        bool (h, w): what no level of the slide shows, None where that was not checked. It does
        not count as tissue, but is tried, and then reported, at full resolution.
    stain
        What the stained pixels look like.
    seen
        The slide at low resolution; None where it was not looked at as a whole.
    threshold
        Optical density above which stain counts; None where tissue was not found by one.
    """

    mask: NDArray[np.bool_]
    warnings: tuple[str, ...] = ()
    unknown: NDArray[np.bool_] | None = None
    stain: Stain = Stain()
    seen: Seen | None = None
    threshold: float | None = None

    @property
    def to_try(self) -> NDArray[np.bool_]:
        """Everything that tiles are read for, bool (h, w)."""
        return self.mask if self.unknown is None else self.mask | self.unknown


def find_tissue(
    slide: Slide,
    method: str = "otsu",
    *,
    min_area_um2: float = MIN_TISSUE_UM2,
    max_hole_um2: float = MAX_HOLE_UM2,
    threshold: float | None = None,
) -> Tissue:
    """Find what is to be analysed.

    Parameters
    ----------
    slide
        An open slide.
    method
        ``"otsu"`` finds tissue on a low-resolution image (about 8 um per pixel), ``"none"`` takes
        everything, anything else is the path of a mask image or of a GeoJSON.
    min_area_um2, max_hole_um2
        For ``"otsu"``: smaller pieces are left out, smaller holes count as tissue.
    threshold
        For ``"otsu"``: the optical density above which stain is tissue; None finds it.

    Returns
    -------
    Tissue
        Its warnings say that a slide does not look like H&E, and what cannot be decoded.

    Raises
    ------
    WsiError
        ``no-tissue`` for an empty mask, ``bad-input`` for an unusable mask file, ``unreadable``
        where no part of the slide can be decoded.
    """
    match method:
        case "otsu":
            return _found(slide, min_area_um2, max_hole_um2, threshold)
        case "none":
            tissue = Tissue(np.ones((1, 1), bool), seen=_seen_cheaply(slide))
        case _:
            tissue = _drawn(slide, Path(method))
    stain = stain_of(_spots(slide, tissue.mask))
    return replace(tissue, warnings=(*tissue.warnings, *_doubts(stain)), stain=stain)


def _found(
    slide: Slide, min_area_um2: float, max_hole_um2: float, threshold: float | None
) -> Tissue:
    overview, sampling = slide.overview(MASK_MPP)
    failed = overview.failed
    if failed.all():
        message = "nothing of it can be decoded; is it fully copied?"
        raise WsiError("unreadable", message, subject=str(slide.path))
    seen = _seen(overview, sampling, min_area_um2, max_hole_um2, threshold)
    if not (seen.tissue | failed).any():
        what = "no tissue was found"
        if is_dark_field(seen.image):
            what += " (the background is dark, as in fluorescence)"
        if threshold is not None:
            what += f" above an optical density of {threshold:g} (--tissue-threshold)"
        _refuse_empty(slide, f"{what}; look at the slide, or give --tissue none or a mask")
    stain = stain_of(seen.image, seen.tissue)
    warnings = (*damage_warnings(overview, sampling), *_doubts(stain))
    return Tissue(seen.tissue, warnings, failed, stain, seen, seen.threshold)


def _seen(
    overview: Overview,
    sampling: Sampling,
    min_area_um2: float = MIN_TISSUE_UM2,
    max_hole_um2: float = MAX_HOLE_UM2,
    threshold: float | None = None,
) -> Seen:
    # scikit-image and scipy take half a second to import: only those wait who need them.
    from wsi_sampath.slides.regions.tissue import stained_tissue

    mpp_x, mpp_y = sampling.mpp_x, sampling.mpp_y
    found = stained_tissue(
        overview.image,
        mpp_x=mpp_x,
        mpp_y=mpp_y,
        min_area_um2=min_area_um2,
        max_hole_um2=max_hole_um2,
        threshold=threshold,
    )
    return Seen(overview.image, found.mask, found.marked, mpp_x, mpp_y, found.threshold)


def _seen_cheaply(slide: Slide) -> Seen | None:
    """Look at the whole slide if it has a level small enough."""
    number = slide.sampling(MASK_MPP).level
    level = slide.levels[number]
    if level.width * level.height > (_MOST_OVERVIEW_PX if number else _MOST_OF_LEVEL_0_PX):
        return None
    return _seen(*slide.overview(MASK_MPP))


def _drawn(slide: Slide, path: Path) -> Tissue:
    sampling = slide.sampling(MASK_MPP)
    mask, notes = read_mask(
        path,
        slide_size=slide.size,
        mask_size=(sampling.width, sampling.height),
        bounds_offset=slide.bounds_offset,
    )
    if not mask.any():
        why = "".join(f"; {note}" for note in notes)
        _refuse_empty(slide, f"the mask {path} is empty over this slide{why}")
    seen, missed = _compared(slide, mask)
    return Tissue(mask, (*notes, *missed), seen=seen)


def place_doubts(slide: Slide, drawn: NDArray[np.bool_]) -> tuple[str, ...]:
    """Return a warning where a drawing, bool (h, w) at `MASK_MPP`, misses the tissue."""
    return _compared(slide, drawn)[1]


def _compared(slide: Slide, drawn: NDArray[np.bool_]) -> tuple[Seen, tuple[str, ...]]:
    overview, sampling = slide.overview(MASK_MPP)
    seen = _seen(overview, sampling)
    return seen, glass_notes(drawn, seen.tissue | overview.failed)


def _refuse_empty(slide: Slide, message: str) -> None:
    raise WsiError("no-tissue", message, subject=str(slide.path))


def _doubts(stain: Stain) -> tuple[str, ...]:
    if stain.doubt is None:
        return ()
    return (
        f"the slide does not look like bright-field H&E but like {stain.doubt}: a model trained on "
        "H&E answers there, too, and may be wrong throughout",
    )


def _spots(slide: Slide, mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Read a few places spread over the mask, side by side, uint8 (h, n h, 3)."""
    rows, columns = np.nonzero(mask)
    chosen = np.linspace(0, len(rows) - 1, min(_MOST_SPOTS, len(rows))).astype(int)
    centres = np.stack([columns[chosen] + 0.5, rows[chosen] + 0.5], axis=1)
    if mask.size == 1:
        axis = (np.arange(4) + 0.5) / 4
        centres = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    places = centres / mask.shape[::-1] * slide.size
    read = [spot for x, y in places if (spot := _spot(slide, float(x), float(y))) is not None]
    return np.concatenate(read, axis=1) if read else np.zeros((1, 1, 3), np.uint8) + 255


def _spot(slide: Slide, x: float, y: float) -> NDArray[np.uint8] | None:
    sampling = slide.sampling(_SPOT_MPP)
    width, height = min(_SPOT_PX, sampling.width), min(_SPOT_PX, sampling.height)
    left = int(np.clip(x / sampling.zoom_x - width / 2, 0, sampling.width - width))
    top = int(np.clip(y / sampling.zoom_y - height / 2, 0, sampling.height - height))
    try:
        return slide.read_sampled(sampling, left, top, width, height)
    except TileError:
        return None
