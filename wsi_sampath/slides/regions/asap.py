"""Annotations of ASAP (``.xml``), as those of CAMELYON: groups to classes, exclusions cut out."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from xml.etree import ElementTree

from wsi_sampath.classes import drawn_class_name, name_key
from wsi_sampath.errors import WsiError
from wsi_sampath.slides.regions.annotations import Annotation, Annotations
from wsi_sampath.slides.regions.geojson import Lack, left_out_phrases
from wsi_sampath.slides.regions.polygon_parts import Broken, areas_of

SUFFIX = ".xml"
EXCLUSIONS = ("_2", "Exclusion", "Normal")
"""Groups of CAMELYON16 and 17 that mark what within a tumour is none."""

_CUT_OUT = "Ignore*"
_AREAS = frozenset({"polygon", "spline", "rectangle"})
_LACKS = {"not finite": Lack.NOT_FINITE, "far": Lack.FAR, "broken": Lack.BROKEN}
_COLOR = re.compile(r"#[0-9a-fA-F]{6}")
_NO_GROUP = ("", "none")


def read_asap(path: str | Path, exclusions: Collection[str] = EXCLUSIONS) -> Annotations:
    """Read the areas of a file of ASAP.

    The class of an area is the outermost group that it is in. Splines are read as the polygons of
    their points.

    Parameters
    ----------
    path
        The ``.xml`` file. Its coordinates count from the corner of level 0, whatever bounds the
        slide states.
    exclusions
        Groups whose areas are cut out of larger ones, as QuPath's ``Ignore*`` is; whatever their
        capitals.

    Raises
    ------
    WsiError
        ``bad-input`` if the file cannot be read or holds no area in a group.
    """
    root = _parsed(Path(path))
    parents = {_of(group, "Name"): group for group in root.iter("Group")}
    left_out: Counter[Lack] = Counter()
    areas = [
        found
        for one in root.iter("Annotation")
        if (found := _area(one, parents, {*map(name_key, exclusions)}, left_out)) is not None
    ]
    if not any(not area.is_ignored for area in areas):
        what = ", ".join(left_out_phrases(left_out)) or "no annotation"
        if areas:
            what = f"{what} and exclusions alone" if left_out else "exclusions alone"
        message = f"holds {what}: it needs polygons in a group"
        raise WsiError("bad-input", message, subject=str(path))
    return Annotations(tuple(areas), +left_out)


def _parsed(path: Path) -> ElementTree.Element:
    try:
        root = ElementTree.fromstring(path.read_bytes())
    except OSError as error:
        message = f"cannot be read: {error.strerror}"
        raise WsiError("bad-input", message, subject=str(path)) from error
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise WsiError("bad-input", f"is not XML: {error}", subject=str(path)) from error
    if root.find("Annotations") is None:
        message = "holds no annotations of ASAP (ASAP_Annotations, Annotations)"
        raise WsiError("bad-input", message, subject=str(path))
    return root


def _area(
    one: ElementTree.Element,
    parents: Mapping[str, ElementTree.Element],
    exclusions: Collection[str],
    left_out: Counter[Lack],
) -> Annotation | None:
    """Return one area, or None, and the reason is counted."""
    if _of(one, "Type").casefold() not in _AREAS:
        left_out[Lack.POINT] += 1
        return None
    area = areas_of([[[_ring(one)]]])[0]
    if not area or isinstance(area, Broken):
        left_out[_LACKS[area.how] if isinstance(area, Broken) else Lack.EMPTY] += 1
        return None
    groups = _groups(one, parents)
    if not groups:
        left_out[Lack.CLASSLESS] += 1
        return None
    if any(name_key(name) in exclusions for name in groups):
        return Annotation(_CUT_OUT, None, area)
    try:
        name = drawn_class_name(groups[-1])
    except ValueError:
        left_out[Lack.ODD_NAME] += 1
        return None
    color = _of(parents.get(groups[-1], one), "Color")
    return Annotation(name, color.lower() if _COLOR.fullmatch(color) else None, area)


def _groups(
    one: ElementTree.Element, parents: Mapping[str, ElementTree.Element]
) -> tuple[str, ...]:
    """Return the groups that an annotation is in, the outermost last; a circle is left."""
    found: list[str] = []
    name = _of(one, "PartOfGroup")
    while name.casefold() not in _NO_GROUP and name not in found:
        found.append(name)
        name = _of(parents[name], "PartOfGroup") if name in parents else ""
    return tuple(found)


def _ring(one: ElementTree.Element) -> list[tuple[float, float]]:
    """Return the positions in order; what is not a number becomes NaN, which is refused later."""
    places = one.findall("Coordinates/Coordinate")
    points = [tuple(_number(_of(place, key)) for key in ("Order", "X", "Y")) for place in places]
    if not any(math.isnan(order) for order, *_ in points):
        points.sort(key=lambda point: point[0])
    return [(x, y) for _, x, y in points]


def _of(one: ElementTree.Element, name: str) -> str:
    return one.get(name, "").strip()


def _number(text: str) -> float:
    # Some languages of ASAP's computer write a decimal comma.
    try:
        return float(text.replace(",", "."))
    except ValueError:
        return float("nan")
