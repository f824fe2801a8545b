"""The images of a zarr: what each of them shows, and how it is stored. Frozen values, no files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from wsi_sampath.classes import ClassSpec
from wsi_sampath.outputs.omezarr.bands import CHUNK
from wsi_sampath.outputs.omezarr.downsample import pyramid_shapes
from wsi_sampath.outputs.omezarr.ngff import PlaneScale

ROOT = ""
"""Path of the image that every zarr has, and of which its label planes are."""
LABELS = "labels/"
"""Where NGFF keeps label planes."""


@dataclass(frozen=True)
class ImageSpec:
    """One multiscale image.

    Attributes
    ----------
    path
        `ROOT`, or ``"labels/NAME"`` for a label plane.
    channels
        Name and colour of the channels of a (c, y, x) image; without any it is a plane (y, x).
    values
        Name and colour of the labels 1..k of a label plane; empty where they are ids of objects.
    dtype
        Of what is stored.
    halving
        How a level becomes the next one: by the ``mean`` of 2 x 2 pixels (uint8 only), or by their
        ``mode``, which keeps labels.
    """

    path: str
    channels: tuple[ClassSpec, ...] = ()
    values: tuple[ClassSpec, ...] = ()
    dtype: Literal["uint8", "uint32"] = "uint8"
    halving: Literal["mean", "mode"] = "mode"

    def __post_init__(self) -> None:
        name = self.path.removeprefix(LABELS)
        if self.path != ROOT and (name == self.path or not name or "/" in name):
            raise ValueError(f"an image at {self.path!r}, neither the root nor {LABELS}NAME")
        if self.path != ROOT and self.channels:
            raise ValueError(f"{self.path} is a label plane and has no channels")
        if self.halving == "mean" and self.dtype != "uint8":
            raise ValueError(f"{self.path or 'the root image'}: {self.dtype} is halved by mode")

    @property
    def label(self) -> str | None:
        """Name of a label plane; None for the root image."""
        return None if self.path == ROOT else self.path.removeprefix(LABELS)

    def array(self, level: int) -> str:
        """Return where the array of a level lies in the zarr."""
        return f"{self.path}/{level}" if self.path else str(level)


@dataclass(frozen=True)
class PyramidSpec:
    """What a zarr holds, and how large it is.

    Attributes
    ----------
    name
        Name of the root image, the slide's.
    height, width
        Of level 0 of every image, in pixels.
    scale
        Its physical size.
    images
        The root image and the label planes.
    zarr_format
        2 (NGFF 0.4) or 3 (NGFF 0.5).
    """

    name: str
    height: int
    width: int
    scale: PlaneScale
    images: tuple[ImageSpec, ...]
    zarr_format: Literal[2, 3] = 2

    def __post_init__(self) -> None:
        paths = [image.path for image in self.images]
        if ROOT not in paths or len(set(paths)) < len(paths):
            raise ValueError(f"images at {paths}: a zarr has one root image, and each path once")

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """(height, width) of every level."""
        return pyramid_shapes(self.height, self.width, stop=CHUNK)

    @property
    def root(self) -> ImageSpec:
        """The root image."""
        return next(image for image in self.images if image.path == ROOT)

    @property
    def labels(self) -> tuple[ImageSpec, ...]:
        """The label planes."""
        return tuple(image for image in self.images if image.path != ROOT)
