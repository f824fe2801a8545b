"""Annotated slides to labelled patches: classes by name, tiles, folds by case."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from wsi_sampath.classes import ClassSpec, check_class_names, name_key
from wsi_sampath.data.class_tables import read_table
from wsi_sampath.data.context import in_context
from wsi_sampath.data.folds import draw_folds
from wsi_sampath.data.pairing import check_name
from wsi_sampath.data.patch_plan import Decides, ImageFormat, LabelledImage, PatchPlan, Piece
from wsi_sampath.data.patches import CONTEXT_MASKS, MASKS, Patch, several
from wsi_sampath.errors import UsageError, WsiError
from wsi_sampath.settings import Frozen

_LAYERS = {False: (MASKS,), True: (CONTEXT_MASKS, MASKS)}
BLOCK_TILES = 3
"""Side, in tiles, of the blocks that act as cases where slides are split within themselves."""
_PALETTE = ("#c83232", "#6ab04c", "#3264c8", "#c8a032", "#8e44ad", "#16a085", "#d35400", "#7f8c8d")

Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]


class NamedClass(ClassSpec):
    """A class and the annotation classes that mean it; by default the one of its own name."""

    values: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of annotations that mean this class."""
        return self.values or (self.name,)


class NamedClasses(Frozen):
    """Classes by the names of annotations, whatever their capitals.

    Attributes
    ----------
    classes
        In the order of the labels 1..k.
    ignored
        Annotations that are neither trained on nor scored, whatever they cover.
    mpp
        Accepted so that the ``classes.yaml`` of an earlier folder can be used; without effect.
    """

    classes: Annotated[tuple[NamedClass, ...], Field(min_length=1, max_length=254)]
    ignored: tuple[str, ...] = ()
    mpp: float | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_class_names(spec.name for spec in self.classes)
        taken = [name_key(name) for spec in self.classes for name in spec.names]
        taken += [name_key(name) for name in self.ignored]
        twice = sorted({name for name in taken if taken.count(name) > 1})
        if twice:
            raise ValueError(f"annotations with two meanings: {several(twice)}")
        return self

    @property
    def plain_classes(self) -> tuple[ClassSpec, ...]:
        """Names and colours alone."""
        return tuple(ClassSpec(name=spec.name, color=spec.color) for spec in self.classes)

    def labels(self, names: Iterable[str], *, subject: str = "") -> dict[str, int]:
        """Return the label of every annotation name, 0 for those that are ignored.

        Raises
        ------
        WsiError
            ``bad-input`` for unknown names.
        """
        known = {name_key(name): 0 for name in self.ignored}
        for label, spec in enumerate(self.classes, start=1):
            known |= {name_key(name): label for name in spec.names}
        names = list(names)
        unknown = sorted({name for name in names if name_key(name) not in known})
        if unknown:
            message = f"has annotations {several(unknown)}, which no class or 'ignored' names"
            raise WsiError("bad-input", message, subject=subject)
        return {name: known[name_key(name)] for name in names}


def classes_as_found(colors: Iterable[Mapping[str, str | None]]) -> NamedClasses:
    """Make a class of every annotation name, in order of first appearance.

    Parameters
    ----------
    colors
        Per slide its annotation names with "#rrggbb", or None where the colour is unknown.
    """
    first: dict[str, tuple[str, str | None]] = {}
    for name, color in itertools.chain.from_iterable(named.items() for named in colors):
        known = first.get(name_key(name), (name, None))
        first[name_key(name)] = (known[0], known[1] or color)
    spare = itertools.cycle(_PALETTE)
    found = tuple(NamedClass(name=name, color=c or next(spare)) for name, c in first.values())
    return NamedClasses(classes=found)


def read_named_classes(path: Path) -> NamedClasses:
    """Read a YAML of `NamedClasses`.

    Raises
    ------
    UsageError
        If it cannot be used.
    """
    return read_table(path, NamedClasses)


@dataclass(frozen=True)
class SlideTile:
    """A tile: its upper left corner in level-0 px, and its place in the slide's grid of tiles."""

    x0: int
    y0: int
    column: int
    row: int


@dataclass(frozen=True)
class AnnotatedSlide:
    """A slide cut into labelled tiles.

    Attributes
    ----------
    image, annotations
        Its files.
    case
        The patient.
    tiles
        Where its patches lie.
    read
        Yields image (uint8 (h, w, 3)) and labels (uint8 (h, w)) of every tile, in their order; of
        twice its width, around its centre, where the tile is to be in its context.
    """

    image: Path
    annotations: Path
    case: str
    tiles: tuple[SlideTile, ...]
    read: Callable[[], Iterator[Pair]]


def plan_slides(
    slides: Sequence[AnnotatedSlide],
    out: Path,
    *,
    classes: NamedClasses,
    mpp: float,
    options: Mapping[str, Decides],
    blocks: bool = False,
    context: bool = False,
    test_cases: str = "",
    test: float = 0.2,
    folds: int = 5,
    seed: int = 0,
    image_format: ImageFormat = "png",
) -> PatchPlan:
    """Plan patches from annotated slides; their ids end in row and column of level 0, row first.

    Parameters
    ----------
    slides
        The slides with their tiles.
    out
        Folder to write.
    classes
        What the labels mean.
    mpp
        Microns per pixel of the tiles.
    options
        Other settings that decide the tiles' content; a folder begun with others is refused.
    blocks
        Split by blocks of `BLOCK_TILES` x `BLOCK_TILES` tiles of a slide, not by case.
    context
        What is read is twice as wide as the tiles, and becomes their context.
    test_cases, test, folds, seed
        As in `draw_folds`.
    image_format
        ``png``, or ``jpg`` at a sixth of the size.

    Raises
    ------
    WsiError
        ``bad-input`` where no slide has a tile, or two slides share a name.
    """
    _check_stems(slides)
    cases = {
        _patch_id(slide, tile): _case(slide, tile, blocks)
        for slide in slides
        for tile in slide.tiles
    }
    if not cases:
        raise UsageError("no tile has enough labelled pixels; lower --min-labelled or --tile")
    drawn = draw_folds([*cases.values()], test_cases, test, folds, seed)
    found = {img_id: Patch(img_id, drawn[case], case) for img_id, case in cases.items()}
    sources = tuple(
        _source(slide, tuple(found[_patch_id(slide, tile)] for tile in slide.tiles), context)
        for slide in slides
        if slide.tiles
    )
    options = {**options, "mpp": mpp}
    return PatchPlan(out, classes, sources, mpp, image_format, options, layers=_LAYERS[context])


def _source(slide: AnnotatedSlide, patches: tuple[Patch, ...], context: bool) -> LabelledImage:
    def cut() -> Iterator[Piece]:
        for patch, (rgb, labels) in zip(patches, slide.read(), strict=True):
            if not context:
                yield Piece(patch.img_id, rgb, {MASKS: labels})
                continue
            both = in_context(rgb, labels)
            layers = {MASKS: both.labels, CONTEXT_MASKS: both.context_labels}
            yield Piece(patch.img_id, both.image, layers, context=both.context)

    return LabelledImage(slide.image, slide.annotations, patches, cut)


def _patch_id(slide: AnnotatedSlide, tile: SlideTile) -> str:
    return f"{slide.image.stem}_{tile.y0}_{tile.x0}"


def _case(slide: AnnotatedSlide, tile: SlideTile, blocks: bool) -> str:
    if not blocks:
        return slide.case
    return f"{slide.case}#{tile.row // BLOCK_TILES}-{tile.column // BLOCK_TILES}"


def _check_stems(slides: Sequence[AnnotatedSlide]) -> None:
    for slide in slides:
        check_name(slide.image)
    stems = [slide.image.stem for slide in slides]
    twice = sorted({stem for stem in stems if stems.count(stem) > 1})
    if twice:
        raise UsageError(f"two slides have the name {several(twice)}; rename one of them")
