"""What a run does when something is wrong, beside others: no scale, a file cut short, a kill.

The drivers are those of engine.py, with the same network that costs almost nothing. Each is given
a slide that does not state its microns per pixel and is asked for 0.5; a slide whose file ends
after three fifths of the tiles of level 0; and a sound slide twice, where the first run is killed
when nine tenths of the time that a whole run takes are over.

Run: python benchmarks/situations.py --peers DIR [--side 8192]
     [--out benchmarks/results/situations.json]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import tifffile
from engine import DRIVERS, HERE, PEERS, agreement, class_map, made_in, store
from environments import make_environment, versions
from measure import Limits, hardware, measure

from wsi_sampath.outputs.attributes import read_attributes
from wsi_sampath.synthetic.painted import paint_slide

SMALL_SIDE = 2048
KILLED_AFTER = 0.9
LIMITS = Limits(seconds=200, megabytes=19_000)
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
    found = class_map(made_in(out)) if row["fate"] == "finished" else None
    return {
        "fate": row["fate"],
        "last_line": words[-1] if words else "",
        "map_px": list(found[0].shape) if found else None,
    }


def killed_and_repeated(slide: Path, driver: list[str], folder: Path) -> dict[str, Any]:
    """Kill a run on its way and repeat it; hold the second against a whole one, and the maps too.

    Ratios are given only where the first was killed indeed, and the second finished.
    """
    whole_out, out = folder / "whole.zarr", folder / "out.zarr"
    whole = measure([*driver, str(slide), str(whole_out)], LIMITS)
    if whole["fate"] != "finished":
        return {"whole": whole}
    command = [*driver, str(slide), str(out)]
    killed = measure(command, replace(LIMITS, seconds=KILLED_AFTER * whole["seconds"]))
    row = {"whole": whole, "killed": killed, "left_under_its_name": out.exists()}
    again = measure(command, LIMITS)
    row["again"] = again
    if killed["fate"] == "stopped" and again["fate"] == "finished":
        row["again_of_whole"] = round(again["seconds"] / whole["seconds"], 2)
        row["agreement"] = agreement(made_in(whole_out), made_in(out))
        attributes = read_attributes(out) or {}
        row["resumed_after_strip"] = attributes.get("resumed_after_strip")
    return row


def cut_short(slide: Path) -> None:
    """End a painted slide's file after three fifths of the tiles of level 0."""
    with tifffile.TiffFile(slide) as file:
        offsets = sorted(file.pages.first.dataoffsets)
    with slide.open("r+b") as stream:
        stream.truncate(offsets[len(offsets) * 3 // 5])


def measure_driver(driver: list[str], side: int) -> dict[str, Any]:
    """Put a driver through all situations, each in a folder of its own."""
    row: dict[str, Any] = {}
    for situation in ("no mpp", "cut short", "killed"):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            slide = folder / "slide.svs"
            px = side if situation == "killed" else SMALL_SIDE
            has_mpp = situation != "no mpp"
            paint_slide(slide, width=px, height=px, mpp=0.5, seed=1, pieces=3, mpp_in_file=has_mpp)
            if situation == "cut short":
                cut_short(slide)
            do = killed_and_repeated if situation == "killed" else answer_to
            try:
                row[situation] = do(slide, driver, folder)
            except Exception as error:  # noqa: BLE001 - one odd driver must not cost the others
                row[situation] = {"fate": "odd", "last_line": repr(error)[:300]}
    return row


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers", type=Path, metavar="DIR", required=True)
    parser.add_argument("--side", type=int, default=8192)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "situations.json")
    arguments = parser.parse_args()
    peers = {name: make_environment(name, arguments.peers.resolve()) for name in PEERS}
    report: dict[str, Any] = {
        "hardware": hardware(),
        "versions": {name: versions(python, name) for name, python in peers.items()},
        "side": arguments.side,
        "rows": {},
    }
    for name, driver in drivers(peers).items():
        report["rows"][name] = measure_driver(driver, arguments.side)
        print(json.dumps({name: report["rows"][name]}, indent=1), flush=True)
        store(arguments.out, report)


if __name__ == "__main__":
    main()
