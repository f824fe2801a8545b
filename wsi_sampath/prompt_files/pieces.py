"""The pieces of prompts as a file holds them: points, lines and areas, each checked by itself."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

import numpy as np
import shapely

from wsi_sampath.classes import drawn_class_name, is_ignored_class
from wsi_sampath.prompt_files.prompt import Points, Refused

MOST_LINE_POINTS = 32
"""Points that a line may ask with; of one with more corners so many, evenly along it."""
LEAST_AREA_PX = 1.0
_NEGATIVE = re.compile(r"neg(?:ative?)?[\s_:.,-]*", re.IGNORECASE)


def no_xy() -> Points:
    """Return no points."""
    return np.zeros((0, 2))


@dataclass(frozen=True, eq=False)
class Piece:
    """One object or row of a file: points, or an area.

    Attributes
    ----------
    number
        Its place among the objects or rows.
    where
        The same in words.
    id, name, class_name, class_color, color
        As `Prompt` has them.
    xy
        (n, 2) points in level-0 pixels of the slide; none where it is an area.
    area
        In the same pixels; None where it is points.
    is_background
        Whether it says where the object is not.
    group
        What pieces of one object share, beside their parent; empty where it is by itself.
    must_group
        Whether it is of no use without an object of its group.
    parent
        The `number` of the piece within which it was drawn, or None.
    """

    number: int
    where: str
    id: str = ""
    name: str = ""
    class_name: str = ""
    class_color: str | None = None
    color: str | None = None
    xy: Points = field(default_factory=no_xy)
    area: shapely.Geometry | None = None
    is_background: bool = False
    group: str = ""
    must_group: bool = False
    parent: int | None = None

    def refused(self, reason: str) -> Refused:
        """Return the piece as one that cannot be used."""
        return Refused(self.where, reason, id=self.id, name=self.name)


@dataclass(frozen=True)
class Sign:
    """On which side of the object's border a piece lies, and whose piece it is.

    Attributes
    ----------
    is_background, group, must_group
        As `Piece` has them.
    """

    is_background: bool
    group: str
    must_group: bool


def sign_of(name: str, class_name: str, *, group: str = "", is_negative: bool = False) -> Sign:
    """Return the sign of a piece, and its group.

    Background is what has an ignored class, such as ``Ignore*``, or a name that begins with
    ``neg``; what follows there may name the object that it belongs to.

    Parameters
    ----------
    name, class_name
        Of the piece.
    group
        What its file says of its group; empty where the name is all there is.
    is_negative
        Whether its file says that it is background, beside class and name.
    """
    is_named_so = name.casefold().startswith("neg")
    if is_named_so and group in ("", name):
        # A negative point may be numbered, or named after an object that is not there.
        return Sign(True, _NEGATIVE.sub("", name, count=1).strip(), must_group=False)
    is_background = is_named_so or is_negative or is_ignored_class(class_name)
    whose = group or name
    return Sign(is_background, whose, must_group=is_background and bool(whose))


def checked(piece: Piece, size: tuple[int, int]) -> Piece | Refused:
    """Return a piece fit for use on a slide, or why it is not.

    Parameters
    ----------
    piece
        As read.
    size
        Width and height of level 0.

    Returns
    -------
    Piece or Refused
        Areas are cut to the slide, and class names in the form in which files have them.
    """
    try:
        name = drawn_class_name(piece.class_name) if piece.class_name.strip() else ""
    except ValueError as error:
        return piece.refused(str(error))
    if name != piece.class_name:
        piece = replace(piece, class_name=name)
    return _checked_points(piece, size) if piece.area is None else _checked_area(piece, size)


def _checked_points(piece: Piece, size: tuple[int, int]) -> Piece | Refused:
    if len(piece.xy) == 0:
        return piece.refused("it has no points")
    if (piece.xy >= 0).all() and (piece.xy < size).all():
        return piece
    if not np.isfinite(piece.xy).all():
        return piece.refused("it has NaN, infinite or null coordinates")
    outside = ((piece.xy < 0) | (piece.xy >= size)).any(axis=1)
    if outside.all():
        return piece.refused(f"it lies outside {_slide(size)}")
    several = f"{outside.sum():,} of its {len(piece.xy):,} points lie"
    return piece.refused(f"{several} outside {_slide(size)}")


def _checked_area(piece: Piece, size: tuple[int, int]) -> Piece | Refused:
    area = piece.area
    if piece.is_background:
        what = f"class {piece.class_name}" if piece.class_name else "a name in 'neg'"
        return piece.refused(f"an area with {what} asks for nothing; mark background by points")
    if shapely.area(area) < LEAST_AREA_PX:
        return piece.refused("it is smaller than a pixel of the slide")
    x0, y0, x1, y1 = shapely.bounds(area)
    if x0 >= 0 and y0 >= 0 and x1 <= size[0] and y1 <= size[1]:
        return piece
    cut = shapely.get_parts(shapely.intersection(area, shapely.box(0, 0, *size)))
    cut = cut[shapely.get_type_id(cut) == shapely.GeometryType.POLYGON]
    if shapely.area(cut).sum() < LEAST_AREA_PX:
        return piece.refused(f"it lies outside {_slide(size)}")
    return replace(piece, area=cut[0] if len(cut) == 1 else shapely.MultiPolygon(list(cut)))


def _slide(size: tuple[int, int]) -> str:
    return f"the slide ({size[0]} x {size[1]} px)"


def points_of_line(xy: Points) -> Points:
    """Return the corners of a line, each once; of a line of many, points evenly along it."""
    if len(xy) == 0 or not np.isfinite(xy).all():
        return xy
    xy = xy[np.r_[True, (np.diff(xy, axis=0) != 0).any(axis=1)]]
    if len(xy) <= MOST_LINE_POINTS:
        return xy
    line = shapely.LineString(xy)
    along = np.linspace(0, shapely.length(line), MOST_LINE_POINTS)
    spread: Points = shapely.get_coordinates(shapely.line_interpolate_point(line, along))
    return spread
