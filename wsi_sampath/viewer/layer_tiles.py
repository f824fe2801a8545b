"""Tiles of a result's maps: decoded chunks are kept and shared, every tile is a grey PNG."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from wsi_sampath.outputs.omezarr.downsample import Unsigned
from wsi_sampath.outputs.omezarr.layout import StoredPlane
from wsi_sampath.outputs.result import Layer, Result
from wsi_sampath.viewer.level_places import LevelPlace
from wsi_sampath.viewer.nucleus_rows import NucleusIndex
from wsi_sampath.viewer.recent import Recent

TILE = 256
_PNG_LEVEL = 1
Box = tuple[int, int, int, int]


class LayerMaps:
    """The maps of one result, read by boxes through the chunks that are kept.

    Parameters
    ----------
    result
        The result.
    key
        Stands for its content where chunks are kept.
    chunks
        Where decoded chunks are kept, of this and of other results.

    Attributes
    ----------
    result, key
        As given.
    """

    def __init__(self, result: Result, key: str, chunks: Recent[Unsigned]) -> None:
        self.result, self.key, self._chunks = result, key, chunks
        self._planes: dict[tuple[str, int], StoredPlane] = {}

    def layer(self, name: str) -> Layer | None:
        """Return a layer by its name; None where there is none."""
        return next((one for one in self.result.layers if one.name == name), None)

    def of_kind(self, kind: Literal["classes", "objects", "probabilities"]) -> Layer | None:
        """Return the first layer of a kind; None where there is none."""
        return next((one for one in self.result.layers if one.kind == kind), None)

    def read(self, layer: Layer, level: int, box: Box, channel: int | None = None) -> Unsigned:
        """Read a box of a layer.

        Parameters
        ----------
        layer, level
            What is read.
        box
            x, y, width and height in pixels of the level; it lies within the map.
        channel
            Which of the probabilities; None for other layers.

        Returns
        -------
        array
            (height, width), uint8 or uint32, not to be written to.

        Raises
        ------
        WsiError
            ``bad-input`` where the map is damaged.
        """
        plane = self._plane(layer, level)
        height, width = plane.chunks[-2:]
        x, y, columns, rows = box
        chunk = partial(self._chunk, plane, layer.name, level, channel)
        across = range(x // width, (x + columns - 1) // width + 1)
        down = range(y // height, (y + rows - 1) // height + 1)
        if len(across) == len(down) == 1:
            top, left = y - down[0] * height, x - across[0] * width
            return chunk(down[0], across[0])[top : top + rows, left : left + columns]
        joined = np.empty((rows, columns), plane.dtype)
        for i in down:
            here_y = slice(max(y, i * height), min(y + rows, (i + 1) * height))
            for j in across:
                here_x = slice(max(x, j * width), min(x + columns, (j + 1) * width))
                joined[_moved(here_y, y), _moved(here_x, x)] = chunk(i, j)[
                    _moved(here_y, i * height), _moved(here_x, j * width)
                ]
        return joined

    def tile(
        self, layer: Layer, level: int, column: int, row: int, channel: int | None = None
    ) -> Unsigned | None:
        """Return a tile of `TILE` px, cut at the edges; None where the map has none there."""
        if not 0 <= level < len(self.result.levels):
            return None
        at = self.result.levels[level]
        x, y = column * TILE, row * TILE
        if not (0 <= x < at.width and 0 <= y < at.height):
            return None
        box = (x, y, min(TILE, at.width - x), min(TILE, at.height - y))
        return self.read(layer, level, box, channel)

    def _plane(self, layer: Layer, level: int) -> StoredPlane:
        key = (layer.name, level)
        # Opening one costs more than a tile does; two threads may do it at once and do no harm.
        if key not in self._planes:
            self._planes[key] = layer.plane(self.result.path, self.result.levels, level)
        return self._planes[key]

    def _chunk(
        self, plane: StoredPlane, name: str, level: int, channel: int | None, row: int, column: int
    ) -> Unsigned:
        height, width = plane.chunks[-2:]
        place: tuple[Any, ...] = (
            slice(row * height, (row + 1) * height),
            slice(column * width, (column + 1) * width),
        )
        if channel is not None:
            place = (channel, *place)
        key = (self.key, name, level, channel, row, column)
        return self._chunks.fetch(key, lambda: _slim(plane[place]))


def dotted(
    tile: NDArray[np.uint8], nuclei: NucleusIndex, at: LevelPlace, column: int, row: int
) -> NDArray[np.uint8]:
    """Return a tile of classes with a dot for each nucleus of which halving left nothing.

    Parameters
    ----------
    tile
        uint8 (h, w), the tile in this column and row.
    nuclei
        Where they are.
    at
        The level's place.
    column, row
        Of the tile.
    """
    corner = np.array([column, row]) * TILE
    x, y = corner * at.scale + at.origin
    height, width = tile.shape
    rows = nuclei.within((x, y, width * at.scale[0], height * at.scale[1]))
    across = np.clip(((nuclei.x[rows] - x) / at.scale[0]).astype(int), 0, width - 1)
    down = np.clip(((nuclei.y[rows] - y) / at.scale[1]).astype(int), 0, height - 1)
    dots = np.zeros_like(tile)
    dots[down, across] = nuclei.labels[rows]
    return np.where(tile > 0, tile, dots)


def kept_bytes(chunk: Unsigned) -> int:
    """Return how much memory a kept chunk takes."""
    return chunk.itemsize if 0 in chunk.strides else chunk.nbytes


def grey_png(tile: NDArray[np.uint8]) -> bytes:
    """Return uint8 (h, w) as an 8-bit grey PNG."""
    return bytes(imagecodecs.png_encode(np.ascontiguousarray(tile), level=_PNG_LEVEL))


def _slim(chunk: Unsigned) -> Unsigned:
    """Return a chunk; of one that is empty nothing but its shape, as most of a slide is glass."""
    return chunk if chunk.any() else np.broadcast_to(chunk.dtype.type(0), chunk.shape)


def _moved(place: slice, by: int) -> slice:
    return slice(place.start - by, place.stop - by)
