"""Annotations of a slide: QuPath's GeoJSON to classes, polygons and label planes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray

from wsi_sampath.classes import drawn_class_name, is_cut_out_class, is_ignored_class, name_key
from wsi_sampath.errors import WsiError
from wsi_sampath.slides.grid import Box
from wsi_sampath.slides.regions.geojson import (
    LEFT_OUT_KINDS,
    DrawnObject,
    Lack,
    left_out_phrases,
    read_drawn,
)
from wsi_sampath.slides.regions.rasterise import Placement, Segments, edges, fill, fill_each

_LARGE, _RUN = 2**18, 2**22
"""Pixels and corners of a shape that is painted by itself, and of those painted at once."""


@dataclass(frozen=True)
class Annotation:
    """One annotated area.

    Attributes
    ----------
    name
        Its class, as QuPath names it (``Tumor``, ``Immune cells: Positive``); may be empty where
        tissue was drawn.
    color
        "#rrggbb", or None where the file has none.
    area
        Valid Polygon, or MultiPolygon of valid parts, in level-0 pixels as QuPath counts them.
    """

    name: str
    color: str | None
    area: shapely.Geometry

    @property
    def is_ignored(self) -> bool:
        """Whether QuPath does not treat it as a class: names such as ``Ignore*``, ``Region*``."""
        return is_ignored_class(self.name)

    @property
    def is_cut_out(self) -> bool:
        """Whether it marks what to leave out: ``Ignore*`` does, ``Region*`` does not."""
        return is_cut_out_class(self.name)


@dataclass(frozen=True)
class Annotations:
    """The annotated areas of a file, in its order.

    Attributes
    ----------
    areas
        Those with a class.
    left_out
        Number of objects left out, by reason.
    warnings
        Further sentences for the user about the file.
    """

    areas: tuple[Annotation, ...]
    left_out: Mapping[Lack, int]
    warnings: tuple[str, ...] = ()

    def colors(self) -> dict[str, str | None]:
        """Return the classes in order of first appearance, each with its first colour."""
        found: dict[str, str | None] = {}
        for area in self.areas:
            if not area.is_ignored:
                found[area.name] = found.get(area.name) or area.color
        return found

    def painted(self, named: Collection[str] = ()) -> tuple[Annotation, ...]:
        """Return the areas that decide labels: classes, ``Ignore*``, and these names."""
        names = set(map(name_key, named))
        return tuple(
            area
            for area in self.areas
            if area.is_cut_out or not area.is_ignored or name_key(area.name) in names
        )

    def notes(self) -> list[str]:
        """Return what the user should know, one sentence each."""
        what = ", ".join(left_out_phrases(self.left_out))
        return [f"{what} left out"] * bool(what) + list(self.warnings)


def read_annotations(path: str | Path) -> Annotations:
    """Read the annotated areas that have a class, from what QuPath exports as GeoJSON.

    Parameters
    ----------
    path
        ``.geojson`` or ``.json``, either with ``.gz`` after it, or a ``.zip`` of them.

    Raises
    ------
    WsiError
        ``bad-input`` if the file cannot be read or holds no area with a class.
    """
    path, drawn = Path(path), read_drawn(path)
    areas: list[Annotation] = []
    left_out: Counter[Lack] = Counter()
    for thing in drawn.objects:
        found = _classified(thing, left_out)
        areas += [found] if found else []
    if not areas:
        what = ", ".join(left_out_phrases(left_out)) or "nothing"
        message = f"holds {what}: draw areas in QuPath, give them a class, export again"
        raise WsiError("bad-input", message, subject=str(path))
    regions = sum(area.is_ignored and not area.is_cut_out for area in areas)
    left_out[Lack.REGION] += regions
    return Annotations(tuple(areas), +left_out, drawn.warnings)


def drawn_area(thing: DrawnObject, left_out: Counter[Lack]) -> shapely.MultiPolygon | None:
    """Return the area of an annotation; for anything else None, and the reason is counted."""
    if thing.kind == "root":
        return None
    if thing.kind != "annotation":
        left_out[LEFT_OUT_KINDS[thing.kind]] += 1
        return None
    left_out.update(thing.lacks)
    return thing.area


def _classified(thing: DrawnObject, left_out: Counter[Lack]) -> Annotation | None:
    area = drawn_area(thing, left_out)
    if area is None:
        return None
    if not thing.class_name:
        left_out[Lack.CLASSLESS] += 1
        return None
    try:
        return Annotation(drawn_class_name(thing.class_name), thing.color, area)
    except ValueError:
        left_out[Lack.ODD_NAME] += 1
        return None


class LabelPainter:
    """Label planes of annotations, any box at a time.

    The largest area is painted first, so that a smaller one shows where it lies over a larger one;
    of equally large ones the later shows. Where nothing was drawn the label is 0.

    Parameters
    ----------
    areas
        The annotated areas.
    labels
        Label by class name; areas of other names, and those of label 0, erase what they cover.
    placement
        Position of the plane's pixels.
    """

    def __init__(
        self, areas: Sequence[Annotation], labels: Mapping[str, int], placement: Placement
    ) -> None:
        order = sorted(_spared(areas), key=lambda area: -float(shapely.area(area.area)))
        parts, owner = shapely.get_parts([area.area for area in order], return_index=True)
        self._labels = np.array([labels.get(area.name, 0) for area in order], np.uint8)[owner]
        # Split into parts: a box then costs what it touches, however many parts an area has.
        self._shapes = parts
        self._segments: dict[int, Segments] = {}
        self._tree = shapely.STRtree(self._shapes)
        self._placement = placement

    def bounds(self) -> Box:
        """Return the smallest box of whole pixels around all areas that are labelled."""
        labelled = self._shapes[self._labels > 0]
        if not len(labelled):
            return Box(0, 0, 0, 0)
        corners = np.array([shapely.total_bounds(labelled)])
        x0, y0, x1, y1 = self._placement.to_pixels(corners)[0]
        left, top = int(np.floor(x0)), int(np.floor(y0))
        return Box(left, top, int(np.ceil(x1)) - left, int(np.ceil(y1)) - top)

    def paint(self, box: Box) -> NDArray[np.uint8]:
        """Return the labels of a box, uint8 (height, width); the same pixels in any box."""
        plane = np.zeros((box.height, box.width), np.uint8)
        touched = np.sort(self._tree.query(shapely.box(*self._placement.to_units(box))))
        for run in np.split(touched, self._ends_of_runs(touched, box)):
            if len(run) == 1:
                place, inside = fill(self._edges(int(run[0])), box)
                plane[place][inside] = self._labels[run[0]]
            elif len(run):
                segments, owner = edges(self._shapes[run])
                pixel, shape = fill_each(self._placement.to_pixels(segments), owner, box)
                # Where shapes overlap, the last assignment wins.
                plane.reshape(-1)[pixel] = self._labels[run][shape]
        return plane

    def _ends_of_runs(self, touched: NDArray[np.int64], box: Box) -> NDArray[np.int64]:
        """Divide shapes into runs to be painted at once: large ones alone, small ones by many."""
        shapes = self._shapes[touched]
        corners = self._placement.to_pixels(shapely.bounds(shapes))
        low, high = [box.x, box.y], [box.x + box.width, box.y + box.height]
        sides = corners[:, 2:].clip(low, high) - corners[:, :2].clip(low, high)
        cost = (sides + 1).prod(axis=1) + shapely.get_num_coordinates(shapes)
        large = cost > _LARGE
        is_first = np.diff(np.cumsum(cost) // _RUN, prepend=0) > 0
        is_first |= large
        is_first[1:] |= large[:-1]
        return np.flatnonzero(is_first)

    def _edges(self, index: int) -> Segments:
        if index not in self._segments:
            segments, _ = edges(self._shapes[index : index + 1])
            self._segments[index] = self._placement.to_pixels(segments)
        return self._segments[index]


def labelled_boxes(
    painter: LabelPainter, plane: tuple[int, int], tile: int, least: float
) -> Iterator[Box]:
    """Lay tiles side by side over the labelled area and keep those with enough labels.

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
        Least share of labelled pixels of a tile; it needs at least one pixel.
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


def _spared(areas: Sequence[Annotation]) -> list[Annotation]:
    """Cut what is to be left out from smaller areas that reach into it.

    A smaller area within one of ``Ignore*`` was drawn there on purpose, and stays.
    """
    cut = [area.area for area in areas if area.is_cut_out]
    if not cut:
        return list(areas)
    whole = [shapely.union_all(shapely.get_parts(shape)) for shape in cut]
    tree = shapely.STRtree(whole)
    return [area if area.is_cut_out else _spare(area, tree) for area in areas]


def _spare(area: Annotation, tree: shapely.STRtree) -> Annotation:
    over = tree.geometries[np.sort(tree.query(area.area))]
    larger = over[shapely.area(over) >= shapely.area(area.area)]
    if not len(larger):
        return area
    parts = shapely.union_all(shapely.get_parts(area.area))
    crossing = larger[~shapely.covers(larger, parts)]
    if not len(crossing):
        return area
    kept = shapely.get_parts(shapely.get_parts(parts.difference(shapely.union_all(crossing))))
    polygons = [part for part in kept if part.geom_type == "Polygon"]
    return Annotation(area.name, area.color, shapely.MultiPolygon(polygons))
