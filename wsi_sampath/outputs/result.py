"""Read a finished result back: maps at any level, classes, places, polygons, areas."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import numpy as np
from numpy.typing import NDArray

from wsi_sampath.errors import WsiError
from wsi_sampath.extras import install_hint
from wsi_sampath.outputs.attributes import damage_of, read_attributes
from wsi_sampath.outputs.belonging import report_state
from wsi_sampath.outputs.beside import SlidePolygon, find_geojson, find_nuclei, read_polygons
from wsi_sampath.outputs.nuclei.channels import NUCLEUS_CHANNELS
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
from wsi_sampath.shown import plural

if TYPE_CHECKING:
    import dask.array as da
    import geopandas
    import pandas as pd
    import pyarrow
    import spatialdata


_NUCLEUS_MAPS = tuple(
    ResultClass(number, one.name, one.color) for number, one in enumerate(NUCLEUS_CHANNELS, 1)
)


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
    nuclei_table
        The file of the nuclei's table; None where there is none.
    """

    path: Path
    classes: tuple[ResultClass, ...]
    levels: tuple[ResultLevel, ...]
    layers: tuple[Layer, ...]
    attributes: dict[str, Any]
    geojson: Path | None
    report: Path | None = None
    reused: bool = False
    nuclei_table: Path | None = None

    def __repr__(self) -> str:
        # All attributes would be a screenful.
        counts = self.attributes.get("nuclei")
        if counts is not None:
            found = ", ".join(
                f"{name} {plural(n, 'nucleus', 'nuclei')}" for name, n in counts.items()
            )
        else:
            found = ", ".join(f"{n} {a:.3f} mm2" for n, a in self.attributes["area_mm2"].items())
        return f"Result({str(self.path)!r}, {found})"

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
        return list(read_polygons(self.geojson))

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
            message = f"geodataframe() needs geopandas: {install_hint('geo')}"
            raise ImportError(message, name="geopandas") from error
        found = self.polygons()
        rows = [{"class": one.class_name, **one.measurements} for one in found]
        columns = None if rows else ["class"]
        shapes = [one.polygon for one in found]
        return geopandas.GeoDataFrame(rows, columns=columns, geometry=shapes)

    def nuclei(self, box: tuple[float, float, float, float] | None = None) -> pyarrow.Table:
        """Return the nuclei, one row each: place, size, shape, class, stain, outline (WKB).

        Parameters
        ----------
        box
            x, y, width and height in level-0 pixels: only nuclei whose bounding box touches it.

        Raises
        ------
        WsiError
            ``bad-input`` where the run found no nuclei, or their table has gone; ``unreadable``
            where it is damaged.
        """
        from wsi_sampath.outputs.nuclei.reading import read_nuclei

        return read_nuclei(self._table(), box)

    def to_spatialdata(self) -> spatialdata.SpatialData:
        """Return the nuclei as SpatialData: shapes in micrometers, and a table of measurements.

        Raises
        ------
        ImportError
            Where spatialdata is not installed (the extra ``spatial``).
        WsiError
            As `nuclei`.
        """
        from wsi_sampath.outputs.nuclei.spatial import to_spatialdata

        return to_spatialdata(self._table())

    def areas(self) -> list[dict[str, Any]]:
        """Return value, class, color, area_mm2 and percent (of what was analysed) of each class.

        The areas are those of the class map, whatever was left out of the polygons.
        """
        areas = self.attributes["area_mm2"]
        total = sum(areas.values())
        if "nuclei" in self.attributes:
            total = self.attributes["coverage"]["analysed_mm2"]
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

    def _table(self) -> Path:
        if self.nuclei_table is None:
            made = "--model nuclei-mini, or another PathoSAM, writes one beside it"
            self._refuse(f"has no table of nuclei; {made}")
        return self.nuclei_table

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
    geojson = find_geojson(path, attributes) if with_polygons else None
    table = find_nuclei(path, attributes) if with_polygons else None
    found = path.with_suffix(".html")
    report = found if report_state(found, attributes) == "same" else None
    return Result(path, classes, levels, layers, attributes, geojson, report, nuclei_table=table)


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
    if "nuclei" in attributes:
        image = Layer("maps", "probabilities", _NUCLEUS_MAPS, ROOT)
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
