"""What nuclei cost after the network, step by step, and what a million of them cost to write.

Three questions, each answered by a process of its own, in which one thread of each library works:

- ``slide``: a slide is painted with the perfect maps of its nuclei, a network that costs nothing
  reads them off, and ``wsi-segment`` does the rest. CPU seconds of every thread go to the step in
  which they are spent; a step within another is not counted twice.
- ``million``: nuclei that were found once are handed on over and over, as if from a longer slide,
  and are measured, outlined, and written as GeoParquet and as GeoJSON, zipped and not; then the
  table is read back.
- ``watershed``: bioimage-cpp's, which is used, and scikit-image's; whether threads run beside them.

    python benchmarks/nuclei.py
    python benchmarks/nuclei.py --side 2048 --nuclei 20000
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
from measure import Limits, hardware, measure
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

MPP = 0.25
PERIOD = 1024
RADIUS_UM = (2.5, 4.5)
DENSITIES = (4000, 10_000)
"""Nuclei per mm2: usual tissue, and lymphocytes or a cellular tumour."""
LIMITS = Limits(seconds=3600, megabytes=14_000)

STEPS = {
    "reading tiles": ["wsi_sampath.slides.stream:TileStream._read"],
    "blending": ["wsi_sampath.inference.blend:StripBlender.add"],
    "smoothing": ["wsi_sampath.inference.instances.terrain:_codes"],
    "components": ["wsi_sampath.inference.instances.pieces:OpenPieces.link"],
    "watershed": ["wsi_sampath.inference.instances.flooding:watershed"],
    "seeds and numbers": ["wsi_sampath.inference.instances.stream:NucleusStream.append"],
    "outlines and measurements": ["wsi_sampath.inference.nucleus_files:found_nuclei"],
    "placing on the slide": ["wsi_sampath.inference.nucleus_files:place"],
    "GeoParquet": [
        "wsi_sampath.outputs.nuclei.parquet:NucleusTableWriter.write",
        "wsi_sampath.outputs.nuclei.parquet:NucleusTableWriter.close",
    ],
    "GeoJSON": [
        "wsi_sampath.outputs.qupath.geojson:GeoJSONWriter.write_on_slide",
        "wsi_sampath.outputs.qupath.geojson:GeoJSONWriter.close",
    ],
    "zarr": [
        "wsi_sampath.outputs.omezarr.pyramid:PyramidWriter.append",
        "wsi_sampath.outputs.omezarr.pyramid:PyramidWriter.finish",
    ],
    "ids as a plane": ["wsi_sampath.inference.instances.pending:PendingNuclei.take"],
}
WRITTEN = ["outlines and measurements", "placing on the slide", "GeoParquet", "GeoJSON"]
AFTER_NETWORK = [name for name in STEPS if name not in ("reading tiles", "blending")]


def painted(per_mm2: float, seed: int = 0) -> np.ndarray:
    """Return a period of a plane of maps, uint8 (PERIOD, PERIOD, 3); it continues at its borders.

    Foreground, distance to the centre, distance to the inside. Nuclei stand on a grid, each up to
    0.4 of its step beside its place, so that some touch.
    """
    rng = np.random.default_rng(seed)
    per_side = max(1, round(PERIOD * MPP / 1000 * per_mm2**0.5))
    step = PERIOD / per_side
    nearest = np.full((PERIOD, PERIOD), 1, np.float32)
    for index in range(per_side**2):
        y, x = step * (np.array(divmod(index, per_side)) + rng.uniform(0.1, 0.9, 2))
        radius = rng.uniform(*RADIUS_UM) / MPP
        reach = np.arange(-int(radius) - 1, int(radius) + 2)
        rows, columns = (int(y) + reach) % PERIOD, (int(x) + reach) % PERIOD
        far = np.hypot((int(y) + reach - y)[:, None], int(x) + reach - x) / radius
        place = np.ix_(rows, columns)
        nearest[place] = np.minimum(nearest[place], far)
    distance = np.rint(255 * nearest).astype(np.uint8)
    return np.stack([np.where(nearest < 1, 255, 0).astype(np.uint8), distance, distance], axis=-1)


class MapNetwork(nn.Module):
    """The maps are the colours."""

    def preprocess(self, tiles: Tensor) -> Tensor:
        """Turn uint8 (n, h, w, 3) into images."""
        return tiles.permute(0, 3, 1, 2).contiguous().float().div_(255)

    def maps(self, images: Tensor, side: int) -> Tensor:
        """Return the images."""
        return F.adaptive_avg_pool2d(images, side)


class Clock:
    """CPU seconds of steps, over all threads; time in a step within a step is the inner one's."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.calls: dict[str, int] = defaultdict(int)
        self._inner = threading.local()

    def timed(self, step: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function, which from now on is counted."""

        def counted(*args: Any, **options: Any) -> Any:
            outer = getattr(self._inner, "seconds", 0.0)
            self._inner.seconds, begin = 0.0, time.thread_time()
            try:
                return function(*args, **options)
            finally:
                spent = time.thread_time() - begin
                self.seconds[step] += spent - self._inner.seconds
                self.calls[step] += 1
                self._inner.seconds = outer + spent

        return counted

    def watch(self) -> None:
        """Count all `STEPS`."""
        for step, places in STEPS.items():
            for place in places:
                module, _, name = place.partition(":")
                owner: Any = importlib.import_module(module)
                *outer, last = name.split(".")
                for one in outer:
                    owner = getattr(owner, one)
                setattr(owner, last, self.timed(step, getattr(owner, last)))


def peak_mb() -> float:
    """Return this process's peak resident memory, in 10^6 bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024 / 1e6


def nucleus_model() -> Any:
    """Return the network that reads maps off, as a loaded PathoSAM."""
    from wsi_sampath.classes import ClassSpec
    from wsi_sampath.models.network import LoadedModel
    from wsi_sampath.models.parts.specs import SamSpec
    from wsi_sampath.models.patho_sam.spec import PathoSamSpec

    spec = PathoSamSpec(
        name="maps",
        classes=(ClassSpec(name="nucleus", color="#c83264"),),
        mpp=MPP,
        tile=512,
        sam=SamSpec(embed_dim=32, depth=1, num_heads=2, global_attn_indexes=(0,)),
        enlargement=1,
    )
    return LoadedModel(MapNetwork().eval(), spec, "0" * 64, "maps")


def write_slide(path: Path, side: int, per_mm2: float) -> None:
    """Write a slide of `side` px painted with maps."""
    period = painted(per_mm2)
    times = -(-side // PERIOD)
    plane = np.tile(period, (times, times, 1))[:side, :side]
    per_cm = 1e4 / MPP
    tifffile.imwrite(
        path,
        plane,
        tile=(512, 512),
        photometric="rgb",
        compression="zlib",
        resolution=(per_cm, per_cm),
        resolutionunit="CENTIMETER",
    )


def run_slide(folder: Path, side: int, per_mm2: float) -> dict[str, Any]:
    """Segment a painted slide, and say where the time went."""
    from wsi_sampath.inference.segmenter import segment_slide
    from wsi_sampath.inference.settings import SegmentSettings

    slide, small = folder / "maps.tif", folder / "small.tif"
    write_slide(slide, side, per_mm2)
    write_slide(small, 512, per_mm2)
    settings = SegmentSettings.build({"tissue": "none", "device": "cpu", "workers": 1})
    # Once before, so that all libraries are there.
    segment_slide(small, folder / "small.zarr", settings=settings, model=nucleus_model())
    clock = Clock()
    clock.watch()
    begin, cpu = time.perf_counter(), time.process_time()
    result = segment_slide(slide, folder / "maps.zarr", settings=settings, model=nucleus_model())
    wall, cpu = time.perf_counter() - begin, time.process_time() - cpu
    count, mm2 = result.nuclei().num_rows, (side * MPP / 1000) ** 2
    after = sum(clock.seconds[name] for name in AFTER_NETWORK)
    return {
        "side_px": side,
        "nuclei_per_mm2": round(count / mm2),
        "nuclei": count,
        "mm2": round(mm2, 3),
        "cpu_seconds_per_mm2": {
            name: round(clock.seconds[name] / mm2, 3) for name in STEPS if clock.calls[name]
        },
        "after_network_per_mm2": round(after / mm2, 2),
        "nuclei_per_cpu_second": round(count / after),
        "nuclei_written_per_cpu_second": round(count / sum(clock.seconds[one] for one in WRITTEN)),
        "whole_run_cpu_seconds_per_mm2": round(cpu / mm2, 2),
        "whole_run_seconds": round(wall, 1),
        "own_peak_mb": round(peak_mb()),
    }


def patches_of(count: int, per_mm2: float) -> Iterator[list[Any]]:
    """Yield lists of patches of final nuclei, from one stream that was run once."""
    from wsi_sampath.inference.instances.settings import NucleusSettings
    from wsi_sampath.inference.instances.stream import NucleusStream
    from wsi_sampath.outputs.nuclei.patch import NucleusPatch, channels_of

    period = np.tile(painted(per_mm2), (1, 2, 1)).transpose(2, 0, 1)
    values = np.concatenate([period[:1], period[:1] // 4, period[:1] // 8])
    stream = NucleusStream(NucleusSettings(), period.shape[2], channels=channels_of(1))
    found = [*stream.append(period.astype(np.float32) / 255, values), *stream.finish()]
    for index in range(-(-count // stream.count)):
        first, down = index * stream.count, index * PERIOD
        yield [
            NucleusPatch(
                one.y + down,
                one.x,
                np.where(one.labels > 0, one.labels + np.uint32(first), 0).astype(np.uint32),
                one.values,
            )
            for one in found
        ]


@contextmanager
def step(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Count the CPU seconds of a block."""
    begin = time.process_time()
    yield
    seconds[name] += time.process_time() - begin


def run_million(folder: Path, nuclei: int, per_mm2: float) -> dict[str, Any]:
    """Measure, outline and write many nuclei, and read them back."""
    from wsi_sampath.classes import ClassSpec
    from wsi_sampath.outputs.nuclei.columns import TableInfo
    from wsi_sampath.outputs.nuclei.detections import DETECTION_MEASUREMENTS, detections
    from wsi_sampath.outputs.nuclei.found import NucleusSpec, found_nuclei
    from wsi_sampath.outputs.nuclei.parquet import NucleusTableWriter
    from wsi_sampath.outputs.nuclei.placed import place
    from wsi_sampath.outputs.nuclei.reading import read_nuclei
    from wsi_sampath.outputs.qupath.geojson import GeoJSONWriter, PlaneToSlide

    transform = PlaneToSlide(1, 1, 0, 0, MPP, MPP)
    classes = (ClassSpec(name="nucleus", color="#c83264"),)
    info = TableInfo("run", "maps.tif", (MPP, MPP), classes)
    table = NucleusTableWriter(folder / "a.nuclei.parquet", info=info)
    plain, packed = (
        GeoJSONWriter(
            folder / name,
            classes=classes,
            transform=transform,
            namespace="run",
            measurements=DETECTION_MEASUREMENTS,
            object_type="detection",
        )
        for name in ("a.geojson", "a.geojson.zip")
    )
    seconds: dict[str, float] = defaultdict(float)
    for patches in patches_of(nuclei, per_mm2):
        with step(seconds, "outlines and measurements"):
            found = found_nuclei(patches, NucleusSpec(MPP, MPP))
        with step(seconds, "placing on the slide"):
            placed = place(found, transform)
        with step(seconds, "GeoParquet"):
            table.write(placed)
        for writer, name in ((plain, "GeoJSON"), (packed, "GeoJSON, zipped")):
            with step(seconds, name):
                writer.write_on_slide(detections(placed))
    for writer, name in ((table, "GeoParquet"), (plain, "GeoJSON"), (packed, "GeoJSON, zipped")):
        with step(seconds, name):
            writer.close()
    peak, middle = peak_mb(), placed.centers_px[:, 1].max() / 2
    with step(seconds, "reading the table back"):
        back = read_nuclei(folder / "a.nuclei.parquet")
    with step(seconds, "reading 4000 rows of the plane back"):
        field = read_nuclei(folder / "a.nuclei.parquet", (0, middle, 4000, 4000))
    sizes = {path.name[2:]: round(path.stat().st_size / 1e6, 1) for path in folder.glob("a.*")}
    return {
        "nuclei": back.num_rows,
        "cpu_seconds": {name: round(value, 2) for name, value in seconds.items()},
        "nuclei_in_4000_rows": field.num_rows,
        "size_mb": sizes,
        "own_peak_mb_while_written": round(peak),
        "own_peak_mb": round(peak_mb()),
    }


class Beside:
    """A thread of Python that counts how much CPU it gets."""

    def __init__(self) -> None:
        self._over, self._seconds = threading.Event(), 0.0
        self._thread = threading.Thread(target=self._spin)
        self._thread.start()

    def stop(self) -> float:
        """Return the CPU seconds that the thread got so far."""
        self._over.set()
        self._thread.join()
        return self._seconds

    def _spin(self) -> None:
        begin = time.thread_time()
        while not self._over.is_set():
            pass
        self._seconds = time.thread_time() - begin


def run_watershed(side: int, per_mm2: float) -> dict[str, Any]:
    """Flood one plane by both libraries, alone and by two threads at once."""
    from bioimage_cpp.segmentation import watershed as fast
    from skimage.segmentation import watershed as reference

    times = -(-side // PERIOD)
    plane = np.tile(painted(per_mm2), (times, times, 1))[:side, :side]
    mask = ndimage.gaussian_filter(plane[..., 0], 1.0) > 127
    heights = ndimage.gaussian_filter(plane[..., 1].astype(np.float32) * 257, 1.6)
    seeds, _ = ndimage.label(mask & (heights < 32_768), np.ones((3, 3)), output=np.int32)
    report: dict[str, Any] = {"foreground_mpx": round(mask.sum() / 1e6, 2)}
    labels = []
    for name, flood in (("bioimage-cpp", fast), ("scikit-image", reference)):
        beside = Beside()
        begin = time.thread_time()
        labels.append(flood(heights, seeds, mask=mask))
        seconds = time.thread_time() - begin
        report[name] = {
            "foreground_mpx_per_cpu_second": round(mask.sum() / 1e6 / seconds, 2),
            # About 1 where the interpreter is free meanwhile, about 0 where it is not.
            "cpu_of_a_thread_beside": round(beside.stop() / seconds, 2),
        }
    report["pixels_that_differ"] = int((labels[0] != labels[1]).sum())
    return report


def run_apart(words: list[str]) -> dict[str, Any]:
    """Answer one question in a process of its own, and add what it took."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "answer.json"
        took = measure([sys.executable, __file__, *words, "--out", str(out)], LIMITS)
        return {**(json.loads(out.read_text()) if out.is_file() else {}), "process": took}


def answer(options: argparse.Namespace) -> dict[str, Any]:
    """Answer one question here."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.one == "slide":
            return run_slide(folder, options.side, options.per_mm2)
        if options.one == "million":
            return run_million(folder, options.nuclei, options.per_mm2)
        return run_watershed(options.side, options.per_mm2)


def main() -> None:
    """Answer all questions, or one of them, and store the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=8192)
    parser.add_argument("--nuclei", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results/nuclei.json")
    parser.add_argument("--one", choices=("slide", "million", "watershed"), help=argparse.SUPPRESS)
    parser.add_argument("--per-mm2", type=float, default=DENSITIES[0], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        report = answer(options)
    else:
        side, nuclei = str(options.side), str(options.nuclei)
        report = {
            "hardware": hardware(),
            "slides": [
                run_apart(["--one", "slide", "--side", side, "--per-mm2", str(density)])
                for density in DENSITIES
            ],
            "million": run_apart(["--one", "million", "--nuclei", nuclei]),
            "watershed": run_apart(["--one", "watershed", "--side", str(min(options.side, 2048))]),
        }
        print(json.dumps(report, indent=1))
    options.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
