"""Pieces of prompts out of QuPath's GeoJSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import shapely

from wsi_sampath.prompt_files.pieces import Piece, no_xy, points_of_line, sign_of
from wsi_sampath.prompt_files.prompt import Points, Refused
from wsi_sampath.slides.regions.geojson import (
    LEFT_OUT_KINDS,
    DrawnObject,
    Lack,
    left_out_phrases,
    read_drawn,
)

_NUCLEI = ("detection", "cell")
_REASONS = {
    Lack.EMPTY: "its area is empty",
    Lack.OTHER_PLANE: "it lies on another plane (z or t)",
    Lack.NO_GEOMETRY: "it has no geometry",
    Lack.NOT_FINITE: "it has NaN, infinite or null coordinates",
    Lack.FAR: "it has coordinates beyond any slide",
    Lack.BROKEN: "its coordinates are broken",
    Lack.UNKNOWN: "its geometry is of an unknown type",
    Lack.NO_FEATURE: "it is not a feature",
}


def read_drawn_pieces(
    path: Path, offset: tuple[float, float], *, each_point: bool
) -> tuple[list[Piece | Refused], tuple[str, ...]]:
    """Read what was drawn.

    Parameters
    ----------
    path
        GeoJSON as QuPath writes it.
    offset
        Added to coordinates: QuPath counts from the corner of the slide's bounds.
    each_point
        Whether each of several points asks for an object of its own.

    Returns
    -------
    pieces, notes
        In the file's order, with what cannot be used; sentences for the user. Annotations count,
        detections and cells only where there is no annotation.

    Raises
    ------
    WsiError
        ``bad-input`` if the file cannot be read.
    """
    drawn = read_drawn(path)
    kinds = {one.kind for one in drawn.objects}
    wanted = ("annotation",) if "annotation" in kinds else _NUCLEI
    others = [one.kind for one in drawn.objects if one.kind not in (*wanted, "root")]
    left_out = Counter(LEFT_OUT_KINDS[kind] for kind in others)
    phrases = ", ".join(left_out_phrases(left_out))
    notes = (f"{path.name}: {phrases} left out of the prompts",) if phrases else ()
    found = [
        piece
        for number, thing in enumerate(drawn.objects)
        if thing.kind in wanted
        for piece in _pieces(number, thing, np.array(offset, np.float64), each_point=each_point)
    ]
    return found, notes + drawn.warnings


def _pieces(
    number: int, thing: DrawnObject, offset: Points, *, each_point: bool
) -> Iterator[Piece | Refused]:
    where, sign = f"object {number + 1}", sign_of(thing.name, thing.class_name)
    if thing.area is None and not thing.marks:
        lack = next(iter(thing.lacks), Lack.EMPTY)
        yield Refused(where, _REASONS.get(lack, "it holds nothing"), id=thing.id, name=thing.name)
        return
    piece = Piece(
        number,
        where,
        id=thing.id,
        name=thing.name,
        class_name=thing.class_name,
        class_color=thing.color,
        color=thing.own_color,
        xy=_xy(thing) + offset,
        area=None if thing.area is None else _moved(thing.area, offset),
        is_background=sign.is_background,
        group=sign.group,
        must_group=sign.must_group,
        parent=thing.parent,
    )
    is_split = each_point and not any(one.is_line for one in thing.marks)
    yield from _each(piece) if is_split and not piece.is_background else [piece]


def _xy(thing: DrawnObject) -> Points:
    if thing.area is not None:
        # As in QuPath, points and lines beside areas do not count.
        return no_xy()
    found = [points_of_line(one.xy) if one.is_line else one.xy for one in thing.marks]
    return found[0] if len(found) == 1 else np.concatenate(found)


def _each(piece: Piece) -> Iterator[Piece]:
    if len(piece.xy) < 2:
        yield piece
        return
    for index in range(len(piece.xy)):
        where = f"{piece.where}, point {index + 1}"
        yield replace(
            piece, where=where, id="", group="", parent=None, xy=piece.xy[index : index + 1]
        )


def _moved(area: shapely.MultiPolygon, offset: Points) -> shapely.Geometry:
    parts = shapely.get_parts(area)
    # Parts are valid each by itself, and may overlap.
    whole = parts[0] if len(parts) == 1 else shapely.union_all(parts)
    return shapely.transform(whole, lambda xy: xy + offset) if offset.any() else whole
