"""Masks of single objects: how good they are, where they lie, and which of them are the same."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Mask:
    """One object of an image.

    Attributes
    ----------
    y, x
        First row and column of its box.
    pixels
        bool (rows, columns), the box; True in its first and last row and column somewhere.
    predicted_iou
        What the network thinks of it, about 0 to 1.
    stability
        See `stability_scores`.
    point
        (x, y) of the point that was asked for, px; None where it was a box.
    """

    y: int
    x: int
    pixels: Flags
    predicted_iou: float = 1.0
    stability: float = 1.0
    point: tuple[float, float] | None = None

    @property
    def score(self) -> float:
        """How good it is, all in all."""
        return self.predicted_iou * self.stability

    @property
    def area(self) -> int:
        """Count its pixels."""
        return int(np.count_nonzero(self.pixels))

    @property
    def box(self) -> tuple[slice, slice]:
        """Where its box lies in the image."""
        rows, columns = self.pixels.shape
        return slice(self.y, self.y + rows), slice(self.x, self.x + columns)

    @property
    def centroid(self) -> tuple[float, float]:
        """(y, x) of its centre of mass, in px; the first pixel's centre is at 0."""
        y, x = np.nonzero(self.pixels)
        return self.y + float(y.mean()), self.x + float(x.mean())

    def moved(self, down: int, right: int) -> Mask:
        """Return the same object elsewhere; the point that was asked for stays in its own image."""
        return replace(self, y=self.y + down, x=self.x + right)

    def cut_to(self, kept: Flags) -> Mask:
        """Return the same object with fewer pixels, of which there must be one.

        Parameters
        ----------
        kept
            bool, of the shape of `pixels`.
        """
        rows, columns = _extent(np.any(kept, axis=1)), _extent(np.any(kept, axis=0))
        y, x = self.y + rows.start, self.x + columns.start
        return replace(self, y=y, x=x, pixels=kept[rows, columns].copy())


@dataclass(frozen=True)
class Edges:
    """Which edges of an image cut through objects, for there is more beyond them."""

    top: bool = False
    bottom: bool = False
    left: bool = False
    right: bool = False

    def cut(self, mask: Mask, size: tuple[int, int]) -> bool:
        """Return whether an object of an image of `size` (height, width) reaches such an edge."""
        rows, columns = mask.box
        return (
            (self.top and rows.start == 0)
            or (self.bottom and rows.stop == size[0])
            or (self.left and columns.start == 0)
            or (self.right and columns.stop == size[1])
        )


def stability_scores(logits: Tensor, offset: float) -> Tensor:
    """Return how little masks change with the threshold, (n,) float32, 0 to 1; NaN if empty.

    It is the IoU of the masks at thresholds that are `offset` higher and lower.

    Parameters
    ----------
    logits
        (n, height, width).
    offset
        In the unit of the logits.
    """
    return _count(logits > offset) / _count(logits > -offset)


def cut_out(pixels: Flags) -> Mask:
    """Return what is True of an image, of which there must be a pixel, as an object."""
    return Mask(0, 0, pixels).cut_to(pixels)


def keep_by_boxes(masks: Sequence[Mask], limit: float) -> list[Mask]:
    """Leave out masks whose box is much like that of one with a higher predicted IoU.

    Parameters
    ----------
    masks
        Of one image.
    limit
        Largest IoU of the boxes of two that stay; as published, a box ends in the middle of its
        last pixels.

    Returns
    -------
    list of Mask
        By falling predicted IoU.
    """
    ordered = sorted(masks, key=lambda mask: -mask.predicted_iou)
    boxes = np.array([_middles(mask.box) for mask in ordered], np.float64).reshape(-1, 2, 2)
    dropped = np.zeros(len(ordered), bool)
    for index in range(len(ordered)):
        if not dropped[index]:
            rest = slice(index + 1, None)
            dropped[rest] |= _box_overlaps(boxes[index], boxes[rest]) > limit
    return [mask for mask, is_dropped in zip(ordered, dropped, strict=True) if not is_dropped]


def keep_by_masks(
    masks: Iterable[Mask], limit: float, *, share_of: Literal["union", "smaller"] = "union"
) -> list[Mask]:
    """Leave out masks that are much like one with a higher score.

    Parameters
    ----------
    masks
        Of one image.
    limit
        Largest overlap of two that stay.
    share_of
        What the overlap is a share of: the union of both, or the smaller one.

    Returns
    -------
    list of Mask
        By falling score.
    """
    kept: list[Mask] = []
    areas: list[int] = []
    for mask in best_first(masks):
        area = mask.area
        overlaps = [overlap_px(mask, other) for other in kept]
        wholes = [
            area + other - overlap if share_of == "union" else min(area, other)
            for other, overlap in zip(areas, overlaps, strict=True)
        ]
        if all(a <= limit * b for a, b in zip(overlaps, wholes, strict=True)):
            kept.append(mask)
            areas.append(area)
    return kept


def overlap_px(one: Mask, other: Mask) -> int:
    """Count the pixels that two masks share."""
    top, left = max(one.y, other.y), max(one.x, other.x)
    bottom = min(one.box[0].stop, other.box[0].stop)
    right = min(one.box[1].stop, other.box[1].stop)
    if bottom <= top or right <= left:
        return 0
    ours, theirs = (
        mask.pixels[top - mask.y : bottom - mask.y, left - mask.x : right - mask.x]
        for mask in (one, other)
    )
    return int(np.count_nonzero(ours & theirs))


def best_first(masks: Iterable[Mask]) -> list[Mask]:
    """Return masks by falling score; equals stay in their order."""
    return sorted(masks, key=lambda mask: -mask.score)


def smallest_first(masks: Iterable[Mask]) -> list[Mask]:
    """Return masks by rising area; of equals the last comes first."""
    return sorted(masks, key=lambda mask: -mask.area)[::-1]


def claim(
    mask: Mask,
    taken: Flags,
    *,
    max_covered: float = 1.0,
    min_area_px: int = 0,
    all_pieces: bool = False,
) -> list[Mask]:
    """Give an object the pixels of its mask that are free, and note them as taken.

    Parameters
    ----------
    mask
        The object.
    taken
        bool (rows, columns) of the image; changed.
    max_covered
        Share of the mask that may be taken already; if more is, the object is there already.
    min_area_px
        Pieces of fewer pixels are no objects, and take nothing.
    all_pieces
        Whether every piece of what is left becomes an object, as published for grids of points, or
        the largest alone, as published for the network's own prompts.

    Returns
    -------
    list of Mask
        None, one or, with `all_pieces`, several.
    """
    free = mask.pixels & ~taken[mask.box]
    left = np.count_nonzero(free)
    if left == 0 or left < (1 - max_covered) * mask.area:
        return []
    labels, n_pieces = ndimage.label(free)
    sizes = np.bincount(labels.ravel())[1:]
    chosen = range(n_pieces) if all_pieces else [int(np.argmax(sizes))]
    pieces = [mask.cut_to(labels == one + 1) for one in chosen if sizes[one] >= min_area_px]
    for piece in pieces:
        taken[piece.box] |= piece.pixels
    return pieces


def without_background(objects: Sequence[Mask], size: tuple[int, int]) -> list[Mask]:
    """Leave out the largest object if it is larger than all that no object covers.

    Parameters
    ----------
    objects
        Of an image; they don't overlap.
    size
        Height and width of the image, px.
    """
    areas = [one.area for one in objects]
    if not areas or max(areas) <= size[0] * size[1] - sum(areas):
        return list(objects)
    largest = int(np.argmax(areas))
    return [*objects[:largest], *objects[largest + 1 :]]


def _count(masks: Tensor) -> Tensor:
    # Four times as fast on a processor as one sum, which is of 64-bit numbers.
    return masks.view(torch.uint8).sum(dim=2, dtype=torch.int16).sum(dim=1, dtype=torch.int32)


def _middles(box: tuple[slice, slice]) -> tuple[tuple[int, int], tuple[int, int]]:
    return (box[0].start, box[1].start), (box[0].stop - 1, box[1].stop - 1)


def _box_overlaps(one: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the IoU of a box (2, 2), first and last corner, with each of others (n, 2, 2)."""
    first = np.maximum(one[0], others[:, 0])
    last = np.minimum(one[1], others[:, 1])
    shared = (last - first).clip(min=0).prod(axis=1)
    union = (one[1] - one[0]).prod() + (others[:, 1] - others[:, 0]).prod(axis=1) - shared
    # A box of one pixel has no area, and overlaps nothing.
    shares: NDArray[np.float64] = shared / np.where(union > 0, union, 1)
    return shares


def _extent(line: Flags) -> slice:
    inside = np.flatnonzero(line)
    return slice(int(inside[0]), int(inside[-1]) + 1)
