"""Annotated slides for ``wsi-prepare``: what to cut, and how a tile is read and labelled."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsi_sampath.data.annotated import (
    AnnotatedSlide,
    NamedClasses,
    Pair,
    SlideTile,
    classes_as_found,
)
from wsi_sampath.data.context import TIMES, check_side
from wsi_sampath.data.folds import find_case
from wsi_sampath.data.patch_plan import Decides
from wsi_sampath.errors import UsageError, WsiError
from wsi_sampath.progress import counted
from wsi_sampath.slides.grid import Box
from wsi_sampath.slides.readers.open import TileError
from wsi_sampath.slides.regions.annotations import (
    Annotation,
    Annotations,
    LabelPainter,
    labelled_boxes,
    read_annotations,
    within,
)
from wsi_sampath.slides.regions.asap import EXCLUSIONS, SUFFIX, read_asap
from wsi_sampath.slides.regions.drawn import outside_notes, paint_tissue
from wsi_sampath.slides.regions.find import MASK_MPP, place_doubts
from wsi_sampath.slides.regions.rasterise import Placement
from wsi_sampath.slides.sampling import Sampling
from wsi_sampath.slides.slide import Slide
from wsi_sampath.slides.slide_fingerprint import slide_fingerprint


@dataclass(frozen=True)
class CutSettings:
    """How slides are cut.

    Attributes
    ----------
    mpp, tile
        Um per pixel, and side in px.
    least
        Least share of labelled pixels.
    slide_mpp
        Um per level-0 pixel, over what files say.
    context
        Read tiles of twice the width, around the same centres.
    exclusions
        Groups of ASAP that cut out.
    """

    mpp: float
    tile: int
    least: float
    slide_mpp: float | None = None
    context: bool = False
    exclusions: tuple[str, ...] = EXCLUSIONS

    def __post_init__(self) -> None:
        for name, value in (("--mpp", self.mpp), ("--tile", self.tile)):
            if not 0 < value < math.inf:
                raise UsageError(f"{name} {value} must be a number above 0")
        if not 0 <= self.least <= 1:
            raise UsageError(f"--min-labelled {self.least} must be a share from 0 to 1")
        if self.context:
            check_side(self.tile)

    def deciding(self) -> dict[str, Decides]:
        """Return what decides the content of tiles besides their um per pixel."""
        found: dict[str, Decides] = {
            "tile": self.tile,
            "min_labelled": self.least,
            "slide_mpp": self.slide_mpp,
        }
        found |= {"context": TIMES} if self.context else {}
        return found | ({} if self.exclusions == EXCLUSIONS else {"exclusions": self.exclusions})


@dataclass(frozen=True)
class SlideAnnotations:
    """One slide, the annotations of it, and its case."""

    slide: Path
    annotations: Path
    case: str


def paired(files: Sequence[Path], case: str) -> list[SlideAnnotations]:
    """Pair the arguments of the command line: slide, annotations, slide, annotations, ..."""
    if len(files) % 2:
        raise UsageError("give every slide with its annotations: SLIDE FILE.geojson ...")
    pairs = zip(files[::2], files[1::2], strict=True)
    return [SlideAnnotations(slide, drawn, find_case(case, slide.stem)) for slide, drawn in pairs]


def listed(path: Path, case: str) -> list[SlideAnnotations]:
    """Read a CSV with the columns slide, annotations and, if wanted, case.

    Raises
    ------
    UsageError
        If it cannot be used.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"cannot be read: {error}", subject=str(path)) from error
    lacking = [number for number, row in enumerate(rows, 2) if not _is_complete(row)]
    if lacking or not rows:
        where = f"line {lacking[0]} has" if lacking else "has"
        raise UsageError(f"{where} nothing in column slide or annotations", subject=str(path))
    return [
        SlideAnnotations(
            path.parent / row["slide"],
            path.parent / row["annotations"],
            row.get("case") or find_case(case, Path(row["slide"]).stem),
        )
        for row in rows
    ]


def _is_complete(row: dict[str, str]) -> bool:
    return bool(row.get("slide") and row.get("annotations"))


def cut_slides(
    drawn: Sequence[SlideAnnotations], chosen: NamedClasses | None, cutting: CutSettings
) -> tuple[list[AnnotatedSlide], NamedClasses, list[str]]:
    """Find the tiles of every slide.

    Parameters
    ----------
    drawn
        The slides.
    chosen
        What names of annotations mean; None makes a class of each.
    cutting
        How tiles are cut.

    Returns
    -------
    slides, classes, warnings
        Ready for `plan_slides`; what the user should know.

    Raises
    ------
    WsiError
        For slides and annotations that cannot be read.
    """
    found = [_read_areas(slide.annotations, cutting) for slide in drawn]
    classes = chosen or classes_as_found(named.colors() for named in found)
    notes: list[str] = []
    slides = []
    for slide, areas in counted(list(zip(drawn, found, strict=True)), "slides", len(drawn)):
        file = slide.annotations.name
        notes += [f"{file}: {note}" for note in areas.notes()]
        slides.append(_cut(slide, areas, classes, cutting, notes))
    return slides, classes, [*notes, *_same_slides([slide.slide for slide in drawn])]


def _same_slides(paths: Sequence[Path]) -> Iterator[str]:
    """Tell of files with one content: in training and in test, they flatter all scores."""
    seen: dict[str, Path] = {}
    for path in paths:
        first = seen.setdefault(slide_fingerprint(path), path)
        if first != path:
            yield f"{path.name}: is the same slide as {first.name}; leave one of them out"


def _cut(
    source: SlideAnnotations,
    drawn: Annotations,
    classes: NamedClasses,
    cutting: CutSettings,
    notes: list[str],
) -> AnnotatedSlide:
    names = {area.name for area in drawn.areas if not area.is_ignored}
    labels = classes.labels(names, subject=str(source.annotations))
    with Slide.open(source.slide, slide_mpp=cutting.slide_mpp) as slide:
        sampling = slide.sampling(cutting.mpp)
        offset = (0, 0) if _is_asap(source.annotations) else slide.bounds_offset
        notes += slide.warnings
        beside = [
            *outside_notes(drawn.areas, slide.size, offset),
            *place_doubts(slide, _covered(drawn.areas, slide, offset)),
        ]
        notes += [f"{source.annotations.name}: {note}" for note in beside]
        if max(slide.mpp.x, slide.mpp.y) > 1.02 * cutting.mpp:
            notes.append(f"{source.slide.name}: enlarged, it has {slide.mpp.x:.4g} um per pixel")
    placement = Placement(sampling.zoom_x, sampling.zoom_y, *offset)
    painter = LabelPainter(drawn.painted(classes.ignored), labels, placement)
    size = sampling.width, sampling.height
    boxes = tuple(labelled_boxes(painter, size, cutting.tile, cutting.least))
    if not boxes:
        notes.append(f"{source.slide.name}: no tile with enough annotations")
    tiles = _tiles(boxes, sampling)
    return AnnotatedSlide(
        source.slide,
        source.annotations,
        source.case,
        tiles,
        lambda: _read(source.slide, cutting, sampling, painter, boxes),
    )


def _read_areas(path: Path, cutting: CutSettings) -> Annotations:
    return read_asap(path, cutting.exclusions) if _is_asap(path) else read_annotations(path)


def _is_asap(path: Path) -> bool:
    return path.suffix.lower() == SUFFIX


def _covered(
    areas: tuple[Annotation, ...], slide: Slide, offset: tuple[int, int]
) -> NDArray[np.bool_]:
    sampling = slide.sampling(MASK_MPP)
    return paint_tissue(
        areas,
        slide_size=slide.size,
        mask_size=(sampling.width, sampling.height),
        bounds_offset=offset,
    )


def _tiles(boxes: Sequence[Box], sampling: Sampling) -> tuple[SlideTile, ...]:
    left = min((box.x for box in boxes), default=0)
    top = min((box.y for box in boxes), default=0)
    return tuple(
        SlideTile(
            round(box.x * sampling.zoom_x),
            round(box.y * sampling.zoom_y),
            (box.x - left) // box.width,
            (box.y - top) // box.height,
        )
        for box in boxes
    )


def _read(
    path: Path,
    cutting: CutSettings,
    sampling: Sampling,
    painter: LabelPainter,
    boxes: Sequence[Box],
) -> Iterator[Pair]:
    with Slide.open(path, slide_mpp=cutting.slide_mpp) as slide:
        for tile in boxes:
            box = _twice(tile) if cutting.context else tile
            try:
                rgb = slide.read_sampled(sampling, box.x, box.y, box.width, box.height)
            except TileError as error:
                where = f"at {round(box.x * sampling.zoom_x)}, {round(box.y * sampling.zoom_y)}"
                message = f"cannot be decoded {where}: {error}"
                raise WsiError("unreadable", message, subject=str(path)) from error
            yield rgb, painter.paint(box) * within(box, (sampling.width, sampling.height))


def _twice(box: Box) -> Box:
    """Return the box of twice the width and height around the same centre."""
    x, y = box.x - box.width // 2, box.y - box.height // 2
    return Box(x, y, TIMES * box.width, TIMES * box.height)
