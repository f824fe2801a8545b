"""Labelled patches on disk: the layout that training and evaluation read.

A folder with ``img/ID.png`` or ``img/ID.jpg``, ``mask/ID.png`` (uint8, 0 = ignored, 1..k the
classes), ``classes.yaml`` (the classes in the order of the labels) and ``patches.csv`` with the
columns ``img_id,fold,case``; fold -1 is the test split, 0 validation, above 0 training.
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
from wsi_sampath.settings import Frozen
from wsi_sampath.slides.pictures import read_picture, rgb_of
from wsi_sampath.yaml_files import read_yaml

Split = Literal["train", "validation", "test", "all"]
SPLITS: tuple[Split, ...] = get_args(Split)

TEST_FOLD, VALIDATION_FOLD = -1, 0
IMAGE_SUFFIXES = (".png", ".jpg")
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
    mpp: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None

    @field_validator("classes")
    @classmethod
    def _check(cls, classes: tuple[ClassSpec, ...]) -> tuple[ClassSpec, ...]:
        check_class_names(spec.name for spec in classes)
        return classes


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
    """

    root: Path
    classes: tuple[ClassSpec, ...]
    mpp: float | None
    patches: tuple[Patch, ...]

    def split(self, name: Split) -> tuple[Patch, ...]:
        """Return the patches of one split."""
        return tuple(patch for patch in self.patches if name in ("all", patch.split))

    def image_path(self, img_id: str) -> Path:
        """Return the file of an image.

        Raises
        ------
        WsiError
            ``bad-input`` if there is none.
        """
        for suffix in IMAGE_SUFFIXES:
            path = self.root / "img" / f"{img_id}{suffix}"
            if path.is_file():
                return path
        raise _bad(self.root, f"img/{img_id}.png (or .jpg) of patches.csv is missing")

    def mask_path(self, img_id: str) -> Path:
        """Return the path of a mask, whether it exists or not."""
        return self.root / "mask" / f"{img_id}.png"

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
        image = read_rgb(self.image_path(patch.img_id))
        mask = _read_labels(self.mask_path(patch.img_id))
        subject = str(self.mask_path(patch.img_id))
        if mask.shape != image.shape[:2]:
            raise WsiError("bad-input", _sizes(image.shape, mask.shape), subject=subject)
        if int(mask.max(initial=0)) > len(self.classes):
            message = f"holds label {mask.max()}, but classes.yaml has {len(self.classes)} classes"
            raise WsiError("bad-input", message, subject=subject)
        return image, mask


def open_patches(root: str | Path) -> PatchSet:
    """Open a folder of labelled patches; every pair named in the table must be there.

    Raises
    ------
    WsiError
        ``bad-input`` if the classes or the table cannot be used, or files are missing.
    """
    root = Path(root)
    listed = _read_classes(root / "classes.yaml")
    found = PatchSet(root, listed.classes, listed.mpp, tuple(_read_table(root / "patches.csv")))
    missing = [
        f"mask/{patch.img_id}.png"
        for patch in found.patches
        if found.image_path(patch.img_id) and not found.mask_path(patch.img_id).is_file()
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
        patches.read(patch)
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


def _read_labels(path: Path) -> NDArray[np.uint8]:
    picture = read_picture(path)
    labels = picture.pixels
    if picture.lossy:
        message = "is compressed with losses, which change labels; save it as PNG"
        raise WsiError("bad-input", message, subject=str(path))
    if labels.ndim != 2 or labels.dtype != np.uint8:
        found = f"{labels.dtype} with {labels.ndim} axes"
        raise WsiError("bad-input", f"is {found}, not one uint8 label per pixel", subject=str(path))
    return labels


def _sizes(image: tuple[int, ...], mask: tuple[int, ...]) -> str:
    return f"mask is {mask[1]} x {mask[0]} px, its image {image[1]} x {image[0]} px"


def _bad(path: Path, message: str) -> WsiError:
    return WsiError("bad-input", message, subject=str(path))
