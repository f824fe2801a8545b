"""Nuclei as detections of QuPath."""

from __future__ import annotations

import numpy as np

from wsi_sampath.outputs.nuclei.found import Floats, FoundNuclei
from wsi_sampath.outputs.nuclei.placed import PlacedNuclei
from wsi_sampath.outputs.qupath.geojson import SlideObjects

_COLUMNS = {
    "Perimeter µm": "perimeter_um",
    "Circularity": "circularity",
    "Major axis µm": "major_axis_um",
    "Minor axis µm": "minor_axis_um",
    "Mean probability": "mean_probability",
    "Class probability": "class_probability",
    "Hematoxylin OD mean": "haematoxylin_od",
    "Eosin OD mean": "eosin_od",
}
DETECTION_MEASUREMENTS = tuple(_COLUMNS)
"""What stands beside the area of each, in the order of `detections`."""


def detections(placed: PlacedNuclei) -> SlideObjects:
    """Return nuclei as objects for a `GeoJSONWriter` of `DETECTION_MEASUREMENTS`.

    Their areas are those of their pixels, as in the table, also where outlines are simplified.
    """
    found = placed.found
    return SlideObjects(
        labels=found.label,
        shapes=placed.shapes,
        keys=found.id,
        areas_um2=found.area_um2,
        values=_values(found),
    )


def _values(found: FoundNuclei) -> Floats:
    return np.stack([getattr(found, name) for name in _COLUMNS.values()], axis=1)
