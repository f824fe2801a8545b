"""What a run does when something is wrong, beside others: no scale, a file cut short, a kill.

The drivers are those of engine.py, with the same network that costs almost nothing. Each is given
a slide that does not state its microns per pixel and is asked for 0.5; a slide whose file ends
early; and a sound slide twice, where the first run is killed when three fifths of the time that a
whole run takes are over.

Run: python benchmarks/situations.py --peers DIR [--side 8192]
     [--out benchmarks/results/situations.json]
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine import DRIVERS, HERE, PEERS, class_map, store
from environments import make_environment, versions
from measure import Limits, hardware, measure

from wsi_sampath.synthetic.painted import paint_slide

SMALL_SIDE = 2048
KILLED_AFTER = 0.6
LIMITS = Limits(seconds=300, megabytes=19_000)
OURS = "ours"


def drivers(peers: dict[str, str]) -> dict[str, list[str]]:
    """Return the command of each, which a slide and a place for its result are added to."""
    found = {OURS: [sys.executable, str(DRIVERS / "ours.py")]}
    for name, python in peers.items():
        found[name] = [python, str(DRIVERS / PEERS[name])]
    return found


def answer_to(slide: Path, driver: list[str], folder: Path) -> dict[str, Any]:
    """Run a driver on a slide that is not as it should be; return its fate and its last words."""
    out = folder / "out.zarr"
    row = measure([*driver, str(slide), str(out)], LIMITS)
    words = row.get("error", "").splitlines()
    finished = row["fate"] == "finished"
    found = class_map(next(out.glob("*.zarr"), out)) if finished else None
    shutil.rmtree(out, ignore_errors=True)
    return {
        "fate": row["fate"],
        "last_line": words[-1] if words else "",
        "map_px": list(found[0].shape) if found else None,
    }


def killed_and_repeated(slide: Path, driver: list[str], folder: Path) -> dict[str, Any]:
    """Kill a run on its way and repeat it; return the seconds of a whole run and of the second."""
    whole_out, out = folder / "whole.zarr", folder / "out.zarr"
    whole = measure([*driver, str(slide), str(whole_out)], LIMITS)
    shutil.rmtree(whole_out, ignore_errors=True)
    if whole["fate"] != "finished":
        return {"whole": whole}
    command = [*driver, str(slide), str(out)]
    measure(command, replace(LIMITS, seconds=KILLED_AFTER * whole["seconds"]))
    left = any(out.rglob("*")) if out.exists() else False
    again = measure(command, LIMITS)
    shutil.rmtree(out, ignore_errors=True)
    return {
        "whole": whole,
        "after_the_kill_it_left_files_under_the_name_of_the_result": left,
        "again": again,
        "again_of_whole": round(again["seconds"] / whole["seconds"], 2),
        "again_of_whole_cpu": round(again["cpu_seconds"] / whole["cpu_seconds"], 2),
    }


def measure_all(commands: dict[str, list[str]], side: int, folder: Path) -> dict[str, Any]:
    """Put each of the drivers through all situations."""
    unscaled, short, sound = (folder / f"{name}.svs" for name in ("unscaled", "short", "sound"))
    paint_slide(unscaled, width=SMALL_SIDE, height=SMALL_SIDE, mpp=0.5, seed=1, mpp_in_file=False)
    paint_slide(short, width=SMALL_SIDE, height=SMALL_SIDE, mpp=0.5, seed=1)
    with short.open("r+b") as file:
        file.truncate(short.stat().st_size * 3 // 5)
    paint_slide(sound, width=side, height=side, mpp=0.5, seed=1, pieces=3)
    rows: dict[str, Any] = {}
    for name, driver in commands.items():
        rows[name] = {
            "no mpp": answer_to(unscaled, driver, folder),
            "cut short": answer_to(short, driver, folder),
            "killed": killed_and_repeated(sound, driver, folder),
        }
        print(json.dumps({name: rows[name]}, indent=1), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers", type=Path, metavar="DIR", required=True)
    parser.add_argument("--side", type=int, default=8192)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "situations.json")
    arguments = parser.parse_args()
    peers = {name: make_environment(name, arguments.peers.resolve()) for name in PEERS}
    report = {
        "hardware": hardware(),
        "versions": {name: versions(python, name) for name, python in peers.items()},
        "side": arguments.side,
    }
    with tempfile.TemporaryDirectory() as folder:
        report["rows"] = measure_all(drivers(peers), arguments.side, Path(folder))
    store(arguments.out, report)


if __name__ == "__main__":
    main()
