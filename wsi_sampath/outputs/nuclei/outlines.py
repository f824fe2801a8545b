"""Outlines of many nuclei in a few flat arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import shapely
from numpy.typing import NDArray

from wsi_sampath.outputs.polygons.ragged import offsets_of, take_lists
from wsi_sampath.outputs.polygons.runs import Ints

Shapes = NDArray[np.object_]
Flags = NDArray[np.bool_]
# Of a closed ring.
_LEAST_POINTS = 4


@dataclass(frozen=True)
class Outlines:
    """Outlines in plane pixels; exact ones run along the sides of pixels.

    The pixel in row r, column c covers (c, r) to (c + 1, r + 1). A nucleus has one part, or several
    where its pixels touch by corners only; a part has one shell, counter-clockwise (y taken as
    pointing up), then its holes, clockwise.

    Attributes
    ----------
    points
        int32 (vertices, 2), x and y; the first of a ring is repeated at its end.
    rings
        int64 (rings + 1,) where each ring begins among the points.
    parts
        int64 (parts + 1,) where each part begins among the rings.
    nuclei
        int64 (n + 1,) where each nucleus begins among the parts.
    """

    points: NDArray[np.int32]
    rings: Ints
    parts: Ints
    nuclei: Ints

    def __len__(self) -> int:
        return len(self.nuclei) - 1

    def follow_pixels(self) -> bool:
        """Return whether all run along the sides of pixels, as they do until simplified."""
        crooked = (np.diff(self.points, axis=0) != 0).all(axis=1)
        # from the end of a ring the next one may begin anywhere
        crooked[self.rings[1:-1] - 1] = False
        return not crooked.any()

    def take(self, chosen: Ints) -> Outlines:
        """Return the outlines of some nuclei, by index, in the order chosen."""
        parts = take_lists(self.nuclei, chosen)
        rings = take_lists(self.parts, parts)
        return Outlines(
            self.points[take_lists(self.rings, rings)],
            offsets_of(np.diff(self.rings)[rings]),
            offsets_of(np.diff(self.parts)[parts]),
            offsets_of(np.diff(self.nuclei)[chosen]),
        )

    def shapes(self) -> Shapes:
        """Return (n,) shapely geometries: a Polygon each, or a MultiPolygon of several parts."""
        return as_shapes(self.points.astype(np.float64), self)

    @classmethod
    def joined(cls, several: Sequence[Outlines]) -> Outlines:
        """Return the outlines of several batches as one."""
        if not several:
            nothing = np.zeros(1, np.int64)
            return cls(np.zeros((0, 2), np.int32), nothing, nothing, nothing)
        names = ("rings", "parts", "nuclei")
        return cls(
            np.concatenate([one.points for one in several]),
            *(
                offsets_of(np.concatenate([np.diff(getattr(one, name)) for one in several]))
                for name in names
            ),
        )


def as_shapes(points: NDArray[np.float64], outlines: Outlines) -> Shapes:
    """Return (n,) shapely geometries with other points in the place of the outlines' own."""
    parts = shapely.from_ragged_array(
        shapely.GeometryType.POLYGON, points, (outlines.rings, outlines.parts)
    )
    return grouped(parts, outlines.nuclei)


def grouped(parts: Shapes, nuclei: Ints) -> Shapes:
    """Return one geometry for each nucleus: its only part, or a MultiPolygon.

    Parameters
    ----------
    parts
        (parts,) polygons.
    nuclei
        (n + 1,) where each nucleus begins among the parts; none is without.
    """
    sizes = np.diff(nuclei)
    shapes: Shapes = parts[nuclei[:-1]]
    for index in np.flatnonzero(sizes > 1).tolist():
        shapes[index] = shapely.MultiPolygon(list(parts[nuclei[index] : nuclei[index + 1]]))
    return shapes


def simplified(outlines: Outlines, tolerance: float) -> Outlines:
    """Drop vertices, nucleus by nucleus; each outline stays valid, and none vanishes.

    Neighbours do not share their borders exactly any more.

    Parameters
    ----------
    outlines
        Exact.
    tolerance
        Largest distance between the old and the new line, in pixels; 0 changes nothing.
    """
    if tolerance == 0 or len(outlines) == 0:
        return outlines
    exact, (shapes, is_sound) = outlines.shapes(), _each_ring_simplified(outlines, tolerance)
    left = np.flatnonzero(~is_sound)
    careful = shapely.simplify(exact[left], tolerance, preserve_topology=True)
    is_sound = shapely.is_valid(careful) & (shapely.area(careful) > 0)
    shapes[left] = np.where(is_sound, careful, exact[left])
    parts, nucleus = shapely.get_parts(shapes, return_index=True)
    _, points, (rings, of_part) = shapely.to_ragged_array(parts)
    sizes = np.bincount(nucleus, minlength=len(outlines))
    return Outlines(
        points.astype(np.int32),
        rings.astype(np.int64),
        of_part.astype(np.int64),
        offsets_of(sizes),
    )


def _each_ring_simplified(outlines: Outlines, tolerance: float) -> tuple[Shapes, Flags]:
    """Simplify rings one by one, which is fast; return the shapes, and which of them are sound."""
    sizes = np.diff(outlines.rings)
    lines = shapely.linestrings(
        outlines.points.astype(np.float64), indices=np.repeat(np.arange(len(sizes)), sizes)
    )
    simple = shapely.simplify(lines, tolerance, preserve_topology=False)
    collapsed = shapely.get_num_coordinates(simple) < _LEAST_POINTS
    simple = np.where(collapsed, lines, simple)
    rings = offsets_of(shapely.get_num_coordinates(simple).astype(np.int64))
    rough = replace(outlines, rings=rings)
    shapes = as_shapes(shapely.get_coordinates(simple), rough)
    is_sound = shapely.is_valid(shapes)
    owner = np.searchsorted(outlines.parts[outlines.nuclei], np.flatnonzero(collapsed), "right") - 1
    is_sound[owner] = False
    return shapes, is_sound
