"""What the batch layer costs: many tiny slides, a network that costs almost nothing.

One painted slide of 300 x 300 px is linked N times in the layout of GDC's client. Measured: finding
the slides; seconds and CPU seconds a slide in every tenth of the batch, so that growth with N
shows; a second run that finds all done; ``slides.csv`` and ``report.html``; files and bytes a
slide; and what dask's scheduler and client cost a task. "Alone" is the same slide by itself, with
one predictor and no batch around it. CPU seconds are those of the process: other work on the
machine hardly changes them.

Run: python benchmarks/batch_overhead.py [--slides 10000] [--tasks 1000]
     [--out benchmarks/results/batch_overhead.json]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from measure import hardware
from stub_model import load_stub

from wsi_sampath.batch.batch import Batch
from wsi_sampath.batch.cluster import run_on_cluster
from wsi_sampath.batch.discover import Job, plan_jobs
from wsi_sampath.batch.progress import SilentBatch
from wsi_sampath.batch.record.folder import BatchFolder
from wsi_sampath.batch.record.outcome import Outcome
from wsi_sampath.batch.runner import run_batch
from wsi_sampath.inference.segmenter import Segmenter
from wsi_sampath.inference.settings import SegmentSettings
from wsi_sampath.synthetic.painted import paint_slide

SETTINGS = SegmentSettings(tissue="none", report=False, device="cpu", workers=1)
ALONE = 50


@dataclass
class Clock:
    """Wall and CPU seconds since the last look."""

    wall: float = field(default_factory=time.perf_counter)
    cpu: float = field(default_factory=time.process_time)

    def lap(self, n: int = 1) -> dict[str, float]:
        """Return what was spent since the last lap, per item of `n`."""
        wall, cpu = time.perf_counter(), time.process_time()
        spent = {"s": round((wall - self.wall) / n, 5), "cpu_s": round((cpu - self.cpu) / n, 5)}
        self.wall, self.cpu = wall, cpu
        return spent


def link_slides(folder: Path, n: int) -> Path:
    slide = folder / "one.svs"
    paint_slide(slide, width=300, height=300, mpp=0.5, seed=1)
    for number in range(n):
        home = folder / "in" / f"{number:08x}-uuid"
        home.mkdir(parents=True)
        os.link(slide, home / f"slide-{number}.svs")
    return folder / "in"


def measure_alone(slide: Path, folder: Path) -> dict[str, float]:
    segmenter = Segmenter(load_stub(), SETTINGS)

    def one(number: int) -> None:
        segmenter.run(segmenter.prepare(slide, folder / f"{number}.zarr"))

    one(0)
    clock = Clock()
    for number in range(1, ALONE + 1):
        one(number)
    return clock.lap(ALONE)


def measure_batch(jobs: list[Job], out: Path) -> list[dict[str, float]]:
    tenths: list[dict[str, float]] = []
    part = max(1, len(jobs) // 10)
    clock, count = Clock(), 0

    class Tenths(SilentBatch):
        def finish_slide(self, _outcome: Outcome, *, elsewhere: bool = False) -> None:
            nonlocal count
            count += 1
            if count % part == 0:
                tenths.append(clock.lap(part))
                print(f"{count} slides: {tenths[-1]}", flush=True)

    outcomes = run_batch(Batch(jobs, SETTINGS, out, progress=Tenths()), load_stub())
    assert all(outcome.done for outcome in outcomes)
    return tenths


def measure_disk(jobs: list[Job], out: Path) -> dict[str, float]:
    files = [path for path in out.rglob("*") if path.is_file()]
    zarr = [path for path in jobs[0].zarr.rglob("*") if path.is_file()]
    own = [path for path in (out / ".wsi_sampath").rglob("*") if path.is_file()]
    return {
        "files_per_slide": round(len(files) / len(jobs), 2),
        "files_in_zarr": len(zarr),
        "bytes_per_slide": round(sum(path.stat().st_size for path in files) / len(jobs)),
        "blocks_bytes_per_slide": round(sum(p.stat().st_blocks * 512 for p in files) / len(jobs)),
        "batch_record_bytes_per_slide": round(sum(p.stat().st_size for p in own) / len(jobs)),
        "csv_bytes": (out / "slides.csv").stat().st_size,
        "page_bytes": (out / "report.html").stat().st_size,
    }


def measure_pages(jobs: list[Job], out: Path) -> dict[str, float]:
    folder, clock = BatchFolder(out, jobs), Clock()
    folder.journal.latest()
    read = clock.lap()
    folder.write_pages()
    return {"read_journal_s": read["s"], "write_pages_s": clock.lap()["s"]}


def measure_cluster(jobs: list[Job], out: Path) -> dict[str, float]:
    """Time of tasks that find their slide done; CPU is of scheduler and client, one process."""
    clock = Clock()
    run_on_cluster(Batch(jobs[:1], SETTINGS, out), "local:1", load=load_stub)
    start = clock.lap()
    run_on_cluster(Batch(jobs, SETTINGS, out), "local:1", load=load_stub)
    both = clock.lap()
    per_task = {name: round((both[name] - start[name]) / (len(jobs) - 1), 5) for name in both}
    return {"tasks": len(jobs), "start_s": start["s"], **per_task}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slides", type=int, default=10_000)
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="batch-overhead-") as name:
        folder = Path(name)
        inputs, out = link_slides(folder, arguments.slides), folder / "out"
        alone = measure_alone(folder / "one.svs", folder / "alone")
        print(f"alone: {alone}", flush=True)
        clock = Clock()
        jobs = plan_jobs([inputs], out)
        found = clock.lap()
        tenths = measure_batch(jobs, out)
        clock.lap()
        again = run_batch(Batch(jobs, SETTINGS, out), load_stub())
        assert all(outcome.result and outcome.result.reused for outcome in again)
        result = {
            "hardware": hardware(),
            "python": platform.python_version(),
            "slides": len(jobs),
            "find_slides": found,
            "alone_per_slide": alone,
            "batch_per_slide_by_tenth": tenths,
            "again_per_slide": clock.lap(len(jobs)),
            "pages": measure_pages(jobs, out),
            "disk": measure_disk(jobs, out),
        }
        if arguments.tasks:
            result["dask_task_of_a_finished_slide"] = measure_cluster(jobs[: arguments.tasks], out)
    print(json.dumps(result, indent=1))
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
