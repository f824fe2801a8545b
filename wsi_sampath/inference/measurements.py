"""What is measured of every region that is outlined, beside its area; QuPath lists it by name."""

from __future__ import annotations

from collections.abc import Callable

from wsi_sampath.outputs.polygons.tracer import TracedPolygon

Measurement = Callable[[TracedPolygon], float]


def mean_probability(region: TracedPolygon) -> float:
    """Return the mean probability of the region's class over its pixels, 0..1."""
    return region.mean_score / 255


MEASUREMENTS: dict[str, Measurement] = {"Mean probability": mean_probability}
