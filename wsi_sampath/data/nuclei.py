"""Images with labelled nuclei to patches: folders of files, or PanNuke's arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsi_sampath.data.folds import Split
from wsi_sampath.data.grouping import Grouping, read_grouping
from wsi_sampath.data.nucleus_labels import (
    LABEL_SUFFIXES,
    NucleusLabels,
    checked_instances,
    read_nucleus_labels,
    type_by_nucleus,
    whole_numbers,
)
from wsi_sampath.data.pairing import check_out, pair_up
from wsi_sampath.data.pannuke import CHUNK, Release, find_releases
from wsi_sampath.data.patch_plan import LabelledImage, Labels, PatchPlan, Piece
from wsi_sampath.data.patches import INSTANCES, TYPES, Patch
from wsi_sampath.data.prepare import check_mpp, check_sizes, passes_on, turned_notes
from wsi_sampath.errors import UsageError, WsiError
from wsi_sampath.slides.pictures import read_picture, rgb_of
from wsi_sampath.slides.regions.mask_image import Mask

_UNTYPED = "nuclei"
_PANNUKE = "pannuke"


@dataclass(frozen=True)
class _Files:
    """The files of one image; `types` is None where they are in `labels`, or nowhere."""

    image: Path
    labels: Path
    types: Path | None


def plan_nuclei(
    images: Sequence[Path],
    instances: Sequence[Path],
    out: Path,
    *,
    types: Sequence[Path] = (),
    grouping: Grouping | None = None,
    mask_suffix: str = "",
    types_suffix: str = "",
    split: Split | None = None,
    mpp: float | None = None,
) -> PatchPlan:
    """Plan patches with nuclei.

    Parameters
    ----------
    images, instances, types
        Folders, searched recursively; the first of each belong together. Where `images` holds an
        ``images.npy`` they are those of PanNuke, with a ``masks.npy`` below `instances`.
    out
        Folder to write.
    grouping
        What the numbers of types mean. Without it nuclei have no types, but for PanNuke's own.
    mask_suffix, types_suffix
        What the names of labels, and of types, append to those of images.
    split
        How images are split by case.
    mpp
        Microns per pixel, recorded in ``classes.yaml``.

    Raises
    ------
    WsiError
        ``bad-input`` for pairs that lack a half, and where no image has a nucleus.
    UsageError
        For folders and options that do not go together.
    """
    _check_folders(images, instances, types, grouping)
    check_mpp(mpp)
    check_out(out, [*images, *instances, *types])
    releases = find_releases(images, instances)
    split = split or Split()
    if releases:
        if types or types_suffix:
            raise UsageError("--types means nothing for PanNuke: its masks.npy has the types")
        grouping = grouping or read_grouping(_PANNUKE)
        sources = _of_releases(releases, grouping, split)
    else:
        pairs = pair_up(images, instances, mask_suffix, kinds=LABEL_SUFFIXES, what="instances")
        files = _with_types(pairs, images, types, types_suffix)
        _check_any(files)
        patches = split.patches([*files])
        sources = [_source(one, patches[img_id], grouping) for img_id, one in files.items()]
    return PatchPlan(
        out,
        grouping or read_grouping(_UNTYPED),
        tuple(sources),
        mpp,
        layers=(INSTANCES,) if grouping is None else (INSTANCES, TYPES),
    )


def _check_folders(
    images: Sequence[Path],
    instances: Sequence[Path],
    types: Sequence[Path],
    grouping: Grouping | None,
) -> None:
    if len(images) != len(instances) or (types and len(types) != len(images)):
        raise UsageError("give as many --instances (and --types) as --images: they go together")
    if types and grouping is None:
        raise UsageError("say what the numbers of --types mean with --classes FILE")
    if grouping is not None and grouping.coloured:
        raise UsageError("types of nuclei are numbers, but --classes has colours")


def _with_types(
    pairs: Mapping[str, tuple[Path, Path]],
    images: Sequence[Path],
    types: Sequence[Path],
    types_suffix: str,
) -> dict[str, _Files]:
    typed: Mapping[str, tuple[Path, Path]] = {}
    if types:
        typed = pair_up(images, types, types_suffix, kinds=LABEL_SUFFIXES, what="types")
    elif types_suffix:
        raise UsageError("--types-suffix goes with --types")
    return {
        img_id: _Files(image, labels, typed[img_id][1] if types else None)
        for img_id, (image, labels) in pairs.items()
    }


def _check_any(files: Mapping[str, _Files]) -> None:
    """Refuse labels without a nucleus; most often the first file has one."""
    if not any(read_nucleus_labels(one.labels).instances.any() for one in files.values()):
        first = next(iter(files.values())).labels
        message = "there is no nucleus in any of them (all labels are 0)"
        raise WsiError("bad-input", message, subject=str(first.parent))


def _source(files: _Files, patch: Patch, grouping: Grouping | None) -> LabelledImage:
    def cut() -> Iterator[Piece]:
        picture, labels = read_picture(files.image), read_nucleus_labels(files.labels)
        rgb, seen = rgb_of(picture, subject=str(files.image))
        turned = turned_notes(picture.turned, labels.turned)
        instances, doubts = checked_instances(labels.instances, files.labels)
        check_sizes(rgb, instances, files.labels, turned)
        layers: dict[str, Labels] = {INSTANCES: instances}
        notes = (*turned, *seen, *doubts)
        if grouping is not None:
            layers[TYPES], more = _types(files, labels, instances, grouping)
            notes = (*notes, *more)
        elif labels.types is not None:
            notes = (*notes, "its types are left out; --classes says what they mean")
        encoded = files.image if passes_on(picture, files.image) else None
        yield Piece(patch.img_id, rgb, layers, encoded, notes)

    more = (files.types,) if files.types is not None else ()
    return LabelledImage(files.image, files.labels, (patch,), cut, more)


def _types(
    files: _Files, labels: NucleusLabels, instances: NDArray[np.uint16], grouping: Grouping
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Return the classes 1..k of the nuclei, 0 where it is unknown, and notes."""
    path, found = files.labels, labels.types
    if files.types is not None:
        path, read = files.types, read_nucleus_labels(files.types)
        # A .mat of CoNSeP may be named for its types, too.
        found = read.instances if read.types is None else read.types
    if found is None:
        message = "has no types, but --classes says what they mean; give their folder by --types"
        raise WsiError("bad-input", message, subject=str(path))
    kinds, notes = type_by_nucleus(instances, whole_numbers(found, "types", path), path)
    return classes_of(kinds, grouping, path), notes


def classes_of(types: NDArray[np.uint16], grouping: Grouping, path: Path) -> NDArray[np.uint8]:
    """Return the classes 1..k that numbers of types mean; type 0 is none.

    Raises
    ------
    WsiError
        ``bad-input`` for types that the grouping does not know.
    """
    classes = np.zeros(types.shape, np.uint8)
    typed = types > 0
    # As a mask of one row, in which nothing but types of nuclei is left.
    row = Mask(types[typed][None])
    classes[typed] = grouping.labels(row, subject=str(path))[0]
    return classes


def _of_releases(
    releases: Sequence[Release], grouping: Grouping, split: Split
) -> list[LabelledImage]:
    patches = split.patches([img_id for one in releases for img_id in one.img_ids])
    return [
        _chunk(one, range(start, min(start + CHUNK, len(one.img_ids))), patches, grouping)
        for one in releases
        for start in range(0, len(one.img_ids), CHUNK)
    ]


def _chunk(
    release: Release, numbers: range, patches: Mapping[str, Patch], grouping: Grouping
) -> LabelledImage:
    def cut() -> Iterator[Piece]:
        for number in numbers:
            rgb, instances, types = release.read(number)
            layers: dict[str, Labels] = {INSTANCES: instances}
            layers[TYPES] = classes_of(types, grouping, release.masks)
            yield Piece(release.img_ids[number], rgb, layers)

    own = tuple(patches[release.img_ids[number]] for number in numbers)
    return LabelledImage(release.images, release.masks, own, cut)
