"""Read a finished result back: maps at any level, classes, places, polygons, areas."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from zipfile import BadZipFile

import numpy as np
import shapely
from numpy.typing import NDArray

from wsi_sampath.errors import WsiError
from wsi_sampath.outputs.packing import SUFFIXES, read_members
from wsi_sampath.outputs.pyramid import read_attributes

if TYPE_CHECKING:
    import dask.array as da
    import geopandas
    import pandas as pd

_LABELS = "labels/classes"


@dataclass(frozen=True)
class ResultClass:
    """One class: its value in the class map, name and "#rrggbb"."""

    value: int
    name: str
    color: str


@dataclass(frozen=True)
class ResultLevel:
    """One level of the pyramid.

    Attributes
    ----------
    height, width
        In pixels of this level.
    um_x, um_y
        Um per pixel.
    offset_um_x, offset_um_y
        Where the centre of the first pixel lies, from the centre of the slide's first pixel.
    """

    height: int
    width: int
    um_x: float
    um_y: float
    offset_um_x: float
    offset_um_y: float


@dataclass(frozen=True)
class SlidePolygon:
    """One region.

    Attributes
    ----------
    class_name
        Its class.
    polygon
        In level-0 pixels as QuPath shows the slide: pixel corners are integers, y down. Where a
        slide has bounds (MIRAX), ``attributes["bounds_offset"]`` is to be added for OpenSlide's.
    measurements
        Area in um^2, mean probability.
    """

    class_name: str
    polygon: shapely.Polygon
    measurements: dict[str, float]


@dataclass(frozen=True)
class Result:
    """A complete result.

    Attributes
    ----------
    path
        The zarr.
    classes
        The values 1..k of the class map.
    levels
        The pyramid, finest first.
    attributes
        What the run told of itself: areas, mpp and its source, tiles, settings, seconds.
    geojson
        The polygons' file; None where there is none.
    """

    path: Path
    classes: tuple[ResultClass, ...]
    levels: tuple[ResultLevel, ...]
    attributes: dict[str, Any]
    geojson: Path | None

    def labels(self, level: int = 0) -> da.Array:
        """Return the class map, dask uint8 (h, w): 0 not analysed, 1..k the classes."""
        return self._array(f"{_LABELS}/{self._checked(level)}")

    def read_labels(self, level: int = 0) -> NDArray[np.uint8]:
        """Return the class map read into memory, uint8 (h, w); see `labels`."""
        found: NDArray[np.uint8] = self._stored(f"{_LABELS}/{self._checked(level)}")[...]
        return found

    def probabilities(self, level: int = 0) -> da.Array:
        """Return the class probabilities, dask uint8 (k, h, w): 255 p, rounded.

        Raises
        ------
        WsiError
            ``bad-input`` where they were not stored, or for a level that is not there.
        """
        array = self._array(str(self._checked(level)))
        if array.ndim != 3:
            self._refuse("has no probabilities; it was made with --no-probabilities")
        return array

    def level_near(self, um_per_px: float) -> int:
        """Return the coarsest level that has pixels of at most `um_per_px` um, or else level 0."""
        fine = [n for n, one in enumerate(self.levels) if max(one.um_x, one.um_y) <= um_per_px]
        return max(fine, default=0)

    def polygons(self) -> list[SlidePolygon]:
        """Read all polygons.

        Raises
        ------
        WsiError
            ``bad-input`` where there is no GeoJSON, or it can't be read.
        """
        if self.geojson is None:
            self._refuse("has no polygons; no GeoJSON lies beside it")
        return list(_read_polygons(self.geojson))

    def geodataframe(self) -> geopandas.GeoDataFrame:
        """Return the polygons as a GeoDataFrame: class, one column a measurement, geometry.

        Raises
        ------
        ImportError
            Where geopandas is not installed.
        WsiError
            As `polygons`.
        """
        try:
            import geopandas
        except ImportError as error:
            message = "geodataframe() needs geopandas: pip install geopandas"
            raise ImportError(message, name="geopandas") from error
        found = self.polygons()
        rows = [{"class": one.class_name, **one.measurements} for one in found]
        columns = None if rows else ["class"]
        shapes = [one.polygon for one in found]
        return geopandas.GeoDataFrame(rows, columns=columns, geometry=shapes)

    def areas(self) -> list[dict[str, Any]]:
        """Return value, class, color, area_mm2 and percent (of what was analysed) of each class.

        The areas are those of the class map, whatever was left out of the polygons.
        """
        areas = self.attributes["area_mm2"]
        total = sum(areas.values())
        return [
            {
                "value": one.value,
                "class": one.name,
                "color": one.color,
                "area_mm2": areas[one.name],
                "percent": 100 * areas[one.name] / total if total else 0.0,
            }
            for one in self.classes
        ]

    def area_table(self) -> pd.DataFrame:
        """Return `areas` as a table, a row a class."""
        import pandas as pd

        return pd.DataFrame(self.areas())

    def _array(self, name: str) -> da.Array:
        import dask.array as da

        return da.from_zarr(self._stored(name))

    def _stored(self, name: str) -> Any:
        import zarr

        return zarr.open_array(str(self.path / name), mode="r")

    def _checked(self, level: int) -> int:
        if not 0 <= level < len(self.levels):
            self._refuse(f"has the levels 0 to {len(self.levels) - 1}, not {level}")
        return level

    def _refuse(self, message: str) -> NoReturn:
        raise WsiError("bad-input", message, subject=str(self.path))


def open_result(path: str | os.PathLike[str]) -> Result:
    """Open what a run wrote.

    Parameters
    ----------
    path
        ``NAME.zarr``. The polygons are found where the run put them, as long as zarr and GeoJSON
        were moved together, or under the name of the zarr beside it.

    Raises
    ------
    WsiError
        ``bad-input`` where it is not a result of ours, or not a complete one.
    """
    path = Path(path)
    attributes = read_attributes(path)
    if attributes is None:
        hint = "; a run is not finished yet" if _is_growing(path) else ""
        raise WsiError("bad-input", f"is not a result of wsi-segment{hint}", subject=str(path))
    if attributes.get("complete") is not True:
        raise WsiError("bad-input", "is not complete; run wsi-segment again", subject=str(path))
    try:
        classes, levels = _read_layout(path)
    except (KeyError, IndexError, TypeError, ValueError, OSError) as error:
        message = f"is damaged ({type(error).__name__}: {error}); run wsi-segment --force"
        raise WsiError("bad-input", message, subject=str(path)) from error
    return Result(path, classes, levels, attributes, _find_geojson(path, attributes))


def _is_growing(path: Path) -> bool:
    return path.with_name(path.name + ".partial").is_dir()


def _read_layout(path: Path) -> tuple[tuple[ResultClass, ...], tuple[ResultLevel, ...]]:
    import zarr

    group = zarr.open_group(str(path / _LABELS), mode="r")
    metadata: Any = group.attrs.get("ome", group.attrs)
    names = {one["label-value"]: one["class"] for one in metadata["image-label"]["properties"]}
    colors = {one["label-value"]: one["rgba"] for one in metadata["image-label"]["colors"]}
    classes = tuple(
        ResultClass(value, names[value], "#{:02x}{:02x}{:02x}".format(*colors[value]))
        for value in sorted(names)
        if value > 0
    )
    datasets = metadata["multiscales"][0]["datasets"]
    shapes = [group[one["path"]].shape for one in datasets]
    levels = tuple(_level(shape, one) for shape, one in zip(shapes, datasets, strict=True))
    return classes, levels


def _level(shape: tuple[int, int], dataset: dict[str, Any]) -> ResultLevel:
    scale, translation = dataset["coordinateTransformations"]
    (um_y, um_x), (off_y, off_x) = scale["scale"], translation["translation"]
    return ResultLevel(*shape, um_x=um_x, um_y=um_y, offset_um_x=off_x, offset_um_y=off_y)


def _find_geojson(path: Path, attributes: dict[str, Any]) -> Path | None:
    recorded = attributes.get("geojson")
    candidates = [path.parent / recorded] if recorded else []
    candidates += [path.with_suffix(suffix) for suffix in SUFFIXES]
    return next((one for one in candidates if one.is_file()), None)


def _read_polygons(path: Path) -> Iterator[SlidePolygon]:
    try:
        for _, text in read_members(path):
            features = json.loads(text)["features"]
            shapes = shapely.get_parts(shapely.from_geojson(text)) if features else []
            for feature, shape in zip(features, shapes, strict=True):
                properties = feature["properties"]
                name = properties["classification"]["name"]
                yield SlidePolygon(name, shape, properties["measurements"])
    except (OSError, EOFError, zlib.error, BadZipFile) as error:
        raise WsiError("bad-input", f"can't be read: {error}", subject=str(path)) from error
    except (KeyError, TypeError, ValueError, shapely.GEOSException) as error:
        message = f"is not as wsi-segment wrote it ({type(error).__name__}: {error})"
        raise WsiError("bad-input", message, subject=str(path)) from error
