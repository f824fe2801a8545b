"""The pipeline itself beside others: time and memory, and how they grow with the slide.

Every run is a process of its own on the same painted slide: tile 1024, overlap 256, five classes,
0.5 um per pixel, a network that costs almost nothing (stub.py); wall time and peak memory of the
whole process tree, from the first import to the last file. Peers run in environments of their own:

    python -m venv ENV && ENV/bin/pip install --only-binary=:all: tiatoolbox torch torchvision
    python benchmarks/engine.py --peer tiatoolbox=ENV/bin/python --sizes 8192 16384
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import zarr

from wsi_sampath.slides.painted import paint_slide

HERE = Path(__file__).parent
PEERS = {"tiatoolbox": "tiatoolbox_segmentor.py", "monai": "monai_sliding.py"}
OURS = {
    "ours, full resolution": ["--stride", "1"],
    "ours, full resolution + probabilities": ["--stride", "1", "--probabilities"],
    "ours, output grid": ["--stride", "4"],
    "ours, output grid + probabilities": ["--stride", "4", "--probabilities"],
}


def process_tree(pid: int) -> list[int]:
    """List a process and its descendants."""
    found, waiting = [], [pid]
    while waiting:
        one = waiting.pop()
        found.append(one)
        for children in Path(f"/proc/{one}/task").glob("*/children"):
            try:
                waiting += map(int, children.read_text().split())
            except OSError:
                continue
    return found


def resident(pid: int) -> int:
    """Return the resident bytes of a process, 0 if it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
    except (OSError, IndexError):
        return 0


def measure(command: list[str], limit_s: float) -> dict[str, float | int | str]:
    """Run a command; return seconds, CPU seconds, peak MB of the process tree, exit status."""
    load = os.getloadavg()[0]
    before, start = os.times(), time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    peak, done = [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.1):
            peak[0] = max(peak[0], sum(map(resident, process_tree(process.pid))))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        _, errors = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        process.kill()
        _, errors = process.communicate()
        errors = f"stopped after {limit_s:.0f} s"
    done.set()
    watcher.join()
    after = os.times()
    return {
        "seconds": round(time.perf_counter() - start, 2),
        "cpu_seconds": round(sum(after[2:4]) - sum(before[2:4]), 2),
        "peak_mb": round(peak[0] / 1e6),
        "status": process.returncode,
        "load_before": round(load, 2),
        "error": errors.strip()[-300:] if process.returncode else "",
    }


def class_map(out: Path) -> np.ndarray | None:
    """Return the full-resolution class map of a run, from 0."""
    store = zarr.open(str(out), mode="r")
    if isinstance(store, zarr.Array):
        return store[:]
    if "labels" in store:
        return store["labels/classes/0"][:].astype(int) - 1
    return store["predictions"][:] if "predictions" in store else None


def agreement(mine: Path, other: Path) -> float | None:
    """Return the share of equal pixels of two maps of one size."""
    a, b = class_map(mine), class_map(other)
    if a is None or b is None or a.shape != b.shape:
        return None
    return float((a == b).mean())


def run_size(side: int, peers: dict[str, str], folder: Path, limit_s: float) -> list[dict]:
    """Measure everybody on one slide of `side` x `side` pixels."""
    slide = folder / f"{side}.svs"
    paint_slide(slide, width=side, height=side, mpp=0.5, seed=1, pieces=3)
    rows, full = [], folder / "full.zarr"
    for name, options in OURS.items():
        out = full if name == "ours, full resolution" else folder / "out.zarr"
        shutil.rmtree(out, ignore_errors=True)
        command = [sys.executable, str(HERE / "peers" / "ours.py"), str(slide), str(out), *options]
        rows.append({"who": name, "side": side, **measure(command, limit_s)})
    for name, python in peers.items():
        out = folder / name
        shutil.rmtree(out, ignore_errors=True)
        command = [python, str(HERE / "peers" / PEERS[name]), str(slide), str(out)]
        row = {"who": name, "side": side, **measure(command, limit_s)}
        made = next(out.glob("*.zarr"), out) if out.is_dir() else out
        if not row["status"]:
            row["agreement"] = agreement(full, made)
        rows.append(row)
    for row in rows:
        row["mpx_per_s"] = round(side * side / 1e6 / row["seconds"], 2)
        print(json.dumps(row), flush=True)
    slide.unlink()
    return rows


def table(rows: list[dict]) -> str:
    """Lay the rows out as Markdown."""
    lines = [
        "| slide | who | s | Mpx/s | CPU s | peak MB | equal |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        same = "" if row.get("agreement") is None else f"{100 * row['agreement']:.3f} %"
        fate = "" if not row["status"] else " (did not finish)"
        lines.append(
            f"| {row['side']}² | {row['who']}{fate} | {row['seconds']:.1f} "
            f"| {row['mpx_per_s']:.1f} | {row['cpu_seconds']:.1f} | {row['peak_mb']} | {same} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run, print the table, store the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1024, 8192, 16384, 32768])
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PYTHON")
    parser.add_argument("--limit", type=float, default=1800, help="seconds a run may take")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "engine.json")
    arguments = parser.parse_args()
    peers = dict(one.split("=", 1) for one in arguments.peer)
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            row
            for side in arguments.sizes
            for row in run_size(side, peers, Path(folder), arguments.limit)
        ]
    hardware = {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    arguments.out.write_text(json.dumps({"hardware": hardware, "rows": rows}, indent=1) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
