"""Small TIFFs for the tests: one scene, in many layouts."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

MPP = {"resolution": (20000, 20000), "resolutionunit": "CENTIMETER"}
TILED = {"tile": (128, 128), "photometric": "rgb", "compression": "deflate"}
SIZE = (1024, 768)


@cache
def scene(width: int = SIZE[0], height: int = SIZE[1], seed: int = 0) -> np.ndarray:
    """Pink tissue with structure at all scales on bright glass; uint8 (height, width, 3)."""
    rng = np.random.default_rng(seed)
    field = sum(
        np.asarray(
            Image.fromarray(rng.normal(0, 1, (n, n)).astype(np.float32)).resize(
                (width, height), Image.Resampling.BICUBIC
            )
        )
        * weight
        for n, weight in ((4, 1.0), (16, 0.5), (64, 0.3), (256, 0.2))
    )
    tissue = (np.clip(field, -0.2, 1.0) + 0.2)[..., None] / 1.2
    colour = np.array([240, 238, 242]) - tissue * np.array([70, 160, 90])
    return (colour + rng.normal(0, 2, colour.shape)).clip(0, 255).astype(np.uint8)


def smaller(rgb: np.ndarray, factor: int) -> np.ndarray:
    """Average blocks of `factor` x `factor` pixels."""
    h, w = (side // factor * factor for side in rgb.shape[:2])
    blocks = rgb[:h, :w].reshape(h // factor, factor, w // factor, factor, -1)
    return blocks.mean((1, 3)).round().astype(rgb.dtype)


@cache
def label(width: int = 300, height: int = 260) -> np.ndarray:
    """Black print on white paper."""
    paper = np.full((height, width, 3), 250, np.uint8)
    for row in range(20, height - 20, 30):
        paper[row : row + 12, 20 : width - 40 + row % 20] = (30, 30, 30)
    return paper


@cache
def macro(width: int = 640, height: int = 210) -> np.ndarray:
    """A whole glass seen from afar, tissue in its right half alone."""
    view = np.full((height, width, 3), (235, 236, 232), np.uint8)
    blob = smaller(scene(1024, 768, 5), 4)
    h, w = min(height // 2, 192), min(width // 3, 256)
    view[height // 4 : height // 4 + h, width * 5 // 8 : width * 5 // 8 + w] = blob[:h, :w]
    view[:, : width // 5] = (40, 60, 160)
    return view


def write_pages(path: Path, *pages: tuple[np.ndarray, dict]) -> Path:
    """Write pages of a plain TIFF, each with its own options over the usual ones."""
    with tifffile.TiffWriter(path) as tiff:
        for image, options in pages:
            tiff.write(image, metadata=None, **{**TILED, **MPP, **options})
    return path


def write_ome(path: Path, *images: tuple[str, np.ndarray, list[np.ndarray]], **metadata) -> Path:
    """Write an OME-TIFF of (name, image, reduced copies)."""
    with tifffile.TiffWriter(path, ome=True) as tiff:
        for name, image, reduced in images:
            stated = {
                "axes": "YXS",
                "Name": name,
                "PhysicalSizeX": 0.5,
                "PhysicalSizeXUnit": "µm",
                "PhysicalSizeY": 0.5,
                "PhysicalSizeYUnit": "µm",
                **metadata,
            }
            tiff.write(image, subifds=len(reduced), metadata=stated, **TILED, **MPP)
            for copy in reduced:
                tiff.write(copy, subfiletype=1, **TILED)
    return path
