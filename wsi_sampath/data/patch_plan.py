"""The plan of a folder of patches: what it will hold, and how each patch is made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from wsi_sampath.classes import ClassSpec
from wsi_sampath.data.patches import CONTEXT, CONTEXT_MASKS, IMAGES, MASKS, Patch

ImageFormat = Literal["png", "jpg"]
Labels = NDArray[np.uint8] | NDArray[np.uint16]
Decides = float | tuple[str, ...] | None
"""A setting that decides the content of files; None for the default."""


@dataclass(frozen=True)
class Piece:
    """One patch: `rgb`, uint8 (height, width, 3), and its labels (height, width) by their folder.

    `encoded` is the image's file where it can be copied unchanged; `notes` are what the user should
    know about how image and mask were read; `context` is what lies around the image, of the same
    size, where the plan has its labels.
    """

    img_id: str
    rgb: NDArray[np.uint8]
    labels: Mapping[str, Labels]
    encoded: Path | None = None
    notes: tuple[str, ...] = ()
    context: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class LabelledImage:
    """One image with its mask (and what else its labels come from), and the patches cut of them."""

    image: Path
    mask: Path
    patches: tuple[Patch, ...]
    cut: Callable[[], Iterator[Piece]]
    more: tuple[Path, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that are read."""
        return (self.image, self.mask, *self.more)


class Classes(Protocol):
    """Classes, and what denotes them in the sources: a `Grouping`, or names of annotations."""

    @property
    def plain_classes(self) -> tuple[ClassSpec, ...]:
        """Names and colours alone."""
        ...

    def model_dump(self, *, mode: str) -> dict[str, Any]:
        """Return all that decides the labels."""
        ...


@dataclass(frozen=True)
class PatchPlan:
    """Everything that a folder of patches will hold, fixed before the first pixel is read.

    `options` are further settings that decide the content of the files;
    `notes` are what the user should know in advance; `layers` are the folders of labels, the one
    with the classes last.
    """

    out: Path
    grouping: Classes
    sources: tuple[LabelledImage, ...]
    mpp: float | None = None
    image_format: ImageFormat = "png"
    options: Mapping[str, Decides] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    layers: tuple[str, ...] = (MASKS,)

    @property
    def patches(self) -> list[Patch]:
        """Every patch, in the order of the table."""
        return [patch for source in self.sources for patch in source.patches]

    @property
    def images(self) -> tuple[str, ...]:
        """The folders of images."""
        return (IMAGES, CONTEXT) if CONTEXT_MASKS in self.layers else (IMAGES,)

    def settings(self) -> dict[str, Any]:
        """Return what decides the content of the files besides their sources, for resuming."""
        layers = {} if self.layers == (MASKS,) else {"layers": list(self.layers)}
        return {
            "grouping": self.grouping.model_dump(mode="json"),
            "format": self.image_format,
            **layers,
            **self.options,
        }
