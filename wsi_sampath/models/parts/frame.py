"""An image of any shape in SAM's square frame: the longer side fills it, prompts follow."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def size_in_frame(size: tuple[int, int], tile: int) -> tuple[int, int]:
    """Return height and width, px, of an image of `size` once its longer side is `tile`."""
    scale = tile / max(size)
    height, width = (int(side * scale + 0.5) for side in size)
    return height, width


def image_in_frame(image: NDArray[np.uint8], tile: int) -> NDArray[np.uint8]:
    """Return uint8 (height, width, 3) resized to the frame, bilinear with antialiasing.

    The rest of the square, right and below, is left for the caller to fill.
    """
    height, width = size_in_frame((image.shape[0], image.shape[1]), tile)
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def points_in_frame(
    points: NDArray[np.floating], size: tuple[int, int], tile: int
) -> NDArray[np.float64]:
    """Return points of an image in pixels of the frame.

    Parameters
    ----------
    points
        (..., 2), x before y; a box is two points.
    size
        Height and width of the image, px.
    tile
        Side of the frame, px.
    """
    height, width = size_in_frame(size, tile)
    scale = np.array([width / size[1], height / size[0]])
    scaled: NDArray[np.float64] = np.asarray(points, np.float64) * scale
    return scaled
