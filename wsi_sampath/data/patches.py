"""Labelled patches on disk: the layout that training and evaluation read.

A folder with ``img/ID.png`` or ``img/ID.jpg``, ``mask/ID.png`` (uint8, 0 = ignored, 1..k the
classes), ``classes.yaml`` (the classes in the order of the labels) and ``patches.csv`` with the
columns ``img_id,fold,case``; fold -1 is the test split, 0 validation, above 0 training.

Instead of masks, or beside them, nuclei: ``inst/ID.png`` (uint16, 0 = background, every nucleus a
number of its own) and perhaps ``type/ID.png`` (uint8, 1..k the class of the nucleus, 0 = unknown).

Beside masks perhaps what is around an image, for networks that look twice: ``context/ID.png`` and
``context_mask/ID.png``, of the same size in px but of twice the um per pixel, around one centre.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, get_args

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import Field, ValidationError, field_validator

from wsi_sampath.classes import ClassSpec, check_class_names
from wsi_sampath.data.class_tables import table_error
from wsi_sampath.errors import WsiError
from wsi_sampath.files import replacing
from wsi_sampath.plausible import PLAUSIBLE_MPP
from wsi_sampath.settings import Frozen
from wsi_sampath.shown import plural
from wsi_sampath.slides.pictures import picture_size, read_picture, rgb_of
from wsi_sampath.yaml_files import read_yaml

Split = Literal["train", "validation", "test", "all"]
SPLITS: tuple[Split, ...] = get_args(Split)

TEST_FOLD, VALIDATION_FOLD = -1, 0
IMAGE_SUFFIXES = (".png", ".jpg")
MASKS, INSTANCES, TYPES, CONTEXT_MASKS = "mask", "inst", "type", "context_mask"
"""The folders of labels."""
IMAGES, CONTEXT = "img", "context"
"""The folders of images."""
_COLUMNS = ("img_id", "fold", "case")
_NAMED = 3
"""How many faults one line of an error names at most."""


@dataclass(frozen=True)
class Patch:
    """One labelled image: its id, its fold, and the patient (or slide) it comes from."""

    img_id: str
    fold: int
    case: str

    @property
    def split(self) -> Split:
        """The split that the fold stands for."""
        if self.fold == TEST_FOLD:
            return "test"
        return "validation" if self.fold == VALIDATION_FOLD else "train"


class ClassList(Frozen):
    """``classes.yaml``: the classes, and the pixel size of the images where it is known (um)."""

    classes: Annotated[tuple[ClassSpec, ...], Field(min_length=1, max_length=254)]
    mpp: Annotated[float, Field(ge=PLAUSIBLE_MPP[0], le=PLAUSIBLE_MPP[1])] | None = None

    @field_validator("classes")
    @classmethod
    def _check(cls, classes: tuple[ClassSpec, ...]) -> tuple[ClassSpec, ...]:
        check_class_names(spec.name for spec in classes)
        return classes


@dataclass(frozen=True)
class Nuclei:
    """An image with its nuclei.

    Attributes
    ----------
    image
        uint8 (height, width, 3), RGB.
    instances
        uint16 (height, width): 0 background, every nucleus a number of its own.
    types
        uint8 (height, width): the class of the nucleus, 1..k, or 0 where unknown; 0 outside of
        nuclei. None where the folder has no classes of nuclei.
    """

    image: NDArray[np.uint8]
    instances: NDArray[np.uint16]
    types: NDArray[np.uint8] | None


@dataclass(frozen=True)
class PatchSet:
    """A folder of labelled patches.

    Attributes
    ----------
    root
        The folder.
    classes
        Label value i + 1 is ``classes[i]``.
    mpp
        Microns per pixel of the images, or None where unknown.
    patches
        All of them, in the order of the table.
    layers
        Which labels there are: of ``mask``, ``inst``, ``type`` and ``context_mask``.
    """

    root: Path
    classes: tuple[ClassSpec, ...]
    mpp: float | None
    patches: tuple[Patch, ...]
    layers: tuple[str, ...] = (MASKS,)

    def split(self, name: Split) -> tuple[Patch, ...]:
        """Return the patches of one split."""
        return tuple(patch for patch in self.patches if name in ("all", patch.split))

    def image_path(self, img_id: str, folder: str = IMAGES) -> Path:
        """Return the file of an image, or of its context.

        Raises
        ------
        WsiError
            ``bad-input`` if there is none.
        """
        for suffix in IMAGE_SUFFIXES:
            path = self.root / folder / f"{img_id}{suffix}"
            if path.is_file():
                return path
        raise _bad(self.root, f"{folder}/{img_id}.png (or .jpg) of patches.csv is missing")

    def image_paths(self, img_id: str) -> tuple[Path, ...]:
        """Return the files of an image and of its context, if there are any.

        Raises
        ------
        WsiError
            ``bad-input`` as `image_path`.
        """
        folders = (IMAGES, CONTEXT) if self.has_context else (IMAGES,)
        return tuple(self.image_path(img_id, folder) for folder in folders)

    def size(self, img_id: str) -> tuple[int, int]:
        """Return width and height of an image, px, without decoding it."""
        return picture_size(self.image_path(img_id))

    def mask_path(self, img_id: str) -> Path:
        """Return the path of a mask, whether it exists or not."""
        return self.label_path(MASKS, img_id)

    def label_path(self, layer: str, img_id: str) -> Path:
        """Return the path of one kind of labels, whether it exists or not."""
        return self.root / layer / f"{img_id}.png"

    @property
    def has_nuclei(self) -> bool:
        """Whether nuclei are told apart, so that `read_nuclei` reads them."""
        return INSTANCES in self.layers

    @property
    def has_context(self) -> bool:
        """Whether there is what lies around the images, so that `read_context` reads it."""
        return CONTEXT_MASKS in self.layers

    def read(self, patch: Patch) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return image and mask.

        Returns
        -------
        image
            uint8 (height, width, 3), RGB.
        mask
            uint8 (height, width), 0 ignored, 1..k.

        Raises
        ------
        WsiError
            ``bad-input`` if a file is missing or unreadable, if the sizes differ, or if a label
            does not stand for a class.
        """
        if MASKS not in self.layers:
            raise _bad(self.root, "has nuclei (inst), but no classes of pixels (mask)")
        image = read_rgb(self.image_path(patch.img_id))
        return image, self._labels(MASKS, patch, image)

    def read_context(self, patch: Patch) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return the image around an image, and its mask.

        Returns
        -------
        image
            uint8 (height, width, 3), RGB, as many px as the image, around the same centre.
        mask
            uint8 (height, width), 0 ignored, 1..k.

        Raises
        ------
        WsiError
            ``bad-input`` as `read`, and where the folder has no context.
        """
        if not self.has_context:
            raise _bad(self.root, "has nothing of what lies around its images (context)")
        path = self.image_path(patch.img_id, CONTEXT)
        image = read_rgb(path)
        width, height = self.size(patch.img_id)
        if image.shape[:2] != (height, width):
            sizes = f"{image.shape[1]} x {image.shape[0]} px, its image {width} x {height} px"
            raise _bad(path, f"context is {sizes}")
        return image, self._labels(CONTEXT_MASKS, patch, image)

    def read_nuclei(self, patch: Patch) -> Nuclei:
        """Return an image with its nuclei.

        Raises
        ------
        WsiError
            ``bad-input`` as `read`, and where the folder has no nuclei.
        """
        if not self.has_nuclei:
            message = "has classes of pixels (mask), but nuclei are not told apart (inst)"
            raise _bad(self.root, message)
        image = read_rgb(self.image_path(patch.img_id))
        path = self.label_path(INSTANCES, patch.img_id)
        instances = _read_numbers(path, np.dtype(np.uint16)).astype(np.uint16)
        _check_size(image, instances, path)
        if TYPES not in self.layers:
            return Nuclei(image, instances, None)
        types = self._labels(TYPES, patch, image)
        return Nuclei(image, instances, np.where(instances > 0, types, 0).astype(np.uint8))

    def _labels(self, layer: str, patch: Patch, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        path = self.label_path(layer, patch.img_id)
        labels = _read_numbers(path, np.dtype(np.uint8)).astype(np.uint8)
        _check_size(image, labels, path)
        if int(labels.max(initial=0)) > len(self.classes):
            names = plural(len(self.classes), "class", "classes")
            message = f"holds label {labels.max()}, but classes.yaml has {names}"
            raise _bad(path, message)
        return labels


def open_patches(root: str | Path) -> PatchSet:
    """Open a folder of labelled patches; every pair named in the table must be there.

    Raises
    ------
    WsiError
        ``bad-input`` if the classes or the table cannot be used, or files are missing.
    """
    if not (root := Path(root)).is_dir():
        raise _bad(root, "there is no such folder of patches; wsi-prepare makes one")
    listed = _read_classes(root / "classes.yaml")
    table = tuple(_read_table(root / "patches.csv"))
    found = PatchSet(root, listed.classes, listed.mpp, table, _layers(root))
    missing = [
        f"{layer}/{patch.img_id}.png"
        for patch in found.patches
        for layer in found.layers
        if found.image_paths(patch.img_id) and not found.label_path(layer, patch.img_id).is_file()
    ]
    if missing:
        raise _bad(root, f"{several(missing)} of patches.csv missing")
    return found


def check_patches(patches: PatchSet) -> Iterator[Patch]:
    """Read every image and mask, yielding each patch that is good.

    Raises
    ------
    WsiError
        At the first bad one, as `PatchSet.read` does.
    """
    for patch in patches.patches:
        if MASKS in patches.layers:
            patches.read(patch)
        if patches.has_context:
            patches.read_context(patch)
        if patches.has_nuclei:
            patches.read_nuclei(patch)
        yield patch


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """Return an image as uint8 (height, width, 3).

    Raises
    ------
    WsiError
        ``bad-input`` if it cannot be decoded, or cannot be brought to 8 bits.
    """
    rgb, _ = rgb_of(read_picture(path), subject=str(path))
    return rgb


def write_classes(root: Path, classes: Iterable[ClassSpec], mpp: float | None = None) -> None:
    """Write ``classes.yaml``."""
    values = ClassList(classes=tuple(classes), mpp=mpp).model_dump(exclude_none=True)
    values["classes"] = [dict(spec) for spec in values["classes"]]
    write_atomically(root / "classes.yaml", yaml.safe_dump(values, sort_keys=False).encode())


def write_table(root: Path, patches: Iterable[Patch]) -> None:
    """Write ``patches.csv``, whose presence marks the folder as complete."""
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(_COLUMNS)
    rows.writerows((patch.img_id, patch.fold, patch.case) for patch in patches)
    write_atomically(root / "patches.csv", text.getvalue().encode())


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file atomically."""
    with replacing(path) as growing:
        growing.write_bytes(content)


def several(names: list[str]) -> str:
    """Return a few of the names, and how many more there are."""
    shown = ", ".join(names[:_NAMED])
    return shown if len(names) <= _NAMED else f"{shown} and {len(names) - _NAMED} more"


def _read_classes(path: Path) -> ClassList:
    try:
        return ClassList.model_validate(read_yaml(path))
    except ValidationError as error:
        raise _bad(path, table_error(error, ClassList)) from error


def _read_table(path: Path) -> Iterator[Patch]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            columns = rows.fieldnames or []
            lacking = [name for name in _COLUMNS if name not in columns]
            if lacking:
                raise _bad(path, f"has no column {', '.join(lacking)} (needs img_id,fold,case)")
            patches = [_row(row, path, rows.line_num) for row in rows]
    except (OSError, UnicodeDecodeError) as error:
        raise _bad(path, f"cannot be read: {error}") from error
    ids = [patch.img_id for patch in patches]
    twice = (
        sorted({img_id for img_id in ids if ids.count(img_id) > 1})
        if len(set(ids)) < len(ids)
        else []
    )
    if twice or not patches:
        raise _bad(path, f"names {several(twice)} twice" if twice else "names no patch")
    yield from patches


def _row(row: dict[str, str | None], path: Path, line: int) -> Patch:
    try:
        patch = Patch(row["img_id"] or "", int(row["fold"] or ""), row["case"] or "")
    except ValueError:
        raise _bad(path, f"line {line}: fold {row['fold']!r} is not a whole number") from None
    if not patch.img_id or not patch.case or patch.fold < TEST_FOLD:
        raise _bad(path, f"line {line}: needs an img_id, a fold of -1 or more, and a case")
    return patch


def _layers(root: Path) -> tuple[str, ...]:
    """Return which folders of labels there are; masks are missed where there is none at all."""
    known = (MASKS, INSTANCES, TYPES, CONTEXT_MASKS)
    found = tuple(name for name in known if (root / name).is_dir())
    return found if MASKS in found or INSTANCES in found else (MASKS,)


def _read_numbers(path: Path, dtype: np.dtype[np.generic]) -> NDArray[np.generic]:
    picture = read_picture(path)
    labels = picture.pixels
    if picture.lossy:
        raise _bad(path, "is compressed with losses, which change labels; save it as PNG")
    # 8 bits are enough for the nuclei of a small patch.
    if labels.ndim != 2 or labels.dtype not in (dtype, np.uint8):
        found = f"{labels.dtype} with {labels.ndim} axes"
        raise _bad(path, f"is {found}, not one {dtype} label per pixel")
    return labels


def _check_size(image: NDArray[np.uint8], labels: NDArray[np.generic], path: Path) -> None:
    if labels.shape != image.shape[:2]:
        sizes = [f"{pixels.shape[1]} x {pixels.shape[0]} px" for pixels in (labels, image)]
        raise _bad(path, f"{path.parent.name} is {sizes[0]}, its image {sizes[1]}")


def _bad(path: Path, message: str) -> WsiError:
    return WsiError("bad-input", message, subject=str(path))
