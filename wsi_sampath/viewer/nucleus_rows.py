"""An open table of nuclei: which of them lie where, and the rows and outlines of these few.

Of each nucleus its id, centre, area and class are held (17 bytes), and the parts of the file that
were asked for last; the rest stays in the file.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import shapely
from numpy.typing import NDArray

from wsi_sampath.errors import WsiError
from wsi_sampath.outputs.nuclei.columns import TableInfo
from wsi_sampath.outputs.nuclei.reading import open_nuclei
from wsi_sampath.viewer.recent import Recent

Ints = NDArray[np.int64]
_SHAPES = ["geometry"]
_INDEXED = ["id", "x_px", "y_px", "area_um2", "class"]
_LEFT_OUT = ("bbox", "geometry")
# As many digits as a float32 holds.
_DIGITS = 7


@dataclass(frozen=True)
class NucleusIndex:
    """What is held of every nucleus, in the order of the rows.

    Attributes
    ----------
    ids
        uint32 (n,).
    x, y
        float32 (n,) centroids in level-0 pixels of the slide.
    areas
        float32 (n,) um2.
    labels
        uint8 (n,), its class 1..k.
    starts
        int64 (g + 1,), the first row of each row group, and n.
    """

    ids: NDArray[np.uint32]
    x: NDArray[np.float32]
    y: NDArray[np.float32]
    areas: NDArray[np.float32]
    labels: NDArray[np.uint8]
    starts: Ints

    @cached_property
    def _reach(self) -> tuple[NDArray[np.float32], ...]:
        """Least x, least y, largest x and largest y of each row group, none of which is empty."""
        low, high = np.minimum.reduceat, np.maximum.reduceat
        first = self.starts[:-1]
        return low(self.x, first), low(self.y, first), high(self.x, first), high(self.y, first)

    def within(self, box: tuple[float, float, float, float]) -> Ints:
        """Return the rows of the nuclei whose centre lies in x, y, width, height (level-0 px).

        Left and upper side belong to the box, right and lower side do not.
        """
        x, y, width, height = box
        left, top, right, bottom = self._reach
        touched = (left < x + width) & (right >= x) & (top < y + height) & (bottom >= y)
        found = [np.zeros(0, np.int64)]
        for group in np.flatnonzero(touched).tolist():
            first = int(self.starts[group])
            rows = slice(first, int(self.starts[group + 1]))
            inside = (self.y[rows] >= y) & (self.y[rows] < y + height)
            inside &= (self.x[rows] >= x) & (self.x[rows] < x + width)
            found.append(np.flatnonzero(inside) + first)
        return np.concatenate(found)


class NucleusRows:
    """A table of nuclei that stays open; its coordinates are level-0 pixels of the slide.

    Parameters
    ----------
    path
        ``NAME.nuclei.parquet``.
    key
        Stands for its content where parts of it are kept.
    parts
        Where they are kept, of this and of other tables.

    Attributes
    ----------
    info
        What the table says of itself.
    index
        What is held of every nucleus.

    Raises
    ------
    WsiError
        ``unreadable`` where it is not a whole table of ours.
    """

    def __init__(self, path: Path, key: str, parts: Recent[pa.Table]) -> None:
        self._path, self._key, self._parts = path, key, parts
        self._lock = threading.Lock()
        self.info = open_nuclei(path).info
        with self._damage_named():
            self._file = pq.ParquetFile(path, page_checksum_verification=True)
            metadata = self._file.metadata
            sizes = [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)]
            starts = np.cumsum([0, *sizes])
            self._columns = [one for one in self._file.schema_arrow.names if one not in _LEFT_OUT]
            table = self._file.read(_INDEXED, use_threads=False)
        self.index = _index(table, self.info, starts)

    def row(self, number: int) -> dict[str, Any]:
        """Return the row of a nucleus by name, without its outline."""
        starts = self.index.starts
        group = int(np.searchsorted(starts, number, side="right")) - 1
        part = self._part(group, self._columns)
        found: dict[str, Any] = part.slice(number - int(starts[group]), 1).to_pylist()[0]
        (left, top), (um_x, um_y) = self.info.bounds_offset, self.info.mpp
        moved = {"x_px": left, "y_px": top, "x_um": left * um_x, "y_um": top * um_y}
        return {name: _told(value, moved.get(name, 0.0)) for name, value in found.items()}

    def outlines(self, rows: Ints) -> NDArray[np.object_]:
        """Return the outlines of some nuclei, shapely (n,), in the order of their rows.

        Parameters
        ----------
        rows
            Ascending.
        """
        starts = self.index.starts
        groups = np.searchsorted(starts, rows, side="right") - 1
        found = [
            pc.take(self._part(group, _SHAPES)["geometry"], pa.array(chosen))
            for group in np.unique(groups).tolist()
            for chosen in [rows[groups == group] - starts[group]]
        ]
        geometry = [np.zeros(0, object), *(one.to_numpy() for one in found)]
        with self._damage_named():
            shapes: NDArray[np.object_] = shapely.from_wkb(np.concatenate(geometry))
        return shapes

    def to_slide(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Bring (n, 2) points of outlines to level-0 pixels of the slide."""
        return np.add(points, self.info.bounds_offset)

    def _part(self, group: int, columns: Sequence[str]) -> pa.Table:
        def read() -> pa.Table:
            # A reader of parquet is not said to serve several threads.
            with self._lock, self._damage_named():
                return self._file.read_row_group(group, columns, use_threads=False)

        return self._parts.fetch((self._key, group, columns[0]), read)

    @contextmanager
    def _damage_named(self) -> Iterator[None]:
        try:
            yield
        except (OSError, pa.ArrowException, shapely.GEOSException) as error:
            message = "has a table of nuclei that can't be read; run wsi-segment again"
            raise WsiError("unreadable", message, subject=self._path.name) from error


def _index(table: pa.Table, info: TableInfo, starts: Ints) -> NucleusIndex:
    names = [one.name for one in info.classes]
    labels = [np.zeros(0, np.uint8)]
    for chunk in table["class"].chunks:  # Every one may have a dictionary of its own.
        values = [names.index(name) + 1 for name in chunk.dictionary.to_pylist()]
        labels.append(np.array(values, np.uint8)[chunk.indices.to_numpy()])
    left, top = info.bounds_offset
    return NucleusIndex(
        table["id"].to_numpy(),
        table["x_px"].to_numpy() + np.float32(left),
        table["y_px"].to_numpy() + np.float32(top),
        table["area_um2"].to_numpy(),
        np.concatenate(labels),
        starts,
    )


def _told(value: Any, moved: float) -> Any:
    """Return a number as JSON takes it; what is none, such as the class, as it is."""
    if not isinstance(value, float):
        return value
    return float(f"{value + moved:.{_DIGITS}g}") if math.isfinite(value) else None
