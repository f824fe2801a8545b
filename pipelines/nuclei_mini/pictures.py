"""The picture of docs/nuclei-mini.md: ``python -m pipelines.nuclei_mini.pictures DATA``.

Held-out fields as annotated and as found, and a piece of skin that nobody annotated.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from skimage.segmentation import find_boundaries

from pipelines.nuclei_mini.data import MPP, read_fields
from pipelines.nuclei_mini.figures import Labels, by_network
from wsi_sampath.models.zoo import load_model
from wsi_sampath.slides.slide import Slide
from wsi_sampath.training.augment import Rgb

IMAGES = Path(__file__).parents[2] / "docs" / "images"
SIDE, GAP = 300, 6
ANNOTATED, FOUND = (255, 220, 0), (0, 200, 60)
SHOWN = ("tnbc_03_2", "tnbc_11_1", "train_3")
SKIN_AT = (900, 1500)
"""Corner of the piece of CMU-1-Small-Region, px of the slide."""


def outlined(image: Rgb, labels: Labels, colour: tuple[int, int, int]) -> Rgb:
    """Return the upper left square of an image with the outlines of nuclei, on white."""
    drawn = np.array(image)
    drawn[find_boundaries(labels, mode="inner")] = colour
    square = np.full((SIDE + GAP, SIDE + GAP, 3), 255, np.uint8)
    part = drawn[:SIDE, :SIDE]
    square[: part.shape[0], : part.shape[1]] = part
    return square


def skin(data: Path) -> Rgb:
    """Return a piece of skin, SIDE x SIDE."""
    with Slide.open(data / "slides" / "CMU-1-Small-Region.svs") as slide:
        return slide.read(x0=SKIN_AT[0], y0=SKIN_AT[1], width=SIDE, height=SIDE, mpp=MPP)


def main() -> None:
    """Draw the picture with the bundled model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    data = parser.parse_args().data
    find = by_network(load_model("nuclei-mini"))
    fields = {field.name: field for field in read_fields(data)}
    columns = []
    for name in SHOWN:
        image, truth = fields[name].image, fields[name].targets.instances
        columns.append(
            [outlined(image, truth, ANNOTATED), outlined(image, find([image])[0], FOUND)]
        )
    piece = skin(data)
    nothing = np.zeros(piece.shape[:2], np.int32)
    columns.append([outlined(piece, nothing, FOUND), outlined(piece, find([piece])[0], FOUND)])
    sheet = np.concatenate([np.concatenate(column) for column in columns], axis=1)
    Image.fromarray(sheet).save(IMAGES / "nuclei-mini.jpg", quality=68)


if __name__ == "__main__":
    main()
