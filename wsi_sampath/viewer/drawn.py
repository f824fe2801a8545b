"""An object of a session: its outline, what it is, and how it was asked for."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal, NoReturn

import shapely
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from wsi_sampath.classes import drawn_class_name
from wsi_sampath.errors import WsiError
from wsi_sampath.outputs.qupath.geojson import geometry_texts
from wsi_sampath.prompt_files.grouping import MOST_POINTS
from wsi_sampath.prompt_files.mask_features import DECIMALS, SHORT_SHA, on_slide
from wsi_sampath.slides.regions.polygon_parts import FARTHEST_PX, Broken, areas_of
from wsi_sampath.slides.slide import Slide

MOST_CORNERS = 100_000
"""Corners of one object."""
LONGEST_NAME = 500
_MOST_STEPS = 100
_WHY_BROKEN = {
    "not finite": "it has coordinates that are NaN, infinite or null",
    "far": "it has coordinates beyond any slide",
    "broken": "its coordinates are no rings of x, y pairs",
}


class Told(BaseModel):
    """What the page or a session file says: frozen, nothing unknown, every number finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def read(cls, values: object) -> Any:
        """Check values and build it.

        Raises
        ------
        WsiError
            ``bad-input``, naming the first thing wrong.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            refuse_first(error)


def refuse_first(error: ValidationError) -> NoReturn:
    """Raise ``bad-input`` for the first thing that a check found."""
    first = error.errors(include_url=False, include_context=False)[0]
    where = ".".join(map(str, first["loc"])) or "it"
    raise WsiError("bad-input", f"{where}: {first['msg']}") from None


def _uuid(text: str) -> str:
    return str(uuid.UUID(text))


def plain_name(name: str) -> str:
    """Return the name of an object as one line of text.

    Raises
    ------
    ValueError
        For one that is far too long.
    """
    if len(name) > LONGEST_NAME:
        raise ValueError(f"the name has {len(name):,} characters, more than {LONGEST_NAME}")
    printable = (letter if letter.isprintable() else " " for letter in name)
    return " ".join("".join(printable).split())


def _class_name(name: str) -> str:
    return drawn_class_name(name) if name.strip() else ""


Id = Annotated[str, Field(max_length=64), AfterValidator(_uuid)]
Name = Annotated[str, AfterValidator(plain_name)]
ClassName = Annotated[str, AfterValidator(_class_name)]
Color = Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")]
Place = Annotated[float, Field(ge=-FARTHEST_PX, le=FARTHEST_PX)]
Point = tuple[Place, Place, Annotated[int, Field(ge=0, le=1)]]
Box = tuple[Place, Place, Place, Place]
_Word = Annotated[str, Field(max_length=LONGEST_NAME), AfterValidator(plain_name)]


class DrawnClass(Told):
    """A class of objects; those that end in a star, as ``Ignore*``, are allowed here."""

    name: Annotated[ClassName, Field(min_length=1)]
    color: Color


class ToldGeometry(Told):
    """A geometry of GeoJSON; whether its coordinates are any, `shape_of` finds out."""

    type: Literal["Polygon", "MultiPolygon"]
    coordinates: list[Any]


class AskedBy(Told):
    """What asked for an object.

    Attributes
    ----------
    points
        x and y in level-0 px, and 1 on the object, 0 beside it.
    box
        x0, y0, x1, y1.
    outline
        A rough one.
    steps
        How it went, where more was pointed at later on: how many of the points each question had,
        and which of its candidates was gone on from, or accepted; of the first one 0.
    """

    points: Annotated[tuple[Point, ...], Field(max_length=MOST_POINTS)] = ()
    box: Box | None = None
    outline: ToldGeometry | None = None
    steps: Annotated[tuple[tuple[int, int], ...], Field(max_length=_MOST_STEPS)] = ()


class ToldProperties(Told):
    """What a feature says beside its geometry; None and empty texts say nothing."""

    name: Name | None = None
    class_name: Annotated[ClassName | None, Field(alias="class")] = None
    color: Color | None = None
    quality: float | None = None
    model: _Word | None = None
    weights: _Word | None = None
    mpp: Annotated[float, Field(gt=0)] | None = None
    edited: bool = False
    prompt: AskedBy | None = None


class ToldFeature(Told):
    """A feature of GeoJSON, as the page sends it and as a session file keeps it."""

    type: Literal["Feature"] = "Feature"
    id: Id | None = None
    geometry: ToldGeometry
    properties: ToldProperties = ToldProperties()


@dataclass(frozen=True)
class Frame:
    """What places on a slide are measured by.

    Attributes
    ----------
    size
        Width and height of level 0, px.
    mpp
        Microns in a level-0 pixel along x and along y.
    bounds_offset
        Level-0 x and y of the place from which QuPath counts.
    """

    size: tuple[int, int]
    mpp: tuple[float, float]
    bounds_offset: tuple[int, int] = (0, 0)

    @classmethod
    def of(cls, slide: Slide) -> Frame:
        """Return the frame of an open slide."""
        return cls(slide.size, (slide.mpp.x, slide.mpp.y), slide.bounds_offset)

    def area_um2(self, shape: shapely.Geometry) -> float:
        """Return the area of a shape in level-0 px."""
        return float(shapely.area(shape)) * self.mpp[0] * self.mpp[1]


@dataclass(frozen=True)
class Drawn:
    """An object on a slide.

    Attributes
    ----------
    id
        A UUID.
    shape
        Polygon or MultiPolygon in level-0 px with 2 decimals, valid and within the slide.
    name, class_name
        Empty where it has none; the class in the form of `drawn_class_name`.
    quality
        The IoU that a network predicted for it; None where it was drawn or edited by hand.
    model, weights
        Name and beginning of the digest of the network that made it; empty for none.
    mpp
        Microns per pixel at which the network saw it.
    edited
        Whether a network's outline was changed by hand.
    prompt
        What asked the network for it.
    """

    id: str
    shape: shapely.Geometry
    name: str = ""
    class_name: str = ""
    quality: float | None = None
    model: str = ""
    weights: str = ""
    mpp: float | None = None
    edited: bool = False
    prompt: AskedBy | None = None

    @classmethod
    def told(cls, features: Sequence[ToldFeature], size: tuple[int, int]) -> list[Drawn]:
        """Return the objects of features; one without an id gets a new one.

        Raises
        ------
        WsiError
            ``bad-input`` for a geometry that is none, or not on a slide of this size.
        """
        areas = areas_of([_parts(one.geometry) for one in features])
        shapes = [fitted(area, size) for area in areas]
        return [cls._of(one, shape) for one, shape in zip(features, shapes, strict=True)]

    @classmethod
    def _of(cls, feature: ToldFeature, shape: shapely.Geometry) -> Drawn:
        told = feature.properties
        return cls(
            feature.id or str(uuid.uuid4()),
            shape,
            name=told.name or "",
            class_name=told.class_name or "",
            quality=_rounded(told.quality),
            model=told.model or "",
            weights=(told.weights or "")[:SHORT_SHA],
            mpp=_rounded(told.mpp) or None,
            edited=told.edited,
            prompt=told.prompt,
        )

    @cached_property
    def geometry_text(self) -> str:
        """The geometry as compact JSON."""
        return geometry_texts([self.shape])[0]  # type: ignore[arg-type]

    def properties(self) -> dict[str, Any]:
        """Return what it says beside its geometry, as `ToldProperties` takes it."""
        told = {
            "name": self.name,
            "class": self.class_name,
            "quality": self.quality,
            "model": self.model,
            "weights": self.weights,
            "mpp": self.mpp,
            "edited": self.edited,
            "prompt": self.prompt and self.prompt.model_dump(mode="json", exclude_defaults=True),
        }
        # A quality of 0, which equals False, is told.
        return {key: one for key, one in told.items() if one or type(one) is float}

    def feature(self) -> dict[str, Any]:
        """Return it as `ToldFeature` takes it."""
        geometry = json.loads(self.geometry_text)
        return {"id": self.id, "geometry": geometry, "properties": self.properties()}


def _rounded(value: float | None) -> float | None:
    """Round a number as exported files do."""
    return None if value is None else round(value, DECIMALS)


def shape_of(geometry: ToldGeometry, size: tuple[int, int]) -> shapely.Geometry:
    """Return a geometry as `Drawn.shape` has it; of a valid one on the slide nothing changes.

    Raises
    ------
    WsiError
        ``bad-input`` for what is none, has too many corners, or is not on a slide of this size.
    """
    return fitted(areas_of([_parts(geometry)])[0], size)


def _parts(geometry: ToldGeometry) -> list[Any]:
    """Return the coordinates of its polygons."""
    return [geometry.coordinates] if geometry.type == "Polygon" else geometry.coordinates


def fitted(area: shapely.MultiPolygon | Broken | None, size: tuple[int, int]) -> shapely.Geometry:
    """Return what `areas_of` made as `Drawn.shape` has it.

    Raises
    ------
    WsiError
        As of `shape_of`.
    """
    if isinstance(area, Broken):
        raise WsiError("bad-input", _WHY_BROKEN[area.how])
    if area is None:
        raise WsiError("bad-input", "its area is empty")
    if shapely.get_num_coordinates(area) > MOST_CORNERS:
        raise WsiError("bad-input", f"it has more than {MOST_CORNERS:,} corners")
    shape = on_slide(_whole(shapely.get_parts(area)), size)
    if shape is None or not shapely.is_valid(shape):
        width, height = size
        raise WsiError("bad-input", f"nothing of it lies on the slide of {width} x {height} px")
    return shape


def _whole(parts: Sequence[shapely.Geometry]) -> shapely.Geometry:
    """Return parts, each valid by itself, as one valid shape."""
    if len(parts) == 1:
        return parts[0]
    together = shapely.MultiPolygon(list(parts))
    return together if shapely.is_valid(together) else shapely.union_all(parts)
