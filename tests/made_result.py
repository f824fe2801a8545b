"""What a complete result says of itself, and the plane that it tells of."""

from __future__ import annotations

import numpy as np

from wsi_sampath.classes import ClassSpec
from wsi_sampath.outputs.omezarr.images import ImageSpec

CLASSES = (
    ClassSpec(name="Tumor <b>", color="#c80000"),
    ClassSpec(name="Stroma & co", color="#1e78b4"),
    ClassSpec(name="Absent", color="#64c832"),
)
HEIGHT, WIDTH = 1300, 1100


def make_labels():
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[100:700, 200:800] = 1
    labels[300:500, 400:600] = 2
    labels[900:1200, 50:1000] = 2
    return labels


def class_images(classes, *, probabilities=True):
    labels = ImageSpec("labels/classes", values=classes)
    if not probabilities:
        return labels, ImageSpec("")
    return labels, ImageSpec("", channels=classes, halving="mean")


def append_both(writer, y, labels, planes):
    """Append to class map and root image, which shows the class map where it has no channels."""
    writer.append("labels/classes", y, labels)
    writer.append("", y, planes if writer.spec.root.channels else labels)


def make_attributes(**changes):
    pixel_mm2 = 2 * 3 * 1e-6
    counts = np.bincount(make_labels().ravel(), minlength=4)[1:]
    areas = {one.name: float(n) * pixel_mm2 for one, n in zip(CLASSES, counts, strict=True)}
    return {
        "version": "9.8.7",
        "model": {"name": "a model", "sha256": "ab" * 32},
        "model_card": {"architecture": "sam_path", "mpp": 0.5, "description": "", "tile": 1024},
        "slide": {"name": "case 7 <x>.svs", "fingerprint": "cd" * 32},
        "settings": {"tissue": "otsu", "overlap": None, "simplify_um": 0.5, "polygons": True},
        "reader": "openslide",
        "slide_size": [4400, 5200],
        "bounds_offset": [0, 0],
        "mpp": {
            "x": 0.5,
            "y": 0.75,
            "source": "metadata",
            "requested": 0.5,
            "effective": [0.5, 0.75],
            "output": [2.0, 3.0],
            "level": 0,
        },
        "region": None,
        "warnings": [],
        "device": "cpu",
        "tiles": {"analysed": 1234, "skipped": 56, "failed": 0, "failures": []},
        "polygons": 3,
        "geojson": "s.geojson",
        "area_mm2": areas,
        "coverage": {"slide_mm2": 8.58, "tissue_mm2": 4.5, "analysed_mm2": sum(areas.values())},
        "seconds": {"plan": 0.5, "network": 61.25, "read": 3.0, "total": 65.0},
        "tiles_per_s": 18.9,
        "mm2_per_s": 0.06,
        "peak_memory_mb": 812.5,
        "resumed_after_strip": None,
        "complete": True,
        **changes,
    }
