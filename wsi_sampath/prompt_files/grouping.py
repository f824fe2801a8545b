"""Pieces that belong together, gathered into prompts.

An area asks for one object. Points within it as its children, or of its name, are its points; of
several areas of one name the nearest has them. Other points of one name and class ask for one
object together. Background of no name and no parent counts for every prompt nearby.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import shapely
from scipy.spatial import cKDTree

from wsi_sampath.prompt_files.pieces import Piece, no_xy
from wsi_sampath.prompt_files.prompt import Points, Prompt, Refused, made_id

MOST_POINTS = 100
"""Points of one prompt, beyond which several objects must have been meant."""
MOST_NEARBY = 16
"""Background points of no group that count for one prompt, the nearest."""
_ALONE = "only background points have this name; name an object so, or remove the name"
_CROWDED = "it has {:,} points for one object; --each-point asks for an object with each"


@dataclass
class _Group:
    """A prompt in the making, by its first piece."""

    first: Piece
    points: list[Piece] = field(default_factory=list)
    background: list[Piece] = field(default_factory=list)

    def size(self) -> int:
        return sum(len(one.xy) for one in (*self.points, *self.background))

    def shape(self) -> shapely.Geometry:
        if self.first.area is not None:
            return self.first.area
        return shapely.MultiPoint(np.concatenate([one.xy for one in self.points]))


def grouped(pieces: Sequence[Piece], reach_px: float) -> tuple[list[Prompt], list[Refused]]:
    """Gather pieces into prompts.

    Parameters
    ----------
    pieces
        Checked, in the file's order.
    reach_px
        How far along x and along y from the centre of a prompt background of no group counts.

    Returns
    -------
    prompts, refused
        In the order of their first pieces; background of a name that no object has, and what has
        too many points for one object.
    """
    areas = [_Group(one) for one in pieces if one.area is not None]
    points = [one for one in pieces if one.area is None and not one.is_background]
    # Points without a class join those of their name that have one.
    points.sort(key=lambda one: not one.class_name)
    groups = areas + _points_gathered(points, areas)
    groups.sort(key=lambda one: one.first.number)
    background = [one for one in pieces if one.area is None and one.is_background]
    free, refused = _background_given(background, groups)
    crowded = [one for one in groups if one.size() > MOST_POINTS]
    refused += [one.first.refused(_CROWDED.format(one.size())) for one in crowded]
    groups = [one for one in groups if one.size() <= MOST_POINTS]
    nearby = _nearby(groups, free, reach_px)
    made = [_prompt(group, near) for group, near in zip(groups, nearby, strict=True)]
    return made, refused


def _points_gathered(points: Iterable[Piece], areas: list[_Group]) -> list[_Group]:
    """Give points to areas, and gather the others into groups."""
    of_area = {one.first.number: one for one in areas}
    named = _Named(areas)
    found: list[_Group] = []
    together: dict[tuple[str, str], _Group] = {}
    of_name: dict[str, _Group] = {}
    for piece in points:
        group = _of_parent(piece, of_area) or named.nearest(piece)
        if group is None and piece.group:
            key = (piece.group, piece.class_name)
            group = together.get(key) or (None if piece.class_name else of_name.get(piece.group))
        if group is None:
            group = _Group(piece)
            found.append(group)
            if piece.group:
                together[piece.group, piece.class_name] = group
                of_name.setdefault(piece.group, group)
        group.points.append(piece)
        if group.first.area is None and piece.number < group.first.number:
            group.first = piece
    return found


def _background_given(
    background: Iterable[Piece], groups: list[_Group]
) -> tuple[list[Piece], list[Refused]]:
    """Give background points to groups; return those of none, and those without their group."""
    of_area = {one.first.number: one for one in groups if one.first.area is not None}
    named = _Named(groups)
    free: list[Piece] = []
    refused: list[Refused] = []
    for piece in background:
        group = _of_parent(piece, of_area) or named.nearest(piece)
        if group is not None:
            group.background.append(piece)
        elif piece.must_group:
            refused.append(piece.refused(_ALONE))
        else:
            free.append(piece)
    return free, refused


def _of_parent(piece: Piece, of_area: dict[int, _Group]) -> _Group | None:
    """Return the group of the area that a piece was drawn in, unless it has a name of its own."""
    return None if piece.group or piece.parent is None else of_area.get(piece.parent)


class _Named:
    """Groups by name, and which of one name is the nearest."""

    def __init__(self, groups: Iterable[_Group]) -> None:
        self._groups: defaultdict[str, list[_Group]] = defaultdict(list)
        for one in groups:
            if one.first.group:
                self._groups[one.first.group].append(one)
        self._trees: dict[str, shapely.STRtree] = {}

    def nearest(self, piece: Piece) -> _Group | None:
        """Return the nearest group of the piece's name; the first of equals."""
        groups = self._groups.get(piece.group) if piece.group else None
        if not groups:
            return None
        if len(groups) == 1:
            return groups[0]
        if piece.group not in self._trees:
            self._trees[piece.group] = shapely.STRtree([one.shape() for one in groups])
        found = self._trees[piece.group].query_nearest(shapely.MultiPoint(piece.xy))
        return groups[int(found.min())]


def _nearby(groups: Sequence[_Group], free: Sequence[Piece], reach_px: float) -> Iterator[Points]:
    """Yield for each group the free background points around it, the nearest first."""
    if not free or not groups:
        yield from (no_xy() for _ in groups)
        return
    xy = np.unique(np.concatenate([one.xy for one in free]), axis=0)
    corners = shapely.bounds([one.shape() for one in groups])
    centers = (corners[:, :2] + corners[:, 2:]) / 2
    reach = np.nextafter(reach_px, np.inf)
    _, found = cKDTree(xy).query(centers, MOST_NEARBY, p=np.inf, distance_upper_bound=reach)
    # What is missing has an index beyond the last.
    yield from (xy[near[near < len(xy)]] for near in found)


def _prompt(group: _Group, nearby: Points) -> Prompt:
    first, area = group.first, group.first.area
    own = sorted(group.points, key=lambda one: one.number)
    inside = np.concatenate([no_xy(), *(one.xy for one in own)])
    beside = np.concatenate([no_xy(), *(one.xy for one in group.background), nearby])
    points = np.concatenate([inside, beside])
    labels = np.repeat(np.array([1, 0]), [len(inside), len(beside)])
    points.setflags(write=False)
    labels.setflags(write=False)
    classed = next((one for one in [first, *own] if one.class_name), first)
    x0, y0, x1, y1 = map(float, shapely.bounds(area)) if area is not None else (0.0,) * 4
    is_box = area is not None and _is_box(area)
    return Prompt(
        id=first.id or _made_id(first),
        name=first.name,
        class_name=classed.class_name,
        class_color=classed.class_color,
        color=first.color,
        points=points,
        labels=labels,
        box=None if area is None else (x0, y0, x1, y1),
        outline=None if is_box else area,
        where=first.where,
    )


def _is_box(area: shapely.Geometry) -> bool:
    """Return whether an area is an upright rectangle."""
    around = shapely.area(shapely.box(*shapely.bounds(area)))
    return bool(around - shapely.area(area) <= 1e-9 * around)


def _made_id(piece: Piece) -> str:
    """Return an id for a piece without one: the same piece, the same id."""
    where = piece.xy.tobytes() if piece.area is None else shapely.to_wkb(piece.area)
    return made_id(piece.name, piece.class_name, where.hex())
