"""The pipeline itself beside others: time and memory, and how they grow with the slide.

Every run is a process of its own on the same painted slide: tile 1024, overlap 256, five classes,
0.5 um per pixel, a network that costs almost nothing (stub.py); wall time and peak memory of the
whole process tree, from the first import to the last file. A slide of 1024 px, where start-up is
nearly all, also goes through the real command with the bundled model. Peers run in environments of
their own, which are made where DIR does not hold them yet:

    python benchmarks/engine.py --peers DIR
    python benchmarks/engine.py --peer tiatoolbox=ENV/bin/python --sizes 1024 8192
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from engine_report import GRID, OURS, REAL, START_SIDE, bars, plot, ratios, table
from environments import make_environment, versions
from measure import Limits, hardware, measure

from wsi_sampath.synthetic.painted import paint_slide

HERE = Path(__file__).parent
DRIVERS = HERE / "peers"
PEERS = {
    "tiatoolbox": "tiatoolbox_segmentor.py",
    "monai": "monai_sliding.py",
    "lazyslide": "lazyslide_segmentor.py",
}
# A peer whose result is no map gets one painted from it, after the clock has stopped.
PAINTED = {"lazyslide"}
VARIANTS = {
    OURS: ["--stride", "1"],
    f"{OURS} + probabilities": ["--stride", "1", "--probabilities"],
    GRID: ["--stride", "4"],
    f"{GRID} + probabilities": ["--stride", "4", "--probabilities"],
}
START_REPEATS = 3
# A peer is not even tried where its growth says that it would pass the limit this many times. More
# for memory, since TIAToolbox spills to disk when memory is short.
SURELY = {"seconds": 1.1, "peak_mb": 1.5}
BAND_ROWS = 4096


@dataclass(frozen=True)
class Contest:
    """What is run: peers by name with their interpreters, limits of a run, a folder to work in."""

    peers: dict[str, str]
    limits: Limits
    folder: Path


def made_in(out: Path) -> Path:
    """Return the zarr that a driver made at or below the place it was given."""
    return next(out.glob("*.zarr"), out)


def class_map(out: Path) -> tuple[zarr.Array, int] | None:
    """Return the full-resolution class map of a run, and its number for the first class."""
    store = zarr.open(str(out), mode="r")
    if isinstance(store, zarr.Array):
        return store, 0
    if "labels" in store:
        return store["labels/classes/0"], 1
    return (store["predictions"], 0) if "predictions" in store else None


def agreement(mine: Path, other: Path) -> float | None:
    """Return the share of equal pixels of two maps, None unless both are there in one size."""
    if not (mine.exists() and other.exists()):
        return None
    first, second = class_map(mine), class_map(other)
    if first is None or second is None or first[0].shape != second[0].shape:
        return None
    height, equal = first[0].shape[0], 0
    for top in range(0, height, BAND_ROWS):
        a, b = (store[top : top + BAND_ROWS].astype(np.int16) - k for store, k in (first, second))
        equal += int((a == b).sum())
    return equal / first[0].size


def measure_middle(command: list[str], out: Path, side: int, limits: Limits) -> dict[str, Any]:
    """Measure a command, where start-up is nearly all thrice; return the run of middle time."""
    runs: list[dict[str, Any]] = []
    for _ in range(START_REPEATS if side <= START_SIDE else 1):
        _clear(out)
        runs.append(measure(command, limits))
        if runs[-1]["fate"] != "finished":
            return runs[-1]
    middle = statistics.median_low([run["seconds"] for run in runs])
    row = next(run for run in runs if run["seconds"] == middle)
    return row if len(runs) == 1 else row | {"all_seconds": [run["seconds"] for run in runs]}


def _clear(out: Path) -> None:
    for path in out.parent.glob(f"{out.stem}*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def foreseen(earlier: list[dict[str, Any]], side: int, limits: Limits) -> str:
    """Say why a peer need not be tried on a larger slide, from its `earlier` rows; "" if it may."""
    if earlier and earlier[-1]["fate"] != "finished":
        return f"skipped: it did not finish {earlier[-1]['side']} px"
    if len(earlier) < 2:
        return ""
    for field, limit in (("seconds", limits.seconds), ("peak_mb", limits.megabytes)):
        (x0, y0), (x1, y1) = ((row["side"] ** 2, row[field]) for row in earlier[-2:])
        expected = y1 + (y1 - y0) / (x1 - x0) * (side**2 - x1)
        if expected > SURELY[field] * limit:
            return f"skipped: by its last two slides it would take {expected:.0f} {field}"
    return ""


def run_ours(slide: Path, full: Path, contest: Contest) -> Iterator[dict[str, Any]]:
    """Measure this package: every way of the pipeline, on the smallest slide the command too."""
    side, other = int(slide.stem), contest.folder / "out.zarr"
    driver = [sys.executable, str(DRIVERS / "ours.py"), str(slide)]
    for who, options in VARIANTS.items():
        out = full if who == OURS else other
        row = measure_middle([*driver, str(out), *options], out, side, contest.limits)
        yield {"who": who, "side": side} | row
    if side == START_SIDE:
        real = str(Path(sys.executable).with_name("wsi-segment"))
        row = measure_middle([real, str(slide), "--out", str(other)], other, side, contest.limits)
        yield {"who": REAL, "side": side} | row


def run_peer(
    name: str, slide: Path, full: Path, earlier: list[dict[str, Any]], contest: Contest
) -> dict[str, Any]:
    """Measure one peer, and compare what it made with our map `full`."""
    side, out = int(slide.stem), contest.folder / f"{name}.zarr"
    row: dict[str, Any] = {"who": name, "side": side}
    if reason := foreseen([one for one in earlier if one["who"] == name], side, contest.limits):
        return row | {"fate": "skipped", "error": reason}
    command = [contest.peers[name], str(DRIVERS / PEERS[name]), str(slide), str(out)]
    row |= measure_middle(command, out, side, contest.limits)
    if row["fate"] == "finished":
        made = made_in(out)
        if name in PAINTED:
            made = contest.folder / f"{name}_painted.zarr"
            subprocess.run([*command, "--paint", str(made)], check=False)
        row["agreement"] = agreement(full, made)
    _clear(out)
    return row


def run_size(
    side: int, earlier: list[dict[str, Any]], contest: Contest
) -> Iterator[dict[str, Any]]:
    """Measure everybody on one slide of `side` x `side` pixels, row by row."""
    slide, full = contest.folder / f"{side}.svs", contest.folder / "full.zarr"
    paint_slide(slide, width=side, height=side, mpp=0.5, seed=1, pieces=3)
    yield from run_ours(slide, full, contest)
    for name in contest.peers:
        yield run_peer(name, slide, full, earlier, contest)
    slide.unlink()


def store(path: Path, report: dict[str, Any]) -> None:
    """Write the JSON, whole or not at all."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    os.replace(partial, path)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[1024, 8192, 16384, 32768])
    parser.add_argument("--peers", type=Path, metavar="DIR", help="environments of all the peers")
    parser.add_argument(
        "--peer", action="append", default=[], metavar="NAME=PYTHON", help="a ready one"
    )
    parser.add_argument("--limit", type=float, default=1500, help="seconds a run may take")
    parser.add_argument("--memory-limit", type=float, default=20, help="GB a run may take")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "engine.json")
    return parser.parse_args()


def interpreters(arguments: argparse.Namespace) -> dict[str, str]:
    """Return the peers to run with their interpreters; make the environments that are wanted."""
    ready = dict(one.partition("=")[::2] for one in arguments.peer)
    if unknown := set(ready) - set(PEERS):
        sys.exit(f"error: --peer {unknown.pop()}: not one of {', '.join(PEERS)}")
    if arguments.peers is None:
        return ready
    return {
        name: ready[name] if name in ready else make_environment(name, arguments.peers.resolve())
        for name in PEERS
    }


def main() -> None:
    """Run, store the JSON after every run, draw it and print the table."""
    arguments = parse()
    peers = interpreters(arguments)
    limits = Limits(arguments.limit, arguments.memory_limit * 1e3)
    rows: list[dict[str, Any]] = []
    report: dict[str, Any] = {
        "hardware": hardware(),
        "versions": {name: versions(python, name) for name, python in peers.items()},
        "limits": {"seconds": limits.seconds, "megabytes": limits.megabytes},
    }
    with tempfile.TemporaryDirectory() as folder:
        contest = Contest(peers, limits, Path(folder))
        for side in sorted(arguments.sizes):
            for row in run_size(side, list(rows), contest):
                if row["fate"] == "finished":
                    row["mpx_per_s"] = round(side * side / 1e6 / row["seconds"], 3)
                print(json.dumps(row), flush=True)
                rows.append(row)
                report |= {"rows": rows, "ratios": ratios(rows), "bars": bars(rows)}
                store(arguments.out, report)
    plot(report, arguments.out.with_suffix(".png"))
    print(table(report))


if __name__ == "__main__":
    main()
