"""How fast tiles are read, format by format, beside OpenSlide and tifffile.

One painted picture is written in every format that can be written here; real slides are taken from
the folder that WSI_SAMPATH_DATA names. Level 0 is read in tiles of 1024 px, all of it once: by our
tile stream, by OpenSlide's `read_region` of the same boxes, and by tifffile, which decodes the
whole page into memory. Ours and OpenSlide's end as batches of four tiles, as a network takes them;
tifffile's stays one image. All take turns in one process, each time on a freshly opened file, so
that no cache of ours or theirs is warm. Opening is measured apart. The pixels are compared.

Wall seconds say something on a quiet machine alone; CPU seconds are of all threads together, and
the least of the turns is kept.

Run: python benchmarks/readers.py [--turns 3] [--only NAME ...]
     [--out benchmarks/results/readers.json]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import tifffile
from measure import hardware
from reader_samples import SIDE_PX, Sample, real_samples, write_samples

from wsi_sampath.errors import WsiError
from wsi_sampath.slides.grid import plan_grid
from wsi_sampath.slides.slide import Slide
from wsi_sampath.slides.stream import TileStream

TILE_PX = 1024
LEAST_S = 0.1
BATCH = 4
THREADS = (1, 4)
Box = tuple[int, int, int, int]
REASONS = {
    ("JPEG 2000 YCbCr", "openslide"): "the codec leaves YCbCr (in RGB files the pixels are equal); "
    "the two turn it into RGB with their own rounding",
    ("JPEG 2000 YCbCr", "tifffile"): "it leaves the colours as YCbCr",
}


def batched(every: list[Box], n: int) -> Iterator[list[Box]]:
    for start in range(0, len(every), n):
        yield every[start : start + n]


Into = Callable[[int, int, np.ndarray], None]


def boxes(width: int, height: int) -> list[Box]:
    return [
        (x, y, min(TILE_PX, width - x), min(TILE_PX, height - y))
        for y in range(0, height, TILE_PX)
        for x in range(0, width, TILE_PX)
    ]


class Ours:
    """The tile stream, without overlap."""

    def __init__(self, path: Path) -> None:
        self.slide = Slide.open(path, slide_mpp=0.5)
        self.size = self.slide.size
        self.kind = self.slide.reader.name

    def read(self, threads: int, into: Into) -> None:
        """Hand over all of level 0, part by part, with where each part lies."""
        sampling = self.slide.sampling(0.5)
        grid = plan_grid(sampling, tile=TILE_PX, overlap=0, stride=4)
        stream = TileStream(self.slide, sampling, grid, batch_size=BATCH, workers=threads)
        for batch in stream:
            if batch.failed:
                raise RuntimeError(batch.failed[0][1])
            for tile, image in zip(batch.tiles, batch.images, strict=True):
                into(grid.xs[tile.column] * 4, grid.ys[tile.row] * 4, image)

    def close(self) -> None:
        """Close the file."""
        self.slide.close()


class OpenSlide:
    """`read_region` of each tile, RGB as an array; threads share one handle."""

    kind = "openslide"

    def __init__(self, path: Path) -> None:
        self.slide = openslide.OpenSlide(path)
        self.size = self.slide.dimensions

    def _one(self, box: Box) -> np.ndarray:
        return np.asarray(self.slide.read_region(box[:2], 0, box[2:]).convert("RGB"))

    def read(self, threads: int, into: Into) -> None:
        """Hand over all of level 0, part by part, with where each part lies."""
        every = boxes(*self.size)
        with ThreadPoolExecutor(threads) as pool:
            images = pool.map(self._one, every)
            for some in batched(every, BATCH):
                batch = np.empty((len(some), TILE_PX, TILE_PX, 3), np.uint8)
                for (x, y, width, height), place in zip(some, batch, strict=True):
                    place[:height, :width] = next(images)
                    into(x, y, place)

    def close(self) -> None:
        """Close the file."""
        self.slide.close()


class Tifffile:
    """The largest page at once."""

    kind = "tifffile"

    def __init__(self, path: Path) -> None:
        self.tiff = tifffile.TiffFile(path)
        self.page = max(self.tiff.pages, key=lambda page: page.imagewidth * page.imagelength)
        self.size = (self.page.imagewidth, self.page.imagelength)

    def read(self, threads: int, into: Into) -> None:
        """Hand over all of level 0, part by part, with where each part lies."""
        into(0, 0, self.page.asarray(maxworkers=threads))

    def close(self) -> None:
        """Close the file."""
        self.tiff.close()


READERS: dict[str, Callable[[Path], Any]] = {
    "ours": Ours,
    "openslide": OpenSlide,
    "tifffile": Tifffile,
}
REFUSALS = (WsiError, RuntimeError, ValueError, openslide.OpenSlideError, OSError)


def whole(reader: Any) -> np.ndarray:
    """Read level 0 as one image."""
    width, height = reader.size
    out = np.zeros((height, width, 3), np.uint8)

    def put(x: int, y: int, image: np.ndarray) -> None:
        if image.ndim != 3 or image.dtype != np.uint8:
            raise ValueError(f"{image.dtype} of shape {image.shape}")
        part = out[y : y + image.shape[0], x : x + image.shape[1]]
        part[:] = image[: part.shape[0], : part.shape[1], :3]

    reader.read(1, put)
    return out


def timed(act: Callable[[], Any]) -> tuple[float, float, Any]:
    """Return CPU and wall seconds, and what was made."""
    cpu, wall = time.process_time(), time.perf_counter()
    made = act()
    return time.process_time() - cpu, time.perf_counter() - wall, made


def one_turn(name: str, path: Path, threads: int) -> dict[str, float]:
    """Open and read a file as often as it takes to measure it; return means."""
    reads, opens = [], []
    while not reads or sum(wall for _, wall in reads) < LEAST_S and len(reads) < 5:
        *opening, reader = timed(lambda: READERS[name](path))
        *reading, _ = timed(lambda r=reader: r.read(threads, lambda *_: None))
        reader.close()
        opens.append(opening)
        reads.append(reading)
    (open_cpu, open_wall), (cpu, wall) = np.min(opens, 0), np.min(reads, 0)
    return {"open_cpu_s": open_cpu, "open_s": open_wall, "cpu_s": cpu, "s": wall}


def compared(image: np.ndarray, other: np.ndarray, name: str, reader: str) -> dict[str, Any]:
    """Say how far two images are apart, and why."""
    if image.shape != other.shape:
        return {"differs": f"its size is {other.shape[1]} x {other.shape[0]}"}
    apart = np.abs(image.astype(np.int16) - other)
    if not apart.any():
        return {"equal": True}
    why = next((why for (key, who), why in REASONS.items() if key in name and who == reader), "")
    found = {"equal": False, "most": int(apart.max()), "mean": round(float(apart.mean()), 4)}
    return {**found, "share_of_pixels": round(float(apart.any(-1).mean()), 4), "reason": why}


def measure(sample: Sample, turns: int) -> dict[str, Any]:
    """Measure all readers of one file, in turns."""
    row: dict[str, Any] = {"format": sample.name, "mb": round(sample.path.stat().st_size / 1e6, 1)}
    images: dict[str, np.ndarray] = {}
    for name, make in READERS.items():
        try:
            reader = make(sample.path)
            images[name] = whole(reader)
            row[name] = {"reads_with": reader.kind}
            reader.close()
        except REFUSALS as error:
            row[name] = {"refused": str(error).splitlines()[0][:200]}
    row["mpx"] = round(images["ours"].shape[0] * images["ours"].shape[1] / 1e6, 3)
    for name in images.keys() - {"ours"}:
        row[name] |= compared(images["ours"], images[name], sample.name, name)
    for threads in THREADS:
        found: dict[str, list[dict[str, float]]] = {name: [] for name in READERS if name in images}
        for _ in range(turns):
            for name in found:
                found[name].append(one_turn(name, sample.path, threads))
        for name, each in found.items():
            least = {key: round(min(one[key] for one in each), 4) for key in each[0]}
            rates = {
                "mpx_per_s": row["mpx"] / least["s"],
                "mpx_per_cpu_s": row["mpx"] / least["cpu_s"],
            }
            row[name][f"threads_{threads}"] = least | {k: round(v, 1) for k, v in rates.items()}
    if "openslide" in images:
        row["ours_to_openslide"] = ratios(row)
    return row


def ratios(row: dict[str, Any]) -> dict[str, float]:
    """Our speed over OpenSlide's, in CPU seconds and by the clock."""
    return {
        f"threads_{n}_{what}": round(
            row["openslide"][f"threads_{n}"][key] / row["ours"][f"threads_{n}"][key], 2
        )
        for n in THREADS
        for what, key in (("cpu", "cpu_s"), ("wall", "s"))
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Format the rates as Markdown; what was refused or differs is in the JSON."""
    head = "| format | " + " | ".join(
        f"{name}, {n} thread{'s' * (n > 1)}" for n in THREADS for name in READERS
    )
    lines = [head + " | ours : OpenSlide, CPU |", "|---" * (2 + len(THREADS) * len(READERS)) + "|"]
    for row in rows:
        cells = [
            f"{row[name][f'threads_{n}']['mpx_per_s']:.0f}" if f"threads_{n}" in row[name] else "-"
            for n in THREADS
            for name in READERS
        ]
        ratio = row.get("ours_to_openslide", {}).get("threads_1_cpu")
        lines.append(f"| {row['format']} | {' | '.join(cells)} | {ratio or '-'} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--side", type=int, default=SIDE_PX)
    parser.add_argument("--only", nargs="+", help="parts of the names of formats")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(prefix="readers-") as folder:
        for sample in (*write_samples(Path(folder), options.side), *real_samples()):
            if options.only and not any(part in sample.name for part in options.only):
                continue
            rows.append(measure(sample, options.turns))
            print(table(rows[-1:]).splitlines()[-1], flush=True)
    versions = {name: version(name) for name in ("openslide-bin", "tifffile", "imagecodecs")}
    report = {"hardware": hardware(), "versions": versions, "tile_px": TILE_PX, "rows": rows}
    if options.out:
        options.out.write_text(json.dumps(report, indent=1) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
