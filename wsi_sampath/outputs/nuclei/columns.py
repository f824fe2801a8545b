"""The columns of a table of nuclei, and what its file says of itself."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import shapely

from wsi_sampath.classes import ClassSpec
from wsi_sampath.outputs.nuclei.placed import PlacedNuclei
from wsi_sampath.version import __version__

OURS, GEO = b"wsi_sampath", b"geo"
FORMAT = "nuclei"
SIDES = ("xmin", "ymin", "xmax", "ymax")
MEASURED = (
    "x_um",
    "y_um",
    "x_px",
    "y_px",
    "area_um2",
    "perimeter_um",
    "circularity",
    "major_axis_um",
    "minor_axis_um",
    "mean_probability",
    "class_probability",
    "haematoxylin_od",
    "eosin_od",
)
_BOX = pa.struct([pa.field(side, pa.float64(), nullable=False) for side in SIDES])
_COORDINATES = (
    "geometry, bbox, x_px and y_px are in level-0 pixels as QuPath counts them, the same as in the "
    "GeoJSON: pixel corners are integers, y down, the slide's bounds offset already subtracted; "
    "x_um and y_um are these times mpp"
)


@dataclass(frozen=True)
class TableInfo:
    """What a table of nuclei says of itself.

    Attributes
    ----------
    run
        Id of the run.
    slide
        Name of the slide.
    mpp
        Micrometers in a level-0 pixel, x and y.
    classes
        Name and colour of the classes 1..k.
    bounds_offset
        Level-0 pixel, x and y, that counts as 0, 0; what has to be added for OpenSlide's.
    """

    run: str
    slide: str
    mpp: tuple[float, float]
    classes: tuple[ClassSpec, ...]
    bounds_offset: tuple[float, float] = (0.0, 0.0)

    def as_json(self) -> dict[str, Any]:
        """Return what the file keeps, without what only its end knows."""
        return {
            "format": FORMAT,
            "version": __version__,
            "run": self.run,
            "slide": self.slide,
            "mpp": list(self.mpp),
            "bounds_offset": list(self.bounds_offset),
            "coordinates": _COORDINATES,
            "classes": [{"name": one.name, "color": one.color} for one in self.classes],
        }


def grown_schema() -> pa.Schema:
    """Return the schema of the growing file: as the table's, with labels in place of classes."""
    return _schema(pa.field("label", pa.uint8(), nullable=False))


def table_schema() -> pa.Schema:
    """Return the schema of the table, without metadata."""
    classes = pa.dictionary(pa.uint8(), pa.string())
    return _schema(pa.field("class", classes, nullable=False))


def _schema(class_field: pa.Field) -> pa.Schema:
    fields = [pa.field(name, pa.float32(), nullable=False) for name in MEASURED]
    fields.insert(MEASURED.index("class_probability"), class_field)
    return pa.schema(
        [
            pa.field("id", pa.uint32(), nullable=False),
            *fields,
            pa.field("bbox", _BOX, nullable=False),
            pa.field("geometry", pa.binary(), nullable=False),
        ]
    )


def grown_batch(placed: PlacedNuclei, rows: slice, mpp: tuple[float, float]) -> pa.RecordBatch:
    """Return some of the nuclei as rows of the growing file."""
    found, shapes, (x, y) = placed.found, placed.shapes[rows], placed.centers_px[rows].T
    columns = {"x_um": x * mpp[0], "y_um": y * mpp[1], "x_px": x, "y_px": y}
    columns |= {name: getattr(found, name)[rows] for name in MEASURED if name not in columns}
    arrays: dict[str, Any] = {
        name: pa.array(column.astype(np.float32)) for name, column in columns.items()
    }
    sides = [pa.array(side) for side in shapely.bounds(shapes).T.copy()]
    arrays |= {
        "id": pa.array(found.id[rows]),
        "label": pa.array(found.label[rows]),
        "bbox": pa.StructArray.from_arrays(sides, fields=list(_BOX)),
        "geometry": pa.array(shapely.to_wkb(shapes), pa.binary()),
    }
    schema = grown_schema()
    return pa.RecordBatch.from_arrays([arrays[name] for name in schema.names], schema=schema)


def as_table(grown: pa.Table, classes: Sequence[ClassSpec]) -> pa.Table:
    """Turn rows of the growing file into rows of the table."""
    names = pa.array([one.name for one in classes], pa.string())
    codes = np.concatenate([np.zeros(0, np.uint8), *map(np.asarray, grown["label"].chunks)]) - 1
    column = pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.uint8)), names)
    columns = [column if one == "label" else grown[one] for one in grown.schema.names]
    return pa.Table.from_arrays(columns, schema=table_schema())


def metadata(info: TableInfo, rows: int, box: Sequence[float] | None) -> dict[bytes, bytes]:
    """Return what stands in the file's metadata; `box` is of all shapes, None where none is."""
    geometry: dict[str, Any] = {
        "encoding": "WKB",
        "geometry_types": ["MultiPolygon", "Polygon"],
        "crs": None,
        "edges": "planar",
        "covering": {"bbox": {side: ["bbox", side] for side in SIDES}},
    }
    if box is not None:
        geometry["bbox"] = list(box)
    geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": geometry}}
    return {GEO: _json(geo), OURS: _json({**info.as_json(), "rows": rows})}


def _json(content: dict[str, Any]) -> bytes:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
