"""From folders of images and masks to the patch layout: resumable, the table written last."""

from __future__ import annotations

import errno
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsi_sampath.errors import UsageError, WsiError
from wsi_sampath.models.spec import ClassSpec
from wsi_sampath.training.datasets import (
    IMAGE_SUFFIXES,
    Patch,
    load_image,
    several,
    write_atomically,
    write_classes,
    write_table,
)
from wsi_sampath.training.folds import draw_folds, find_case
from wsi_sampath.training.grouping import Grouping, guess_grouping
from wsi_sampath.training.pairing import pair_up

ImageFormat = Literal["png", "jpg"]
_JPEG_QUALITY = 95
_BEGUN = "preparing.json"


@dataclass(frozen=True)
class Piece:
    """One patch: `rgb` (height, width, 3) and `labels` (height, width), both uint8.

    `encoded` is the image's file where it can be taken over unchanged.
    """

    img_id: str
    rgb: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    encoded: Path | None = None


@dataclass(frozen=True)
class Source:
    """One image and mask, and the patches that come of them."""

    image: Path
    mask: Path
    patches: tuple[Patch, ...]
    cut: Callable[[], Iterator[Piece]]


class Classes(Protocol):
    """Classes, and what in the sources means them: a `Grouping`, or names of annotations."""

    @property
    def plain_classes(self) -> tuple[ClassSpec, ...]:
        """Names and colours alone."""
        ...

    def model_dump(self, *, mode: str) -> dict[str, Any]:
        """Return all that decides the labels."""
        ...


@dataclass(frozen=True)
class Plan:
    """All that a folder of patches will hold, fixed before the first pixel is read.

    `options` are further numbers that decide the content of the files.
    """

    out: Path
    grouping: Classes
    sources: tuple[Source, ...]
    mpp: float | None = None
    image_format: ImageFormat = "png"
    options: Mapping[str, float] = field(default_factory=dict)

    @property
    def patches(self) -> list[Patch]:
        """Every patch, in the order of the table."""
        return [patch for source in self.sources for patch in source.patches]

    def settings(self) -> str:
        """Return what decides the content of the files, for resuming."""
        values = {
            "grouping": self.grouping.model_dump(mode="json"),
            "format": self.image_format,
            **self.options,
        }
        return json.dumps(values, sort_keys=True)


def prepare(plan: Plan) -> Iterator[Source]:
    """Write the folder, yielding every source once its patches are there.

    What an earlier, interrupted run has written is kept unless its source is newer.

    Raises
    ------
    WsiError
        ``bad-input`` naming the file for unreadable images, sizes that differ, and mask values
        outside of the grouping; ``disk-full``.
    UsageError
        If the folder was begun with other settings, or holds other patches.
    """
    _check_names(plan)
    with _writing(plan.out):
        _begin(plan)
    for source in plan.sources:
        if not _is_done(plan.out, source):
            for piece in source.cut():
                _write(plan, piece)
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
    case: str = "",
    test_cases: str = "",
    test: float = 0.2,
    folds: int = 5,
    seed: int = 0,
    mpp: float | None = None,
) -> Plan:
    """Plan patches from folders of images and of masks with equal names.

    Parameters
    ----------
    images, masks
        Folders, searched with all below; the first of one belongs to the first of the other.
    out
        Folder to write.
    grouping
        What mask values mean; guessed for plain black-and-white masks.
    mask_suffix
        What the names of masks have after those of images, such as ``_anno``.
    case
        Regular expression: its first group (or all of it) found in an id is the case; without it
        every image is a case of its own.
    test_cases
        Regular expression: the cases in which it is found are the test split.
    test, folds, seed
        As in `case_folds`; `test` only matters without `test_cases`.
    mpp
        Microns per pixel, to be noted in ``classes.yaml``.

    Raises
    ------
    WsiError
        ``bad-input`` for pairs that miss a half, or a case that cannot be told.
    """
    if len(images) != len(masks):
        raise UsageError("give as many --masks as --images: one belongs to the other")
    pairs = pair_up(images, masks, mask_suffix)
    chosen = grouping or guess_grouping((mask, load_image(mask)) for _, mask in pairs.values())
    case_of = {img_id: find_case(case, img_id) for img_id in pairs}
    folds_of = draw_folds([*case_of.values()], test_cases, test, folds, seed)
    sources = [
        whole(image, mask, Patch(img_id, folds_of[case_of[img_id]], case_of[img_id]), chosen)
        for img_id, (image, mask) in pairs.items()
    ]
    return Plan(out, chosen, tuple(sources), mpp)


def whole(image: Path, mask: Path, patch: Patch, grouping: Grouping) -> Source:
    """Return a source that becomes one patch of the same size."""

    def cut() -> Iterator[Piece]:
        picture = load_image(image)
        labels = grouping.labels(load_image(mask), subject=str(mask))
        rgb = np.asarray(picture.convert("RGB"))
        check_sizes(rgb, labels, mask)
        plain = picture.mode == "RGB" and image.suffix.lower() in (".png", ".jpg", ".jpeg")
        yield Piece(patch.img_id, rgb, labels, image if plain else None)

    return Source(image, mask, (patch,), cut)


def check_sizes(rgb: NDArray[np.uint8], labels: NDArray[np.uint8], mask: Path) -> None:
    """Refuse a mask of another size than its image."""
    if rgb.shape[:2] != labels.shape:
        sizes = [f"{one.shape[1]} x {one.shape[0]} px" for one in (labels, rgb)]
        message = f"mask is {sizes[0]}, its image {sizes[1]}"
        raise WsiError("bad-input", message, subject=str(mask))


def _check_names(plan: Plan) -> None:
    twice = len(plan.patches) - len({one.img_id for one in plan.patches})
    if twice:
        raise UsageError(f"{twice} patches would have the name of another", subject=str(plan.out))


def _begin(plan: Plan) -> None:
    begun = plan.out / _BEGUN
    settings = plan.settings()
    if begun.is_file() and begun.read_text(encoding="utf-8") != settings:
        message = "was begun with other classes, image format or tiles; take another folder"
        raise UsageError(message, subject=str(plan.out))
    for name in ("img", "mask"):
        (plan.out / name).mkdir(parents=True, exist_ok=True)
    known = {one.img_id for one in plan.patches}
    stray = sorted(p.stem for p in (plan.out / "mask").glob("*.png") if p.stem not in known)
    if stray:
        message = f"holds patches of another source ({several(stray)}); take another folder"
        raise UsageError(message, subject=str(plan.out))
    # Until the table is written again the folder must not pass for complete.
    (plan.out / "patches.csv").unlink(missing_ok=True)
    write_atomically(begun, settings.encode())


def _is_done(out: Path, source: Source) -> bool:
    """Return whether all is there; a mask is written after its image, so it vouches for both."""
    masks = [out / "mask" / f"{patch.img_id}.png" for patch in source.patches]
    newest = max(source.image.stat().st_mtime, source.mask.stat().st_mtime)
    return all(one.is_file() and one.stat().st_mtime >= newest for one in masks)


def _write(plan: Plan, piece: Piece) -> None:
    suffix = plan.image_format
    if piece.encoded is not None:
        suffix = "png" if piece.encoded.suffix.lower() == ".png" else "jpg"
    content = piece.encoded.read_bytes() if piece.encoded else _encode(piece.rgb, suffix)
    image = plan.out / "img" / f"{piece.img_id}.{suffix}"
    with _writing(plan.out):
        for other in IMAGE_SUFFIXES:
            if other != image.suffix:
                image.with_name(f"{piece.img_id}{other}").unlink(missing_ok=True)
        write_atomically(image, content)
        mask = _encode(piece.labels, "png")
        write_atomically(plan.out / "mask" / f"{piece.img_id}.png", mask)


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        message = f"cannot be written to: {error}"
        raise WsiError("disk-full" if full else "bad-input", message, subject=str(out)) from error


def _encode(pixels: NDArray[np.uint8], suffix: str) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(pixels)
    if suffix == "jpg":
        image.save(buffer, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    else:
        image.save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()
