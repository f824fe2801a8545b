"""What somebody drew on a slide: QuPath's GeoJSON to classes, polygons and label planes."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import shape

from wsi_sampath.errors import WsiError
from wsi_sampath.slides.grid import Box
from wsi_sampath.slides.rasterise import Placement, edges, fill

_AREAS = ("Polygon", "MultiPolygon")


@dataclass(frozen=True)
class Annotation:
    """One annotated area.

    Attributes
    ----------
    name
        Its class, as QuPath names it (``Tumor``, ``Immune cells: Positive``).
    color
        "#rrggbb", or None where the file has none.
    area
        Valid Polygon or MultiPolygon in level-0 pixels as QuPath counts them.
    """

    name: str
    color: str | None
    area: shapely.Geometry

    @property
    def is_ignored(self) -> bool:
        """Whether QuPath itself would leave it out: classes such as ``Ignore*``, ``Region*``."""
        return self.name.endswith("*")


@dataclass(frozen=True)
class Annotations:
    """The annotated areas of a file, in its order.

    Attributes
    ----------
    areas
        Those with a class.
    left_out
        How many objects are none, by what they are.
    """

    areas: tuple[Annotation, ...]
    left_out: Mapping[str, int]

    def colors(self) -> dict[str, str | None]:
        """Return the classes in the order in which they come first, each with its first colour."""
        found: dict[str, str | None] = {}
        for one in self.areas:
            if not one.is_ignored:
                found[one.name] = found.get(one.name) or one.color
        return found


def read_annotations(path: str | Path) -> Annotations:
    """Read what QuPath exports as GeoJSON (``.geojson``, ``.json``, either with ``.gz``).

    Raises
    ------
    WsiError
        ``bad-input`` if the file cannot be read or holds no area with a class.
    """
    path = Path(path)
    try:
        raw = path.read_bytes()
        content = json.loads(gzip.decompress(raw) if path.suffix.lower() == ".gz" else raw)
        found = [_annotation(one) for one in _features(content)]
    except (OSError, EOFError, ValueError) as error:
        raise _bad(path, f"cannot be read as GeoJSON ({error})") from error
    except (shapely.errors.ShapelyError, KeyError, TypeError, AttributeError) as error:
        raise _bad(path, f"is no valid GeoJSON ({error!r})") from error
    areas = tuple(one for one in found if isinstance(one, Annotation))
    left_out = Counter(one for one in found if isinstance(one, str))
    if not areas:
        what = ", ".join(f"{count} {kind}" for kind, count in left_out.items()) or "nothing"
        raise _bad(path, f"holds {what}: draw areas in QuPath, give them a class, export again")
    return Annotations(areas, left_out)


def _features(node: Any) -> Iterator[Mapping[str, Any]]:
    """Walk collections and bare lists down to features; bare geometries have no class."""
    if isinstance(node, list):
        for item in node:
            yield from _features(item)
    elif node["type"] == "FeatureCollection":
        yield from _features(node["features"])
    else:
        yield node if node["type"] == "Feature" else {"geometry": node}


def _annotation(feature: Mapping[str, Any]) -> Annotation | str:
    """Return the annotation, or what it is instead."""
    geometry, properties = feature["geometry"], feature.get("properties") or {}
    if properties.get("objectType", "annotation") != "annotation":
        return "detections"
    if not geometry or geometry["type"] not in _AREAS:
        return "points or lines"
    area = _valid(shapely.force_2d(shape(geometry)))
    if area.is_empty:
        return "empty areas"
    classification = properties.get("classification") or {}
    if isinstance(classification, str):
        classification = {"name": classification}
    name = _name(classification)
    return Annotation(name, _color(classification), area) if name else "areas without a class"


def _valid(area: shapely.Geometry) -> shapely.Geometry:
    if area.is_valid:
        return area
    parts = shapely.get_parts(shapely.make_valid(area, method="structure", keep_collapsed=False))
    return shapely.union_all([one for one in parts if one.geom_type in _AREAS])


def _name(classification: Mapping[str, Any]) -> str:
    names = classification.get("names")
    return ": ".join(map(str, names)) if names else str(classification.get("name") or "")


def _color(classification: Mapping[str, Any]) -> str | None:
    color, packed = classification.get("color"), classification.get("colorRGB")
    if isinstance(color, list) and len(color) >= 3:
        return "#" + "".join(f"{int(one) & 255:02x}" for one in color[:3])
    # Before 0.3 QuPath wrote a signed integer, alpha in the highest byte.
    return f"#{int(packed) & 0xFFFFFF:06x}" if packed is not None else None


class LabelPainter:
    """Label planes of annotations, any box at a time.

    The largest area is painted first, so that a smaller one shows where it lies over a larger one;
    of equally large ones the later shows. Where nothing was drawn the label is 0.

    Parameters
    ----------
    areas
        What was drawn.
    labels
        Label by class name; areas of other names, and those of label 0, erase what they cover.
    placement
        Where the plane's pixels lie.
    """

    def __init__(
        self, areas: Sequence[Annotation], labels: Mapping[str, int], placement: Placement
    ) -> None:
        order = sorted(areas, key=lambda one: -float(shapely.area(one.area)))
        self._labels = [labels.get(one.name, 0) for one in order]
        self._shapes = [one.area for one in order]
        self._segments: dict[int, NDArray[np.float64]] = {}
        self._tree = shapely.STRtree(self._shapes)
        self._placement = placement

    def bounds(self) -> Box:
        """Return the smallest box of whole pixels around all areas that are labelled."""
        labelled = [one for one, label in zip(self._shapes, self._labels, strict=True) if label]
        if not labelled:
            return Box(0, 0, 0, 0)
        corners = np.array([shapely.total_bounds(labelled)])
        x0, y0, x1, y1 = self._placement.to_pixels(corners)[0]
        left, top = int(np.floor(x0)), int(np.floor(y0))
        return Box(left, top, int(np.ceil(x1)) - left, int(np.ceil(y1)) - top)

    def paint(self, box: Box) -> NDArray[np.uint8]:
        """Return the labels of a box, uint8 (height, width); the same pixels in any box."""
        plane = np.zeros((box.height, box.width), np.uint8)
        touched = self._tree.query(shapely.box(*self._placement.to_units(box)))
        for index in np.sort(touched).tolist():
            place, inside = fill(self._edges(index), box)
            plane[place][inside] = self._labels[index]
        return plane

    def _edges(self, index: int) -> NDArray[np.float64]:
        if index not in self._segments:
            self._segments[index] = self._placement.to_pixels(edges(self._shapes[index]))
        return self._segments[index]


def labelled_boxes(
    painter: LabelPainter, plane: tuple[int, int], tile: int, least: float
) -> Iterator[Box]:
    """Lay tiles side by side over all that is labelled and keep those with enough of it.

    Parameters
    ----------
    painter
        The labels.
    plane
        Width and height of the slide's plane, beyond which nothing counts as labelled.
    tile
        Side of the tiles, px of the plane. They do not overlap. Together they are centred on the
        labelled area, and reach beyond the slide only where they must.
    least
        Share of labelled pixels from which a tile is kept; one pixel it must have.
    """
    around = painter.bounds()
    for y in _starts(around.y, around.height, tile, plane[1]):
        for x in _starts(around.x, around.width, tile, plane[0]):
            box = Box(x, y, tile, tile)
            labels = painter.paint(box) * within(box, plane)
            if labels.any() and np.count_nonzero(labels) >= least * labels.size:
                yield box


def within(box: Box, plane: tuple[int, int]) -> NDArray[np.bool_]:
    """Return which pixels of a box are on the plane of (width, height) px, bool (h, w)."""
    x, y = np.arange(box.x, box.x + box.width), np.arange(box.y, box.y + box.height)
    on: NDArray[np.bool_] = ((y >= 0) & (y < plane[1]))[:, None] & ((x >= 0) & (x < plane[0]))
    return on


def _starts(first: int, length: int, tile: int, limit: int) -> Iterable[int]:
    count = -(-length // tile)
    start = first - (count * tile - length) // 2
    if count * tile <= limit:
        start = min(max(start, 0), limit - count * tile)
    # An area may reach far beyond the slide, where there is nothing to look at.
    seen = range(max(0, -start // tile), min(count, -((start - limit) // tile)))
    return (start + index * tile for index in seen)


def _bad(path: Path, message: str) -> WsiError:
    return WsiError("bad-input", message, subject=str(path))
