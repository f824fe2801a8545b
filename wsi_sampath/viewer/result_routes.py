"""The addresses below ``/api/results``: tiles of maps, a point, outlines, a field."""

from __future__ import annotations

import pyarrow as pa
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from wsi_sampath.errors import UsageError
from wsi_sampath.outputs.omezarr.downsample import Unsigned
from wsi_sampath.viewer.answers import finite, kept_for_ever, whole
from wsi_sampath.viewer.fields import field_table
from wsi_sampath.viewer.layer_tiles import LayerMaps, dotted, grey_png, kept_bytes
from wsi_sampath.viewer.level_places import level_places, slide_size
from wsi_sampath.viewer.nucleus_rows import NucleusIndex, NucleusRows
from wsi_sampath.viewer.outlines import SQUARE, packed_outlines
from wsi_sampath.viewer.places import place_at
from wsi_sampath.viewer.recent import Recent
from wsi_sampath.viewer.shelf import Missing, Shelf

CHUNK_BYTES = 96 << 20
PART_BYTES = 96 << 20
_PLACE = "{column}_{row}"
_MOST_RESULTS = 32
# Each holds a file open, and 17 bytes of every nucleus.
_MOST_TABLES = 4
# On pixels of this size small nuclei begin to vanish from a map that is halved by mode.
_DOTS_UM = 2.0


class ShownResults:
    """The results of a shelf, and what is kept of their files between requests. Thread-safe.

    Parameters
    ----------
    shelf
        Where they come from.
    """

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._chunks: Recent[Unsigned] = Recent(CHUNK_BYTES, kept_bytes)
        self._parts: Recent[pa.Table] = Recent(PART_BYTES, lambda part: int(part.nbytes))
        self._maps: Recent[LayerMaps] = Recent(_MOST_RESULTS, lambda _: 1)
        self._tables: Recent[NucleusRows] = Recent(_MOST_TABLES, lambda _: 1)

    def maps(self, id: str) -> LayerMaps:
        """Return the maps of a result.

        Raises
        ------
        Missing
            Where there is no such id.
        WsiError
            Where the result can't be opened.
        """
        result = self._shelf.result(id).result
        return self._maps.fetch(id, lambda: LayerMaps(result, id, self._chunks))

    def nuclei(self, id: str) -> NucleusRows | None:
        """Return the table of a result; None where it has none. Raises as `maps`."""
        path = self._shelf.result(id).result.nuclei_table
        if path is None:
            return None
        return self._tables.fetch(id, lambda: NucleusRows(path, id, self._parts))

    def layer_tile(self, request: Request) -> Response:
        """Answer with a tile of class values, or of one channel of the probabilities."""
        maps = self.maps(request.path_params["rid"])
        layer = maps.layer(request.path_params["layer"])
        if layer is None or layer.kind == "objects":
            raise Missing("there is no such layer with tiles")
        level, column, row = _numbers(request, "level", "column", "row")
        channel = None
        if layer.kind == "probabilities":
            channel = whole(request.query_params.get("channel", ""))
            if channel >= len(layer.classes):
                raise Missing("there is no such channel")

        def make() -> bytes:
            tile = maps.tile(layer, level, column, row, channel)
            if tile is None:
                raise Missing("there is no such tile")
            grey = tile.astype("uint8", copy=False)
            dots = None if layer.kind != "classes" else self._dots(maps, level)
            if dots is not None:
                grey = dotted(grey, dots, level_places(maps.result)[level], column, row)
            return grey_png(grey)

        return kept_for_ever(request, "image/png", make)

    def _dots(self, maps: LayerMaps, level: int) -> NucleusIndex | None:
        """Return the nuclei of a level on which some may have vanished."""
        if maps.result.levels[level].um_x < _DOTS_UM:
            return None
        nuclei = self.nuclei(maps.key)
        return None if nuclei is None else nuclei.index

    def at(self, request: Request) -> Response:
        """Answer with what is at a point."""
        id = request.path_params["rid"]
        x, y = finite(request, "x"), finite(request, "y")
        return JSONResponse(place_at(self.maps(id), self.nuclei(id), x, y))

    def outlines(self, request: Request) -> Response:
        """Answer with the outlines of a square's nuclei."""
        id = request.path_params["rid"]
        width, height = slide_size(self._shelf.result(id).result)
        column, row = _numbers(request, "column", "row")
        nuclei = self.nuclei(id)
        if nuclei is None or column * SQUARE >= width or row * SQUARE >= height:
            raise Missing("there are no outlines here")
        return kept_for_ever(
            request, "application/octet-stream", lambda: packed_outlines(nuclei, column, row)
        )

    def field(self, request: Request) -> Response:
        """Answer with areas and counts of a field."""
        id = request.path_params["rid"]
        x, y = finite(request, "x"), finite(request, "y")
        width, height = finite(request, "width"), finite(request, "height")
        if min(width, height) < 0:
            raise UsageError("width and height must not be negative")
        return JSONResponse(field_table(self.maps(id), self.nuclei(id), (x, y, width, height)))


def routes(shelf: Shelf) -> list[Route]:
    """Return the addresses of a shelf's results; blocking work, done in the pool of threads."""
    shown = ShownResults(shelf)
    root = "/api/results/{rid}"
    return [
        Route(f"{root}/layers/{{layer}}/{{level}}/{_PLACE}.png", shown.layer_tile),
        Route(f"{root}/outlines/{_PLACE}.bin", shown.outlines),
        Route(root + "/at", shown.at),
        Route(root + "/field", shown.field),
    ]


def _numbers(request: Request, *names: str) -> list[int]:
    return [whole(request.path_params[name]) for name in names]
