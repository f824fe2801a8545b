"""How fast, and in how much memory, a label plane becomes polygons, beside other ways.

Every run is a process of its own that gets the map memory-mapped; CPU seconds of one thread, peak
memory above what the process held before. Beside our tracer (exact, and simplified by one pixel):
rasterio.features.shapes into shapely, OpenCV contours and scikit-image contours, each where it is
installed (``pip install rasterio opencv-python-headless``).

    python benchmarks/vectorise.py --sizes 8192 16384
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import shapely
from scipy.ndimage import gaussian_filter, zoom

CLASSES = 5
STEP = 16
STRIP_ROWS = 256
LIMIT_S = 900


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


def trace(labels: np.ndarray, simplify: float = 0.0) -> list[shapely.Polygon]:
    """Vectorise with our tracer, strip by strip."""
    from wsi_sampath.outputs.polygons.tracer import PolygonTracer

    tracer = PolygonTracer(labels.shape[1], largest_label=CLASSES, simplify=simplify)
    found = []
    for top in range(0, len(labels), STRIP_ROWS):
        rows = np.ascontiguousarray(labels[top : top + STRIP_ROWS])
        found += tracer.append(rows, np.full_like(rows, 200))
    return [one.polygon for one in found + tracer.finish()]


def trace_simplified(labels: np.ndarray) -> list[shapely.Polygon]:
    """Vectorise with our tracer, borders moved by up to one pixel."""
    return trace(labels, simplify=1.0)


def rasterio_shapes(labels: np.ndarray) -> list[shapely.Polygon]:
    """Vectorise with GDAL's polygonize, 4-connected, into shapely polygons."""
    from rasterio.features import shapes

    plane = np.asarray(labels)
    found = shapes(plane, mask=plane > 0, connectivity=4)
    return [shapely.geometry.shape(geometry) for geometry, _ in found]


def opencv_contours(labels: np.ndarray) -> list[shapely.Polygon]:
    """Vectorise with OpenCV: outlines through pixel centres, per class, holes by hierarchy."""
    import cv2

    found = []
    for label in range(1, CLASSES):
        mask = (np.asarray(labels) == label).astype(np.uint8)
        contours, hierarchy = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
        rings = [one[:, 0] for one in contours]
        for index, (_, _, child, parent) in enumerate(hierarchy[0]):
            if parent < 0 and len(rings[index]) > 2:
                holes = []
                while child >= 0:
                    if len(rings[child]) > 2:
                        holes.append(rings[child])
                    child = hierarchy[0][child][0]
                found.append(shapely.Polygon(rings[index], holes))
    return found


def skimage_contours(labels: np.ndarray) -> list[shapely.Polygon]:
    """Trace with scikit-image: contours at one half per class, each a polygon, no nesting."""
    from skimage.measure import find_contours

    found = []
    for label in range(1, CLASSES):
        contours = find_contours(np.pad(np.asarray(labels) == label, 1).astype(np.float32), 0.5)
        found += [shapely.Polygon(one) for one in contours if len(one) > 3]
    return found


WAYS: dict[str, tuple[Callable[[np.ndarray], list[shapely.Polygon]], str]] = {
    "ours, exact": (trace, "wsi_sampath"),
    "ours, simplified by 1 px": (trace_simplified, "wsi_sampath"),
    "rasterio.features.shapes": (rasterio_shapes, "rasterio"),
    "OpenCV contours": (opencv_contours, "cv2"),
    "scikit-image contours": (skimage_contours, "skimage"),
}


def peak_mb() -> float:
    """Return this process's peak resident memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1e3


def run_one(way: str, path: Path) -> dict[str, float | int]:
    """Measure one way on one stored map, in this process."""
    function, module = WAYS[way]
    importlib.import_module(module)
    labels = np.load(path, mmap_mode="r")
    function(np.ascontiguousarray(labels[:512, :512]))
    before, begin = peak_mb(), time.process_time()
    polygons = function(labels)
    seconds = time.process_time() - begin
    memory = peak_mb() - before
    area = float(shapely.area(polygons).sum())
    return {
        "cpu_seconds": round(seconds, 2),
        "mpx_per_s": round(labels.size / seconds / 1e6, 1),
        "memory_mb": round(memory),
        "polygons": len(polygons),
        "vertices": int(shapely.get_num_coordinates(polygons).sum()),
        "invalid": int((~shapely.is_valid(polygons)).sum()),
        "area_error_percent": round(100 * (area / int((np.asarray(labels) > 0).sum()) - 1), 4),
    }


def run_apart(way: str, path: Path) -> dict[str, float | int | str]:
    """Measure one way in a process of its own."""
    command = [sys.executable, __file__, "--one", way, "--map", str(path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=LIMIT_S, env=environment
        )
    except subprocess.TimeoutExpired:
        return {"error": f"stopped after {LIMIT_S} s"}
    if done.returncode:
        return {"error": done.stderr.strip()[-200:]}
    return json.loads(done.stdout.splitlines()[-1])


def table(rows: list[dict]) -> str:
    """Lay the rows out as Markdown."""
    columns = ["size", "map", "way", "cpu_seconds", "mpx_per_s", "memory_mb", "polygons"]
    columns += ["vertices", "invalid", "area_error_percent"]
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(str(row.get(c, "")) for c in columns) + " |" for row in rows]
    return "\n".join(lines)


def main() -> None:
    """Measure every way on smooth and noisy maps, print the table, store the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[8192, 16384])
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results/vectorise.json"
    )
    parser.add_argument("--one", choices=list(WAYS), help=argparse.SUPPRESS)
    parser.add_argument("--map", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(run_one(options.one, options.map)))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for size in options.sizes:
            smooth = smooth_map(size)
            for name, share in (("smooth", 0.0), ("0.2 % noise", 0.002)):
                path = Path(folder) / "map.npy"
                np.save(path, with_noise(smooth, share))
                for way, (_, module) in WAYS.items():
                    if importlib.util.find_spec(module):
                        rows.append({"size": size, "map": name, "way": way, **run_apart(way, path)})
                        print(json.dumps(rows[-1]), flush=True)
    hardware = f"1 thread, {platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    report = {"hardware": hardware, "geos": shapely.geos_version_string, "rows": rows}
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
