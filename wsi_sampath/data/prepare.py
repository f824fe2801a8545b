"""From folders of images and masks to the patch layout: resumable, the table written last."""

from __future__ import annotations

import errno
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsi_sampath.data.folds import Split
from wsi_sampath.data.grouping import Grouping, guess_grouping
from wsi_sampath.data.pairing import check_out, pair_up
from wsi_sampath.data.patch_plan import LabelledImage, Labels, PatchPlan, Piece
from wsi_sampath.data.patches import (
    CONTEXT,
    CONTEXT_MASKS,
    IMAGE_SUFFIXES,
    IMAGES,
    INSTANCES,
    MASKS,
    Patch,
    several,
    write_atomically,
    write_classes,
    write_table,
)
from wsi_sampath.errors import UsageError, WsiError
from wsi_sampath.plausible import PLAUSIBLE_MPP
from wsi_sampath.slides.pictures import Picture, read_picture, rgb_of
from wsi_sampath.slides.regions.mask_image import Mask, read_mask

_JPEG_QUALITY = 95
_BEGUN = "preparing.json"


Tell = Callable[[Path, str], None]
"""Called with an image and what the user should know about how it was read."""


def prepare(plan: PatchPlan, tell: Tell = lambda _image, _note: None) -> Iterator[LabelledImage]:
    """Write the folder, yielding every source once its patches are there.

    What an interrupted run has written is kept unless its source was replaced since; `tell` is not
    called for it.

    Raises
    ------
    WsiError
        ``bad-input`` naming the file for unreadable images, sizes that differ, and mask values
        outside the grouping; ``disk-full``.
    UsageError
        If the folder has patches of other settings, other patches, or the sources themselves.
    """
    _check_plan(plan)
    with _writing(plan.out):
        _begin(plan)
    for source in plan.sources:
        if not _is_done(plan, source):
            for piece in source.cut():
                _write(plan, piece)
                for note in piece.notes:
                    tell(source.image, note)
        yield source
    with _writing(plan.out):
        write_classes(plan.out, plan.grouping.plain_classes, plan.mpp)
        write_table(plan.out, plan.patches)


def plan_patches(
    images: Sequence[Path],
    masks: Sequence[Path],
    out: Path,
    *,
    grouping: Grouping | None = None,
    mask_suffix: str = "",
    context: tuple[Sequence[Path], Sequence[Path]] = ((), ()),
    case: str = "",
    test_cases: str = "",
    test: float = 0.2,
    folds: int = 5,
    seed: int = 0,
    mpp: float | None = None,
) -> PatchPlan:
    """Plan patches from folders of images and of masks with equal names.

    Parameters
    ----------
    images, masks
        Folders, searched recursively; the first of `images` belongs to the first of `masks`.
    out
        Folder to write.
    grouping
        What mask values mean; guessed for plain black-and-white masks.
    mask_suffix
        What the names of masks append to those of images, such as ``_anno``.
    context
        Folders of what lies around the images, of the same names and of twice the um per pixel, and
        of its masks; as many as of images, or none.
    case, test_cases, test, folds, seed
        As in `Split`.
    mpp
        Microns per pixel, recorded in ``classes.yaml``.

    Raises
    ------
    WsiError
        ``bad-input`` for pairs that lack a half, or a case that cannot be found.
    """
    if len(images) != len(masks):
        raise UsageError("give as many --masks as --images: one belongs to the other")
    check_mpp(mpp)
    check_out(out, [*images, *masks, *context[0], *context[1]])
    pairs = pair_up(images, masks, mask_suffix)
    split = Split(case, test_cases, test, folds, seed)
    notes: tuple[str, ...] = ()
    if grouping is None:
        guess = guess_grouping((mask, read_mask(mask)) for _, mask in pairs.values())
        grouping, notes = guess.grouping, guess.notes
    around = _contexts(context, mask_suffix, pairs)
    sources = [
        whole(*pairs[img_id], patch, grouping, around.get(img_id))
        for img_id, patch in split.patches([*pairs]).items()
    ]
    layers = (CONTEXT_MASKS, MASKS) if around else (MASKS,)
    return PatchPlan(out, grouping, tuple(sources), mpp, notes=notes, layers=layers)


def _contexts(
    folders: tuple[Sequence[Path], Sequence[Path]],
    mask_suffix: str,
    pairs: Mapping[str, tuple[Path, Path]],
) -> dict[str, tuple[Path, Path]]:
    """Return what lies around every image, and its mask, by id; nothing without folders."""
    if not any(folders):
        return {}
    if len(folders[0]) != len(folders[1]):
        raise UsageError("give as many --context-masks as --context: one belongs to the other")
    found = pair_up(*folders, mask_suffix)
    alone = sorted(found.keys() ^ pairs.keys())
    if alone:
        message = f"{several(alone)}: every image of --images needs one of its name in --context"
        raise UsageError(f"{message}, and the other way round")
    return found


def whole(
    image: Path,
    mask: Path,
    patch: Patch,
    grouping: Grouping,
    around: tuple[Path, Path] | None = None,
) -> LabelledImage:
    """Return a source that becomes one patch of the same size; `around` is for its context."""

    def cut() -> Iterator[Piece]:
        picture, painted = read_picture(image), read_mask(mask)
        rgb, labels, notes = labelled_pixels(picture, painted, grouping, image, mask)
        encoded = image if passes_on(picture, image) else None
        if around is None:
            yield Piece(patch.img_id, rgb, {MASKS: labels}, encoded, notes)
            return
        wide, marked = read_picture(around[0]), read_mask(around[1])
        context, beside, more = labelled_pixels(wide, marked, grouping, *around)
        if context.shape != rgb.shape:
            message = "is not of its image's size in px, with pixels twice as wide"
            raise WsiError("bad-input", message, subject=str(around[0]))
        layers = {MASKS: labels, CONTEXT_MASKS: beside}
        yield Piece(patch.img_id, rgb, layers, encoded, (*notes, *more), context)

    return LabelledImage(image, mask, (patch,), cut, around or ())


def labelled_pixels(
    picture: Picture, painted: Mask, grouping: Grouping, image: Path, mask: Path
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], tuple[str, ...]]:
    """Return the pixels of an image, the labels of its mask, and notes on how both were read.

    Raises
    ------
    WsiError
        ``bad-input`` for sizes that differ, or if either cannot be used.
    """
    rgb, seen = rgb_of(picture, subject=str(image))
    labels = grouping.labels(painted, subject=str(mask))
    turned = turned_notes(picture.turned, painted.turned)
    check_sizes(rgb, labels, mask, turned)
    return rgb, labels, (*turned, *seen, *grouping.notes(painted))


def unseen_classes(plan: PatchPlan) -> list[str]:
    """Return the classes that have no pixel in any patch of a finished folder."""
    if plan.layers[-1] == INSTANCES:  # Numbers of nuclei, which tell nothing of classes.
        return []
    unseen = dict(enumerate((spec.name for spec in plan.grouping.plain_classes), start=1))
    for patch in plan.patches:
        if not unseen:
            break
        labels = read_picture(plan.out / plan.layers[-1] / f"{patch.img_id}.png").pixels
        unseen = {label: name for label, name in unseen.items() if not (labels == label).any()}
    return list(unseen.values())


def check_mpp(mpp: float | None) -> None:
    """Refuse a pixel size that cannot be one."""
    low, high = PLAUSIBLE_MPP
    if mpp is not None and not low <= mpp <= high:
        raise UsageError(f"--mpp {mpp} is not plausible: um per pixel, {low:g} to {high:g}")


def turned_notes(image: bool, mask: bool) -> tuple[str, ...]:
    """Return what was turned upright: a mask without a tag was drawn on the upright image."""
    if image and mask:
        return ("turned upright, as the orientation tags of image and mask say",)
    if image:
        return (
            "turned upright, as its orientation tag says; its mask has none and is taken as drawn "
            "on the upright image",
        )
    if mask:
        return ("mask turned upright, as its orientation tag says; the image has none",)
    return ()


def passes_on(picture: Picture, image: Path) -> bool:
    """Return whether the file of an image can be copied unchanged."""
    return picture.plain and image.suffix.lower() in (".png", ".jpg", ".jpeg")


def check_sizes(
    rgb: NDArray[np.uint8], labels: NDArray[Any], mask: Path, turned: Sequence[str]
) -> None:
    """Refuse a mask whose size differs from its image's."""
    if rgb.shape[:2] != labels.shape:
        sizes = [f"{pixels.shape[1]} x {pixels.shape[0]} px" for pixels in (labels, rgb)]
        how = f" (image {turned[0]})" if turned else ""
        message = f"mask is {sizes[0]}, its image {sizes[1]}{how}"
        raise WsiError("bad-input", message, subject=str(mask))


def _check_plan(plan: PatchPlan) -> None:
    twice = len(plan.patches) - len({patch.img_id for patch in plan.patches})
    if twice:
        raise UsageError(f"{twice} patches would share their names", subject=str(plan.out))
    own = [(plan.out / name).resolve() for name in (*plan.images, *plan.layers)]
    for path in {path for source in plan.sources for path in source.files}:
        if any(path.resolve().is_relative_to(folder) for folder in own):
            message = (
                f"its img and {plan.layers[0]} hold the sources ({path}) themselves; take another "
                "folder"
            )
            raise UsageError(message, subject=str(plan.out))


def _begin(plan: PatchPlan) -> None:
    begun = plan.out / _BEGUN
    settings, known_sources = _read_begun(begun)
    finished = {
        path.stem for layer in (MASKS, INSTANCES) for path in (plan.out / layer).glob("*.png")
    }
    if finished and settings != plan.settings():
        message = "was begun with other classes, image format or tiles; take another folder"
        raise UsageError(message, subject=str(plan.out))
    for name in (*plan.images, *plan.layers):
        (plan.out / name).mkdir(parents=True, exist_ok=True)
    stray = sorted(finished - {patch.img_id for patch in plan.patches})
    if stray:
        message = f"holds patches of another source ({several(stray)}); take another folder"
        raise UsageError(message, subject=str(plan.out))
    # Until the table is written again, the folder must not look complete.
    (plan.out / "patches.csv").unlink(missing_ok=True)
    sources = {source.patches[0].img_id: _identity(source) for source in plan.sources}
    for source in plan.sources:
        first = source.patches[0].img_id
        if known_sources.get(first) != sources[first]:
            for patch in source.patches:
                (plan.out / plan.layers[0] / f"{patch.img_id}.png").unlink(missing_ok=True)
    state = {"settings": plan.settings(), "sources": sources}
    write_atomically(begun, json.dumps(state, sort_keys=True).encode())


def _read_begun(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return settings and sources of an earlier run, as far as they can be read."""
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
        return state["settings"], state["sources"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}, {}


def _identity(source: LabelledImage) -> list[list[str | int]]:
    """Return what changes when an image or mask is replaced."""
    return [
        [str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns] for path in source.files
    ]


def _is_done(plan: PatchPlan, source: LabelledImage) -> bool:
    """Return whether image and labels of every patch exist and are not empty."""
    return all(
        all(_has_content(plan.out / layer / f"{patch.img_id}.png") for layer in plan.layers)
        and all(
            any(_has_content(plan.out / name / f"{patch.img_id}{end}") for end in IMAGE_SUFFIXES)
            for name in plan.images
        )
        for patch in source.patches
    )


def _has_content(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def _write(plan: PatchPlan, piece: Piece) -> None:
    suffix = plan.image_format
    if piece.encoded is not None:
        suffix = "png" if piece.encoded.suffix.lower() == ".png" else "jpg"
    content = piece.encoded.read_bytes() if piece.encoded else _encode(piece.rgb, suffix)
    with _writing(plan.out):
        _write_image(plan.out / IMAGES / f"{piece.img_id}.{suffix}", content)
        if piece.context is not None:
            around = plan.out / CONTEXT / f"{piece.img_id}.{plan.image_format}"
            _write_image(around, _encode(piece.context, plan.image_format))
        for layer in plan.layers:
            labels = _encode(piece.labels[layer], "png")
            write_atomically(plan.out / layer / f"{piece.img_id}.png", labels)


def _write_image(image: Path, content: bytes) -> None:
    """Write an image; one of the same name in another format goes."""
    for other in IMAGE_SUFFIXES:
        if other != image.suffix:
            image.with_suffix(other).unlink(missing_ok=True)
    write_atomically(image, content)


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        message = f"cannot be written to: {error}"
        raise WsiError("disk-full" if full else "bad-input", message, subject=str(out)) from error


def _encode(pixels: Labels, suffix: str) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(pixels)
    if suffix == "jpg":
        image.save(buffer, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    else:
        image.save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()
