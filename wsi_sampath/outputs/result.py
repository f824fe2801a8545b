"""Read a finished result back: maps at any level, classes, places, polygons, areas."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn
from zipfile import BadZipFile

import numpy as np
import shapely
from numpy.typing import NDArray

from wsi_sampath.errors import WsiError
from wsi_sampath.outputs.attributes import damage_of, read_attributes
from wsi_sampath.outputs.belonging import polygons_state, report_state
from wsi_sampath.outputs.omezarr.downsample import Unsigned
from wsi_sampath.outputs.omezarr.images import LABELS as LABEL_PLANES
from wsi_sampath.outputs.omezarr.images import ROOT
from wsi_sampath.outputs.omezarr.layout import (
    LABELS,
    ResultClass,
    ResultLevel,
    StoredPlane,
    damaged,
    read_layout,
)
from wsi_sampath.outputs.omezarr.stored_chunks import images_of, missing_chunks
from wsi_sampath.outputs.qupath.packing import SUFFIXES, read_members

if TYPE_CHECKING:
    import dask.array as da
    import geopandas
    import pandas as pd


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
class Layer:
    """One map of a result; all of them have the result's levels.

    Attributes
    ----------
    name
        By which `Result.window` finds it.
    kind
        ``classes``: uint8, 0 not analysed, 1..k the classes. ``objects``: uint32 ids, 0 for none.
        ``probabilities``: uint8 (k, h, w), 255 p.
    classes
        What its values or channels mean; empty for ids.
    path
        Where its levels lie in the zarr.
    """

    name: str
    kind: Literal["classes", "objects", "probabilities"]
    classes: tuple[ResultClass, ...]
    path: str

    def plane(self, zarr: Path, levels: Sequence[ResultLevel], level: int) -> StoredPlane:
        """Return the array of a level, checked to be what `kind` says.

        Raises
        ------
        WsiError
            ``bad-input`` where it is not.
        """
        at = levels[level]
        name = f"{self.path}/{level}" if self.path else str(level)
        dtype = "uint32" if self.kind == "objects" else "uint8"
        most = len(self.classes) if self.kind == "classes" else None
        lead = (len(self.classes),) if self.kind == "probabilities" else ()
        plane = StoredPlane(zarr, name, dtype=dtype, most=most)
        return plane.of(*lead, at.height, at.width)


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
    layers
        The maps that the run wrote, the class map first.
    attributes
        What the run recorded: areas, mpp and its source, tiles, settings, seconds.
    geojson
        The polygons' file; None where there is none.
    report
        The HTML page of its run; None where there is none.
    reused
        True where `segment_slide` found the result complete already.
    """

    path: Path
    classes: tuple[ResultClass, ...]
    levels: tuple[ResultLevel, ...]
    layers: tuple[Layer, ...]
    attributes: dict[str, Any]
    geojson: Path | None
    report: Path | None = None
    reused: bool = False

    def __repr__(self) -> str:
        # All attributes would be a screenful.
        areas = ", ".join(f"{n} {a:.3f} mm2" for n, a in self.attributes["area_mm2"].items())
        return f"Result({str(self.path)!r}, {areas})"

    @property
    def zarr(self) -> Path:
        """The folder of the maps, the same as `path`."""
        return self.path

    def window(self, layer: str, level: int, box: tuple[int, int, int, int]) -> Unsigned:
        """Read a part of a layer, and no more chunks than it touches.

        Parameters
        ----------
        layer
            Name of one of `layers`.
        level
            Of the pyramid; 0 is the finest.
        box
            x, y, width and height in pixels of that level. What lies beyond the edges is cut off.

        Returns
        -------
        array
            (h, w), or (k, h, w) for probabilities; see `Layer.kind`.

        Raises
        ------
        WsiError
            ``bad-input`` for a layer or level that is not there, a box that lies beside the map, or
            damage.
        """
        found = next((one for one in self.layers if one.name == layer), None)
        if found is None:
            known = ", ".join(one.name for one in self.layers)
            self._refuse(f"has the layers {known}, not {layer!r}")
        at = self.levels[self._checked(level)]
        x, y, width, height = box
        columns = slice(max(x, 0), min(x + width, at.width))
        rows = slice(max(y, 0), min(y + height, at.height))
        if columns.start >= columns.stop or rows.start >= rows.stop:
            extent = f"level {level} is {at.width} x {at.height} px"
            self._refuse(f"has nothing in the box x {x}, y {y}, {width} x {height}: {extent}")
        return found.plane(self.path, self.levels, level)[..., rows, columns]

    def labels(self, level: int = 0) -> da.Array:
        """Return the class map, dask uint8 (h, w): 0 not analysed, 1..k the classes."""
        return _lazy(self._labels(level))

    def read_labels(self, level: int = 0) -> NDArray[np.uint8]:
        """Return the class map read into memory, uint8 (h, w); see `labels`."""
        labels: NDArray[np.uint8] = self._labels(level)[...].view(np.uint8)
        return labels

    def probabilities(self, level: int = 0) -> da.Array:
        """Return the class probabilities, dask uint8 (k, h, w): 255 p, rounded.

        Raises
        ------
        WsiError
            ``bad-input`` where they were not stored, or for a level that does not exist.
        """
        self._checked(level)
        image = next((one for one in self.layers if one.kind == "probabilities"), None)
        if image is None:
            self._refuse("has no probabilities; it was made with --no-probabilities")
        return _lazy(image.plane(self.path, self.levels, level))

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
        """Return `areas` as a table, one row per class."""
        import pandas as pd

        return pd.DataFrame(self.areas())

    def _labels(self, level: int) -> StoredPlane:
        return self.layers[0].plane(self.path, self.levels, self._checked(level))

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
        ``bad-input`` where it is not a result of ours, not a complete one, damaged, or where the
        polygons are not those of its run.
    """
    return _open(Path(path), with_polygons=True)


def open_maps(path: Path) -> Result:
    """Open the maps of a result that is not in its place yet, without polygons; see `open_result`.

    Raises
    ------
    WsiError
        As `open_result`.
    """
    return _open(path, with_polygons=False)


def _open(path: Path, *, with_polygons: bool) -> Result:
    attributes = read_attributes(path)
    if attributes is None:
        hint = "; a run is not finished yet" if _is_growing(path) else ""
        raise WsiError("bad-input", f"is not a result of wsi-segment{hint}", subject=str(path))
    if attributes.get("complete") is not True:
        raise WsiError("bad-input", "is not complete; run wsi-segment again", subject=str(path))
    if (damage := damage_of(attributes)) is not None:
        damaged(path, damage)
    classes, levels = read_layout(path, attributes)
    layers = _layers(path, attributes, classes, levels)
    if missing := missing_chunks(path, attributes):
        damaged(path, missing)
    geojson = _find_geojson(path, attributes) if with_polygons else None
    report = path.with_suffix(".html")
    belongs = report_state(report, attributes) == "same"
    return Result(path, classes, levels, layers, attributes, geojson, report if belongs else None)


def _layers(
    path: Path,
    attributes: dict[str, Any],
    classes: tuple[ResultClass, ...],
    levels: tuple[ResultLevel, ...],
) -> tuple[Layer, ...]:
    """Find the layers, and make sure that all their arrays are there, those of the root too."""
    others = [one for one in images_of(attributes) if one not in (LABELS, ROOT)]
    objects = [Layer(one.removeprefix(LABEL_PLANES), "objects", (), one) for one in others]
    image = Layer("probabilities", "probabilities", classes, ROOT)
    if StoredPlane(path, "0").ndim == 2:  # The class map once more.
        image = Layer("image", "classes", classes, ROOT)
    for layer in (*objects, image):
        for level in range(len(levels)):
            layer.plane(path, levels, level)
    more = [image] if image.kind == "probabilities" else []
    return Layer("classes", "classes", classes, LABELS), *objects, *more


def _lazy(plane: StoredPlane) -> da.Array:
    import dask.array as da

    return da.from_array(plane, chunks=plane.chunks)


def _is_growing(path: Path) -> bool:
    return path.with_name(path.name + ".partial").is_dir()


def _find_geojson(path: Path, attributes: dict[str, Any]) -> Path | None:
    """Find the polygons where the run put them, or under the zarr's name; only the run's own."""
    recorded: str | None = attributes.get("geojson")
    place = path.parent / recorded if recorded else None
    if place is not None and os.path.lexists(place):
        _check_polygons(place, attributes)
        return place
    beside = (path.with_suffix(suffix) for suffix in SUFFIXES)
    return next((one for one in beside if one.is_file() and _fits(one, attributes)), None)


def _fits(geojson: Path, attributes: dict[str, Any]) -> bool:
    if "geojson_content" not in attributes:  # Of a version that did not record it.
        return True
    return polygons_state(geojson, attributes) == "same"


def _check_polygons(geojson: Path, attributes: dict[str, Any]) -> None:
    if _fits(geojson, attributes):
        return
    said = {
        "torn": "was cut off since the run wrote it",
        "edited": "was changed since the run wrote it",
        "other": "is of another run than the zarr",
    }.get(polygons_state(geojson, attributes), "is not the file that the run wrote")
    message = f"{said}; run wsi-segment again, or move it away to use the maps alone"
    raise WsiError("bad-input", message, subject=str(geojson))


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
    except (LookupError, TypeError, ValueError, RecursionError, shapely.GEOSException) as error:
        message = f"is not as wsi-segment wrote it ({type(error).__name__}: {error})"
        raise WsiError("bad-input", message, subject=str(path)) from error
