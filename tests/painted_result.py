"""A painted slide of 3 x 3 squares with its nuclei, in several chunks and row groups."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import shapely

from wsi_sampath.outputs.nuclei import parquet
from wsi_sampath.outputs.result import Result, open_result
from wsi_sampath.viewer.layer_tiles import LayerMaps, kept_bytes
from wsi_sampath.viewer.nucleus_rows import NucleusRows
from wsi_sampath.viewer.recent import Recent

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import viewer_inputs  # noqa: E402

TIMES = 3
SIDE = TIMES * viewer_inputs.PERIOD


@dataclass(frozen=True)
class Painted:
    slide: Path
    result: Result

    def maps(self) -> LayerMaps:
        return LayerMaps(self.result, "r", Recent(1 << 26, kept_bytes))

    def nuclei(self) -> NucleusRows:
        return open_rows(self.result.nuclei_table)

    def shapes(self) -> dict[int, shapely.Geometry]:
        table = self.result.nuclei()
        shapes = shapely.from_wkb(table["geometry"].to_numpy())
        return dict(zip(table["id"].to_pylist(), shapes, strict=True))


def open_rows(path: Path) -> NucleusRows:
    return NucleusRows(path, "r", Recent(1 << 26, lambda part: part.nbytes))


def paint_result(folder: Path) -> Painted:
    square = viewer_inputs.painted_square()
    slide = viewer_inputs.write_slide(folder / "p.svs", square, TIMES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet, "ROW_GROUP", 700)
        zarr = viewer_inputs.write_result(folder / "p.zarr", slide, square, TIMES)
    return Painted(slide, open_result(zarr))


def unpacked(content: bytes):
    """Return ids, classes and the outlines (n, 2) of a square."""
    n, v = np.frombuffer(content, "<u4", 2)
    integers = np.frombuffer(content, "<u4", 3 * n + 1, offset=8)
    ids, classes, starts = integers[:n], integers[n : 2 * n], integers[2 * n :]
    xy = np.frombuffer(content, "<f4", 2 * v, offset=8 + 4 * len(integers)).reshape(-1, 2)
    assert len(content) == 8 + 4 * len(integers) + xy.nbytes
    return ids, classes, [xy[a:b] for a, b in zip(starts, starts[1:], strict=False)]
