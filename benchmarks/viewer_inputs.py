"""What the viewer's benchmark looks at: a large slide with a result of very many nuclei.

Both repeat one painted square, which costs little to make: every tile of the slide is stored and
decoded as if it were another, and every nucleus has an id, a row and an outline of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile

from wsi_sampath.classes import ClassSpec
from wsi_sampath.outputs.belonging import content_of
from wsi_sampath.outputs.nuclei.channels import NUCLEUS_CHANNELS
from wsi_sampath.outputs.nuclei.columns import TableInfo
from wsi_sampath.outputs.nuclei.found import FoundNuclei, NucleusSpec, found_nuclei
from wsi_sampath.outputs.nuclei.parquet import NucleusTableWriter
from wsi_sampath.outputs.nuclei.patch import NucleusPatch, channels_of
from wsi_sampath.outputs.nuclei.placed import place
from wsi_sampath.outputs.omezarr.images import ROOT, ImageSpec, PyramidSpec
from wsi_sampath.outputs.omezarr.ngff import PlaneScale
from wsi_sampath.outputs.omezarr.pyramid import PyramidWriter
from wsi_sampath.outputs.qupath.slide_shapes import PlaneToSlide
from wsi_sampath.slides.slide_fingerprint import slide_fingerprint

MPP = 0.25
PERIOD = 1024
"""Side of the painted square in level-0 px."""
SCALE = 2
"""Level-0 px in one px of the maps."""
ACROSS = 21
"""Nuclei in a row of a square: 441 in one, about 6,700 per mm2."""
TILE = 256
LEVELS = (1, 4, 16)
CLASSES = (
    ClassSpec(name="Neoplastic", color="#c80000"),
    ClassSpec(name="Inflammatory", color="#1e78b4"),
    ClassSpec(name="Connective", color="#96c896"),
)
RUN = "0123456789abcdef"


@dataclass(frozen=True)
class Square:
    """One painted square at the resolution of the maps.

    Attributes
    ----------
    ids
        uint32 (side, side): 1..n, no two nuclei touch each other or the border; 0 for none.
    values
        uint8 (channels, side, side); see `NucleusPatch.values`.
    """

    ids: np.ndarray
    values: np.ndarray

    @property
    def count(self) -> int:
        """Number of nuclei."""
        return int(self.ids.max())

    @property
    def maps(self) -> np.ndarray:
        """The maps that nuclei are cut out of, uint8 (3, side, side)."""
        inside = self.ids > 0
        return np.stack([np.where(inside, 255, 1), *[np.where(inside, 90, 255)] * 2]).astype("u1")


def painted_square(seed: int = 0) -> Square:
    """Paint nuclei on a grid, each a little beside its place, as ellipses of random size."""
    rng = np.random.default_rng(seed)
    side = PERIOD // SCALE
    step = side / ACROSS
    ids = np.zeros((side, side), np.uint32)
    classes = rng.choice(len(CLASSES), ACROSS**2, p=[0.6, 0.25, 0.15])
    for index in range(ACROSS**2):
        y, x = step * (np.array(divmod(index, ACROSS)) + rng.uniform(0.45, 0.55, 2))
        tall, wide = step * rng.uniform(0.22, 0.32, 2)
        rows, columns = (int(one - 0.4 * step) + np.arange(int(0.8 * step) + 2) for one in (y, x))
        inside = np.hypot((rows[:, None] + 0.5 - y) / tall, (columns + 0.5 - x) / wide) < 1
        ids[np.ix_(rows, columns)] += inside * np.uint32(index + 1)
    values = np.zeros((channels_of(len(CLASSES)), side, side), np.uint8)
    values[:3] = np.array([230, 60, 30])[:, None, None]
    for value in range(len(CLASSES)):
        values[3 + value] = np.where(np.append(-1, classes)[ids] == value, 200, 20)
    return Square(ids, values * (ids > 0))


def write_slide(path: Path, square: Square, times: int) -> Path:
    """Write a pyramidal JPEG slide of `times` x `times` squares, its tiles encoded once."""
    rng = np.random.default_rng(1)
    stain = np.where(square.ids[..., None] > 0, (110, 70, 150), (225, 180, 205))
    pixels = stain.repeat(SCALE, axis=0).repeat(SCALE, axis=1)
    pixels = (pixels + rng.normal(0, 9, pixels.shape)).clip(0, 255).astype(np.uint8)
    side = PERIOD * times
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        for factor in LEVELS:
            small = pixels[::factor, ::factor]
            repeated = np.tile(small, (max(1, TILE // len(small)),) * 2 + (1,))
            size = -(-side // factor)
            tiff.write(
                _repeated_tiles(repeated, -(-size // TILE)),
                shape=(size, size, 3),
                dtype=np.uint8,
                tile=(TILE, TILE),
                photometric="ycbcr",
                compression="jpeg",
                subsampling=(2, 2),
                description=f"Aperio Image Library v11.2.1\n{side}x{side}|AppMag = 40|MPP = {MPP}",
                metadata=None,
                software=False,
            )
    return path


def _repeated_tiles(pixels: np.ndarray, across: int) -> Iterator[bytes]:
    count = len(pixels) // TILE
    encoded = [
        bytes(
            imagecodecs.jpeg8_encode(
                np.ascontiguousarray(pixels[y : y + TILE, x : x + TILE]),
                level=80,
                colorspace="RGB",
                outcolorspace="YCBCR",
                subsampling="420",
            )
        )
        for y in range(0, count * TILE, TILE)
        for x in range(0, count * TILE, TILE)
    ]
    for row in range(across):
        for column in range(across):
            yield encoded[row % count * count + column % count]


def write_result(path: Path, slide: Path, square: Square, times: int) -> Path:
    """Write ``NAME.zarr`` of a slide with its table of nuclei beside it, as a run leaves them."""
    found = _found(square)
    table = _write_table(path.with_suffix(".nuclei.parquet"), slide, found, times)
    writer = PyramidWriter(path, _pyramid(slide, times))
    classes = np.append(0, found.label).astype(np.uint8)[square.ids]
    for row in range(times):
        y = row * len(square.ids)
        writer.append("labels/classes", y, np.tile(classes, (1, times)))
        writer.append(ROOT, y, np.tile(square.maps, (1, 1, times)))
        first = np.arange(row * times, (row + 1) * times, dtype=np.uint32) * square.count
        ids = np.tile(square.ids, (1, times))
        ids += (ids > 0) * first.repeat(len(square.ids))
        writer.append("labels/nuclei", y, ids)
    writer.finish(_attributes(slide, found, times, table))
    return path


def _found(square: Square) -> FoundNuclei:
    um = MPP * SCALE
    patch = NucleusPatch(0, 0, square.ids, square.values)
    return found_nuclei([patch], NucleusSpec(um, um, len(CLASSES)))


def _write_table(path: Path, slide: Path, found: FoundNuclei, times: int) -> Path:
    info = TableInfo(RUN, slide.name, (MPP, MPP), CLASSES)
    ids = found.id.copy()
    with NucleusTableWriter(path, info=info) as table:
        for index in range(times**2):
            row, column = divmod(index, times)
            found.id[:] = ids + index * len(ids)
            where = PlaneToSlide(SCALE, SCALE, column * PERIOD, row * PERIOD, MPP, MPP)
            table.write(place(found, where))
    return path


def _pyramid(slide: Path, times: int) -> PyramidSpec:
    side, um = PERIOD * times // SCALE, MPP * SCALE
    images = (
        ImageSpec("labels/classes", values=CLASSES),
        ImageSpec("labels/nuclei", dtype="uint32"),
        ImageSpec(ROOT, channels=NUCLEUS_CHANNELS, halving="mean"),
    )
    return PyramidSpec(slide.name, side, side, PlaneScale(um, um, MPP, MPP), images)


def _attributes(slide: Path, found: FoundNuclei, times: int, table: Path) -> dict[str, Any]:
    squares, mm2 = times**2, (PERIOD * times * MPP / 1000) ** 2
    names = [one.name for one in CLASSES]
    in_class = [found.label == value for value in range(1, len(names) + 1)]
    areas = [float(found.area_um2[one].sum()) * squares / 1e6 for one in in_class]
    counts = [int(one.sum()) * squares for one in in_class]
    return {
        "version": "painted",
        "model": {"name": "painted", "sha256": "0" * 64},
        "slide": {"name": slide.name, "fingerprint": slide_fingerprint(slide)},
        "settings": {},
        "reader": "tiff",
        "slide_size": [PERIOD * times] * 2,
        "bounds_offset": [0, 0],
        "mpp": {"x": MPP, "y": MPP, "source": "metadata", "output": [MPP * SCALE] * 2},
        "warnings": [],
        "tiles": {"analysed": 1, "skipped": 0, "failed": 0, "failures": []},
        "area_mm2": dict(zip(names, areas, strict=True)),
        "nuclei": dict(zip(names, counts, strict=True)),
        "coverage": {"slide_mm2": mm2, "tissue_mm2": mm2, "analysed_mm2": mm2},
        "seconds": {},
        "nuclei_table": table.name,
        "nuclei_content": content_of(table),
        "run_id": RUN,
        "complete": True,
    }
