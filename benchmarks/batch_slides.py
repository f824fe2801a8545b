"""A folder of small slides by the real command and model: overhead a slide, memory, open files.

Some slides are painted, each with other tissue, and linked to as many as asked for. `wsi-segment`
runs over the folder in a process of its own, which is looked at twice a second: resident memory,
open files and threads must be as many at the end as after the first tenth. What is neither the
network's time nor a slide's share of the start is overhead: opening, tissue, quality, files,
report and the batch's own books. Where time is short, the batch is stopped as a user stops it, and
what it had done by then is told of.

Run: python benchmarks/batch_slides.py [--slides 1000] [--side 600] [--minutes 60]
     [--out benchmarks/results/batch_slides.json]
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from measure import as_installed, hardware, resident

from wsi_sampath.outputs.attributes import read_attributes
from wsi_sampath.synthetic.painted import paint_slide

KINDS = 20
PERIOD_S = 0.5


@dataclass
class Watch:
    """What was seen of a process, sample by sample."""

    done: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    resident_mb: list[float] = field(default_factory=list)
    open_files: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)

    def look(self, pid: int, out: Path, started: float) -> None:
        """Add a sample; a process that is gone adds none."""
        process = Path(f"/proc/{pid}")
        try:
            files = len(os.listdir(process / "fd"))
            threads = len(os.listdir(process / "task"))
            ticks = (process / "stat").read_text().rpartition(")")[2].split()[11:13]
        except OSError:
            return
        self.done.append(sum(1 for name in os.listdir(out) if name.endswith(".zarr")))
        self.seconds.append(time.perf_counter() - started)
        self.cpu_s.append(sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK"))
        self.resident_mb.append(resident(pid) / 1e6)
        self.open_files.append(files)
        self.threads.append(threads)

    def tenths(self, n_slides: int) -> list[dict[str, float]]:
        """Return, for every tenth of the slides, what a slide took and the most that was held."""
        rows, before = [], self._first_with(1)
        for tenth in range(1, 11):
            last = self._first_with(max(2, n_slides * tenth // 10))
            part = slice(before, last + 1)
            slides = max(1, self.done[last] - self.done[before])
            rows.append(
                {
                    "slides": self.done[last],
                    "s_per_slide": (self.seconds[last] - self.seconds[before]) / slides,
                    "cpu_s_per_slide": (self.cpu_s[last] - self.cpu_s[before]) / slides,
                    "resident_mb": max(self.resident_mb[part]),
                    "open_files": max(self.open_files[part]),
                    "threads": max(self.threads[part]),
                }
            )
            before = last
        return [{name: round(value, 3) for name, value in row.items()} for row in rows]

    def _first_with(self, n_done: int) -> int:
        found = (index for index, done in enumerate(self.done) if done >= n_done)
        return next(found, len(self.done) - 1)


def link_slides(folder: Path, n: int, side: int) -> Path:
    """Paint some slides of `side` x `side` px and link them to `n` in one folder."""
    slides = folder / "slides"
    slides.mkdir()
    for kind in range(min(KINDS, n)):
        paint_slide(folder / f"{kind}.svs", width=side, height=side, mpp=0.5, seed=kind)
    for number in range(n):
        os.link(folder / f"{number % KINDS}.svs", slides / f"slide-{number:05d}.svs")
    return slides


def run_watched(command: list[str], out: Path, minutes: float) -> Watch:
    """Run a command to its end, or for some minutes; return what was seen of it."""
    watch, started = Watch(), time.perf_counter()
    out.mkdir()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, env=as_installed())
        is_stopped = False
        while process.poll() is None:
            watch.look(process.pid, out, started)
            if not is_stopped and time.perf_counter() - started > minutes * 60:
                process.send_signal(signal.SIGTERM)
                is_stopped = True
            time.sleep(PERIOD_S)
        if process.returncode and not is_stopped:
            said.seek(0)
            sys.exit(f"error: {said.read().decode(errors='replace')[-500:]}")
    return watch


def stages(out: Path) -> dict[str, float]:
    """Return the middle of what the results say of their seconds, by stage."""
    spent: dict[str, list[float]] = {}
    for zarr in out.glob("*.zarr"):
        for stage, seconds in read_attributes(zarr)["seconds"].items():
            spent.setdefault(stage, []).append(seconds)
    return {stage: round(statistics.median(all_of), 4) for stage, all_of in spent.items()}


def report(watch: Watch, out: Path) -> dict[str, Any]:
    """Return what the benchmark tells; a slide that failed ends it."""
    with (out / "slides.csv").open(encoding="utf-8", newline="") as table:
        states = [row["status"] for row in csv.DictReader(table)]
    if "failed" in states:
        sys.exit(f"error: {states.count('failed')} slides failed")
    n_done = states.count("done")
    spent, tenths = stages(out), watch.tenths(n_done)
    middle = statistics.median(row["s_per_slide"] for row in tenths)
    return {
        "slides": len(states),
        "done": n_done,
        "seconds": round(watch.seconds[-1], 1),
        "cpu_seconds": round(watch.cpu_s[-1], 1),
        "tenths": tenths,
        "stages_s_per_slide": spent,
        "overhead_s_per_slide": round(middle - spent["network"], 3),
        "growth": {
            name: round(tenths[-1][name] / max(tenths[1][name], 1e-3), 3)
            for name in ("s_per_slide", "cpu_s_per_slide", "resident_mb", "open_files", "threads")
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slides", type=int, default=1000)
    parser.add_argument("--side", type=int, default=600, help="px of a slide at 0.5 um")
    parser.add_argument("--minutes", type=float, default=60, help="that the batch may take")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="batch-slides-") as name:
        folder = Path(name)
        slides, out = link_slides(folder, arguments.slides, arguments.side), folder / "out"
        command = str(Path(sys.executable).with_name("wsi-segment"))
        words = [str(slides), "--out", str(out), "--device", "cpu"]
        watch = run_watched([command, *words], out, arguments.minutes)
        made = {"hardware": hardware(), "side": arguments.side, **report(watch, out)}
    print(json.dumps(made, indent=1))
    if arguments.out:
        arguments.out.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
