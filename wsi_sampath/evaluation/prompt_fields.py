"""The squares of patches that networks are asked about, and the objects in them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsi_sampath.data.objects import Numbers, renumbered, separate_objects, united_objects
from wsi_sampath.data.patches import Patch, PatchSet
from wsi_sampath.data.windows import starts
from wsi_sampath.errors import WsiError

Rgb = NDArray[np.uint8]


@dataclass(frozen=True)
class Square:
    """A square of a patch.

    Attributes
    ----------
    name
        Of the patch, with the number of the square in it.
    case
        Of the patch.
    views
        uint8 (side, side, 3): the square, and what lies around it where the patch has a context.
    objects
        int32 (side, side): 0, or the number of an object, 1..n.
    """

    name: str
    case: str
    views: tuple[Rgb, ...]
    objects: Numbers

    def masks(self, at_once: int) -> Iterator[Tensor]:
        """Yield the objects as masks, bool (at_once or fewer, side, side)."""
        numbers = torch.from_numpy(self.objects)
        end = int(self.objects.max(initial=0)) + 1
        for first in range(1, end, at_once):
            ids = torch.arange(first, min(first + at_once, end))
            yield numbers[None] == ids[:, None, None]


@dataclass(frozen=True)
class Squares:
    """How patches become squares.

    Attributes
    ----------
    patches
        The folder.
    side
        Of squares in px of patches that have no context; with one, a patch is a square.
    wanted
        Of `wanted_labels`, for classes of pixels.
    nuclei
        Whether objects are the nuclei.
    together
        All objects of a square are one.
    least_px
        Of an object.
    """

    patches: PatchSet
    side: int
    wanted: NDArray[np.bool_]
    nuclei: bool
    together: bool
    least_px: int

    def of(self, patch: Patch) -> Iterator[Square]:
        """Yield the squares of a patch that hold objects.

        Raises
        ------
        WsiError
            ``bad-input`` for patches that cannot be read, or not be shown with their context.
        """
        if self.nuclei:
            found = self.patches.read_nuclei(patch)
            yield from self._cut(patch, found.image, found.instances.astype(np.int32))
            return
        image, labels = self.patches.read(patch)
        separate = united_objects if self.together else separate_objects
        if not self.patches.has_context:
            objects = separate(labels, None, self.wanted, self.least_px)
            yield from self._cut(patch, image, objects.near)
            return
        height, width = labels.shape
        if height != width or height % 4:
            message = f"is {width} x {height} px; patches in a context are square, of 4 times n px"
            raise WsiError("bad-input", message, subject=str(self.patches.image_path(patch.img_id)))
        context, around = self.patches.read_context(patch)
        objects = separate(labels, around, self.wanted, self.least_px)
        if objects.count:
            yield Square(f"{patch.img_id}/0", patch.case, (image, context), objects.near)

    def _cut(self, patch: Patch, image: Rgb, numbers: Numbers) -> Iterator[Square]:
        """Yield squares side by side; what is missing to a square mirrors the patch."""
        size = numbers.shape
        grow = [(0, max(0, self.side - length)) for length in size]
        image = np.pad(image, [*grow, (0, 0)], mode="symmetric")
        numbers = np.pad(numbers, grow)
        corners = [(y, x) for y in starts(size[0], self.side) for x in starts(size[1], self.side)]
        for number, (top, left) in enumerate(corners):
            at = np.s_[top : top + self.side, left : left + self.side]
            objects = renumbered(numbers[at], self.least_px)
            if objects.any():
                yield Square(f"{patch.img_id}/{number}", patch.case, (image[at],), objects)
