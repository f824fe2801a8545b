"""What lies around a patch: the square of twice its width, at twice its um per pixel."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wsi_sampath.errors import UsageError

TIMES = 2
"""How much wider the context is than the patch, and its pixels than the patch's."""

Pixels = NDArray[np.uint8]


class InContext(NamedTuple):
    """A patch and its context, of the same number of pixels, around one centre.

    Attributes
    ----------
    image, labels
        uint8 (side, side, 3) and uint8 (side, side).
    context, context_labels
        The same of twice the width. Pixel (x, y) of the patch is in pixel
        (x / 2 + side / 4, y / 2 + side / 4) of the context.
    """

    image: Pixels
    labels: Pixels
    context: Pixels
    context_labels: Pixels


def check_side(side: int) -> None:
    """Refuse patches whose pixels would not lie evenly in those of their context."""
    if side % (2 * TIMES):
        raise UsageError(f"--tile {side} must be a multiple of 4, so that its context fits it")


def in_context(image: Pixels, labels: Pixels) -> InContext:
    """Cut a patch out of the middle of a square twice as wide, which becomes its context.

    Parameters
    ----------
    image, labels
        uint8 (2 side, 2 side, 3) and uint8 (2 side, 2 side), at the um per pixel of the patch;
        `side` is a multiple of 4.

    Returns
    -------
    InContext
        The context is averaged two by two pixels; its labels are the most frequent of four.
    """
    side = len(labels) // TIMES
    middle = slice(side // 2, side // 2 + side)
    context = _blocks(image).astype(np.uint16).sum(axis=0) + 2
    return InContext(
        image[middle, middle],
        labels[middle, middle],
        (context // 4).astype(np.uint8),
        _most_frequent(_blocks(labels)),
    )


def _blocks(pixels: Pixels) -> Pixels:
    """Return the four pixels of every block of two by two, (4, height / 2, width / 2, ...)."""
    return np.stack([pixels[row::2, column::2] for row in (0, 1) for column in (0, 1)])


def _most_frequent(labels: Pixels) -> Pixels:
    """Return the most frequent of four labels, (4, ...); of two equally frequent ones the larger.

    So a label wins over 0, and a line of two pixels' width stays whole.
    """
    first, second, third, fourth = np.sort(labels, axis=0)
    pairs = np.where(third == fourth, third, np.where(first == second, first, fourth))
    found: Pixels = np.where(second == third, second, pairs)
    return found
