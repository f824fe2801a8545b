"""BCSS as released (one image and mask per region) to patches, tiled and split as SAM-Path's.

Images of the release are named ``MPP-0.2500``, but the server that cut them seems to have rounded
0.00025 mm to 0.0003: against the extent of the regions in slide pixels they come out at 0.30 um.
"""

from __future__ import annotations

import csv
import math
import re
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np

from wsi_sampath.data.folds import case_folds
from wsi_sampath.data.grouping import Grouping, read_grouping
from wsi_sampath.data.pairing import check_out, pair_up
from wsi_sampath.data.patch_plan import ImageFormat, LabelledImage, PatchPlan, Piece
from wsi_sampath.data.patches import MASKS, TEST_FOLD, Patch
from wsi_sampath.data.prepare import labelled_pixels
from wsi_sampath.errors import UsageError, WsiError
from wsi_sampath.slides.pictures import picture_size, read_picture
from wsi_sampath.slides.regions.mask_image import read_mask

SIDE_PX = 1024
MPP = 0.25
TEST_INSTITUTIONS = frozenset({"OL", "LL", "E2", "EW", "GM", "S3"})
SCANNED_AT_20X = frozenset(
    {
        *("TCGA-A8-A07C", "TCGA-A8-A07O", "TCGA-A8-A08R", "TCGA-A8-A09X", "TCGA-AO-A03U"),
        *("TCGA-AO-A0J2", "TCGA-AO-A0J4", "TCGA-AO-A0J6", "TCGA-AO-A124", "TCGA-AO-A128"),
        *("TCGA-AO-A129", "TCGA-AO-A12F", "TCGA-AO-A1KR", "TCGA-HN-A2NL"),
    }
)
"""Their regions of 0.25 um per pixel are enlarged from 0.5 um."""

_UM_AT_1X = 10.0
_AXES_AGREE = 0.01
_SAME = 0.02
_IMAGE_FOLDERS = ("rgbs_colorNormalized", "images", "rgbs")
_NAME = re.compile(r"(TCGA-(\w\w)-\w{4})\S*_xmin\d+_ymin\d+_MPP-(\d+\.?\d*)")


@dataclass(frozen=True)
class Region:
    """One annotated region: its name, patient, institution and pixel size in um."""

    name: str
    case: str
    institution: str
    mpp: float


def tile_offsets(length: int, side: int = SIDE_PX) -> tuple[int, ...]:
    """Place the fewest tiles that cover an axis, their overlap spread evenly: the authors' rule.

    An axis shorter than a tile gets one tile, as short as the axis.

    Examples
    --------
    >>> tile_offsets(2500)
    (0, 738, 1476)
    """
    count = math.ceil(length / side)
    if count <= 1:
        return (0,)
    step, rest = divmod(length - side, count - 1)
    return tuple(index * step + min(index, rest) for index in range(count))


def parse_region(name: str) -> Region:
    """Read the name of a region, ``TCGA-..._xmin.._ymin.._MPP-0.2500``.

    Raises
    ------
    WsiError
        ``bad-input`` if it is not one.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        message = "is not a region of BCSS, which are named TCGA-.._xmin.._ymin.._MPP-0.2500"
        raise WsiError("bad-input", message, subject=name)
    return Region(name, match[1], match[2], float(match[3]))


def region_patches(region: Region, width: int, height: int) -> dict[str, tuple[int, int]]:
    """Return row and column offset by patch id; the id ends in both, row first."""
    return {
        f"{region.name}_{y}_{x}": (y, x) for y in tile_offsets(height) for x in tile_offsets(width)
    }


def split_patches(
    cases: dict[str, str], *, folds: int = 5, seed: int = 0, paper_compatible: bool = False
) -> dict[str, int]:
    """Return the fold of every patch.

    Parameters
    ----------
    cases
        Patient (``TCGA-OL-A5D6``) by patch.
    folds, seed
        As in `case_folds`; the test split is the official one, by institution.
    paper_compatible
        Draw the validation split by patch, as the authors did: the same size, not the same patches.
        It then shares patients, and by overlap even pixels, with training.
    """
    tested = {patch for patch, case in cases.items() if case.split("-")[1] in TEST_INSTITUTIONS}
    group = {patch: patch if paper_compatible else case for patch, case in cases.items()}
    drawn = case_folds(
        [group[patch] for patch in cases if patch not in tested], folds=folds, seed=seed
    )
    return {patch: TEST_FOLD if patch in tested else drawn[group[patch]] for patch in cases}


def plan_bcss(
    root: Path,
    out: Path,
    *,
    images: Path | None = None,
    masks: Path | None = None,
    grouping: Grouping | None = None,
    folds: int = 5,
    seed: int = 0,
    paper_compatible: bool = False,
    image_format: ImageFormat = "png",
) -> PatchPlan:
    """Plan patches from a download of BCSS.

    Parameters
    ----------
    root
        Folder with ``masks`` and with ``rgbs_colorNormalized``, ``images`` or ``rgbs``.
    out
        Folder to write.
    images, masks
        Their folders, if elsewhere.
    grouping
        Codes to classes; by default the five classes of the paper.
    folds, seed, paper_compatible
        As in `split_patches`.
    image_format
        ``png``, or ``jpg`` at a sixth of the size.

    Raises
    ------
    WsiError
        ``bad-input`` for pairs that lack a half, or a name that is not a region's.
    """
    image_folder, mask_folder = images or _image_folder(root), masks or root / "masks"
    check_out(out, [image_folder, mask_folder])
    pairs = pair_up([image_folder], [mask_folder])
    regions = {name: parse_region(name) for name in pairs}
    sizes = {name: picture_size(image) for name, (image, _) in pairs.items()}
    tiles = {name: region_patches(regions[name], *size) for name, size in sizes.items()}
    cases = {patch: regions[name].case for name, found in tiles.items() for patch in found}
    drawn = split_patches(cases, folds=folds, seed=seed, paper_compatible=paper_compatible)
    chosen = grouping or read_grouping("bcss")
    sources = tuple(
        _source(pairs[name], {Patch(i, drawn[i], cases[i]): at for i, at in found.items()}, chosen)
        for name, found in tiles.items()
    )
    measured = measured_mpp(sizes)
    mpp = measured if measured is not None and differs(measured, MPP) else MPP
    return PatchPlan(out, chosen, sources, mpp, image_format)


def warnings_about(plan: PatchPlan) -> list[str]:
    """Return what the user should know about the regions of a plan."""
    regions = [parse_region(source.mask.stem) for source in plan.sources]
    enlarged = sorted({region.case for region in regions} & SCANNED_AT_20X)
    other = [region.name for region in regions if region.mpp != MPP]
    warnings = []
    if enlarged:
        count = len(enlarged)
        slides = "1 slide was" if count == 1 else f"{count} slides were"
        warnings.append(
            f"{slides} scanned at 20x, so regions are enlarged twofold: " + ", ".join(enlarged)
        )
    if other:
        count = len(other)
        what = "1 region is" if count == 1 else f"{count} regions are"
        warnings.append(f"{what} not at {MPP} um per pixel, such as {other[0]}")
    if plan.mpp != MPP:
        warnings.append(
            f"the regions have about {plan.mpp} um per pixel, by what they cover on their slides, "
            f"not the {MPP} of their names: the patches, and models trained on them, say {plan.mpp}"
        )
    return warnings


def _source(
    pair: tuple[Path, Path], tiles: dict[Patch, tuple[int, int]], grouping: Grouping
) -> LabelledImage:
    image, mask = pair

    def cut() -> Iterator[Piece]:
        rgb, labels, notes = labelled_pixels(
            read_picture(image), read_mask(mask), grouping, image, mask
        )
        for patch, (y, x) in tiles.items():
            box = np.s_[y : y + SIDE_PX, x : x + SIDE_PX]
            yield Piece(patch.img_id, rgb[box], {MASKS: labels[box]}, notes=notes)

    return LabelledImage(image, mask, tuple(tiles), cut)


def _image_folder(root: Path) -> Path:
    for name in _IMAGE_FOLDERS:
        if (root / name).is_dir():
            return root / name
    raise UsageError(
        f"has no folder {', '.join(_IMAGE_FOLDERS)}; name it by --images", subject=str(root)
    )


def measured_mpp(sizes: Mapping[str, tuple[int, int]]) -> float | None:
    """Return the um per pixel of region images, to two decimals.

    Parameters
    ----------
    sizes
        Width and height in px by name (``TCGA-.._xmin.._ymin.._MPP-0.2500``).

    Returns
    -------
    float or None
        The median over the regions of the release, with 0.25 um per slide pixel at 40x and 0.5 at
        20x (true within 2 %); None where no image is one of them with its shape.
    """
    found = [_mpp(name, *size) for name, size in sizes.items()]
    known = [mpp for mpp in found if mpp is not None]
    return round(statistics.median(known), 2) if known else None


def differs(measured: float | None, named: float) -> bool:
    """Return whether a measured pixel size contradicts the named one."""
    return measured is not None and abs(measured - named) > _SAME


def _mpp(name: str, width: int, height: int) -> float | None:
    extent = _extents().get(name.split("_MPP-")[0])
    if extent is None:
        return None
    across, down, magnification = extent
    zooms = across / width, down / height
    if abs(zooms[0] / zooms[1] - 1) > _AXES_AGREE:
        return None
    return _UM_AT_1X / magnification * sum(zooms) / 2


@cache
def _extents() -> dict[str, tuple[int, int, int]]:
    """Return width and height in slide px and the magnification of all 151 regions.

    From ``roiBounds.csv`` and ``slide_magnifications.csv`` of the BCSS repository (CC0).
    """
    text = (resources.files(__package__) / "bcss_regions.csv").read_text(encoding="utf-8")
    return {
        row["region"]: (int(row["width_px"]), int(row["height_px"]), int(row["magnification"]))
        for row in csv.DictReader(text.splitlines())
    }
