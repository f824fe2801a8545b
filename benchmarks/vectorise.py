"""Measure how fast a label plane is turned into polygons.

Run: python benchmarks/vectorise.py [--size 8192] [--out benchmarks/results/vectorise.json]
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path

import numpy as np
import shapely
from scipy.ndimage import gaussian_filter, zoom

from wsi_sampath.outputs.polygons import PolygonTracer

CLASSES = 5
STEP = 16
STRIP_ROWS = 256


def smooth_map(size: int, seed: int = 0) -> np.ndarray:
    """Return the class of the largest of several smooth random fields; class 0 is not analysed."""
    random = np.random.default_rng(seed)
    best = np.full((size, size), -np.inf, np.float32)
    labels = np.zeros((size, size), np.uint8)
    for label in range(CLASSES):
        coarse = gaussian_filter(random.standard_normal((size // STEP,) * 2), 1.5)
        field = zoom((coarse / coarse.std()).astype(np.float32), STEP, order=1)
        labels[field > best] = label
        np.maximum(best, field, out=best)
    return labels


def with_noise(labels: np.ndarray, share: float, seed: int = 1) -> np.ndarray:
    """Return the map with a share of its pixels set at random."""
    random = np.random.default_rng(seed)
    noisy = labels.copy()
    where = random.integers(0, labels.size, int(labels.size * share))
    noisy.ravel()[where] = random.integers(0, CLASSES, len(where))
    return noisy


def measure(labels: np.ndarray, simplify: float) -> dict[str, float]:
    """Trace one map and return what it took."""
    score = np.full_like(labels, 200)
    tracer = PolygonTracer(labels.shape[1], n_classes=CLASSES, simplify=simplify)
    polygons = vertices = 0
    begin = time.process_time()
    for top in range(0, len(labels) + 1, STRIP_ROWS):
        rows = slice(top, top + STRIP_ROWS)
        last = top + STRIP_ROWS > len(labels)
        traced = tracer.append(labels[rows], score[rows]) + (tracer.finish() if last else [])
        polygons += len(traced)
        vertices += int(shapely.get_num_coordinates([one.polygon for one in traced]).sum())
    seconds = time.process_time() - begin
    return {
        "simplify_px": simplify,
        "polygons": polygons,
        "vertices": vertices,
        "cpu_seconds": round(seconds, 2),
        "mpx_per_second": round(labels.size / seconds / 1e6, 1),
    }


def main() -> None:
    """Measure smooth and noisy maps, exact and simplified, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=8192)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    smooth = smooth_map(options.size)
    maps = {"smooth": smooth, "noisy 0.2 %": with_noise(smooth, 0.002)}
    results = [
        {"map": name, **measure(labels, simplify)}
        for name, labels in maps.items()
        for simplify in (0.0, 1.0)
    ]
    report = {
        "size": options.size,
        "classes": CLASSES,
        "hardware": f"1 thread of {platform.processor() or platform.machine()}",
        "geos": shapely.geos_version_string,
        "results": results,
    }
    text = json.dumps(report, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
