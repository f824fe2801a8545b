"""The pictures of docs/gland-mini.md: ``python -m pipelines.gland_mini.pictures DATA``.

One shows held-out images as annotated and as found, the other tissue that gland-mini was not made
for.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.morphology import dilation, disk
from skimage.segmentation import find_boundaries

from pipelines.gland_mini.data import GLAND, read_ebhi, read_hgsc, read_rings, read_skin
from pipelines.gland_mini.figures import packaged
from pipelines.gland_mini.mosaic import LabelledPicture
from wsi_sampath.data.patches import read_rgb
from wsi_sampath.models.shipped import bundled_models
from wsi_sampath.training.augment import Mask, Rgb

IMAGES = Path(__file__).parents[2] / "docs" / "images"
SIDE, GAP = 280, 6
ANNOTATED, FOUND = (255, 220, 0), (0, 200, 60)
ELSEWHERE = (
    ("oscc/OSCC_400x_1.jpg", 0.3),
    ("he_tiles/histoqc_template1.png", 0.5),
    ("he_tiles/histoqc_template2.png", 0.5),
    ("he_tiles/tcga_tile.png", 0.25),
)


def square(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the middle square of an image or a mask, resized."""
    side = min(image.shape[:2])
    top, left = ((length - side) // 2 for length in image.shape[:2])
    cut = Image.fromarray(np.ascontiguousarray(image[top : top + side, left : left + side]))
    how = Image.Resampling.BILINEAR if image.ndim == 3 else Image.Resampling.NEAREST
    return np.asarray(cut.resize((SIDE, SIDE), how))


def outlined(image: Rgb, mask: Mask, colour: tuple[int, int, int]) -> Rgb:
    """Return the middle square of an image with the outlines of gland."""
    drawn = square(image).copy()
    drawn[dilation(find_boundaries(square(mask) == GLAND), disk(1))] = colour
    return drawn


def sheet(columns: Sequence[Sequence[Rgb]]) -> Image.Image:
    """Return pictures in columns, a white gap after each of them."""
    white = ((0, GAP), (0, GAP), (0, 0))
    padded = [
        np.concatenate([np.pad(picture, white, constant_values=255) for picture in column])
        for column in columns
    ]
    return Image.fromarray(np.concatenate(padded, axis=1))


def held_out(data: Path) -> list[LabelledPicture]:
    """Return four patches of EBHI-Seg, evenly spaced, and two images of RINGS."""
    rings = read_rings(data)[1]
    return [*read_ebhi(data).test[20::71][:4], rings[2], rings[4]]


def elsewhere(data: Path) -> list[LabelledPicture]:
    """Return pictures of tissue that gland-mini was not made for."""
    others = [_unlabelled(read_rgb(data / name), um) for name, um in ELSEWHERE]
    return [read_skin(data)[1], read_hgsc(data)[1], *others]


def _unlabelled(image: Rgb, um: float) -> LabelledPicture:
    return LabelledPicture(image, np.zeros(image.shape[:2], np.uint8), um)


def main() -> None:
    """Draw both pictures with the bundled model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    data = parser.parse_args().data
    labels = packaged(bundled_models()["gland-mini"])
    known, other = held_out(data), elsewhere(data)
    compared = [
        [outlined(patch.image, patch.mask, ANNOTATED), outlined(patch.image, found, FOUND)]
        for patch, found in zip(known, labels(known), strict=True)
    ]
    sheet(compared).save(IMAGES / "gland-mini.jpg", quality=68, optimize=True)
    found = labels(other)
    shown = [
        [square(patch.image), outlined(patch.image, mask, FOUND)]
        for patch, mask in zip(other, found, strict=True)
    ]
    sheet(shown).save(
        IMAGES / "gland-mini-elsewhere.jpg", quality=68, optimize=True, progressive=True
    )
    print("gland elsewhere:", *(f"{(mask == GLAND).mean():.3f}" for mask in found))


if __name__ == "__main__":
    main()
