"""How long the commands take to start, and where the time of a small slide goes.

Every command is run several times and the least CPU seconds are kept, which other work on the
machine changes little; wall seconds are of the same run. Where another copy of the package is given
(``--beside``), both take turns. The stages of a slide of 1024 px are measured in one process that
segments it twice: what the first time costs more than the second is imports and first use.

Run: python benchmarks/startup.py [--runs 5] [--beside FOLDER]
     [--out benchmarks/results/startup.json]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measure import Limits, as_installed, hardware, measure

HERE = Path(__file__).resolve().parents[1]
COMMANDS = ("segment", "doctor", "models", "prepare", "evaluate", "train", "prompt", "view")
LIMITS = Limits(seconds=300, megabytes=8000)
SIDE_PX = 1024


def stages(slide: Path, out: Path) -> dict[str, float]:
    """Segment a slide twice in this process; return the CPU seconds of each stage."""
    started = time.process_time()
    import torch  # noqa: F401

    after_torch = time.process_time()
    from wsi_sampath.inference.segmenter import Segmenter, load_from_settings
    from wsi_sampath.inference.settings import SegmentSettings

    laps: list[float] = []
    for number in range(2):
        settings = SegmentSettings(device="cpu")
        laps = [time.process_time()]
        segmenter = Segmenter(load_from_settings(settings), settings)
        laps.append(time.process_time())
        prepared = segmenter.prepare(slide, out / f"{number}.zarr")
        laps.append(time.process_time())
        finish = segmenter.analyse(prepared)
        laps.append(time.process_time())
        finish()
        laps.append(time.process_time())
        if number == 0:
            once = laps[-1] - after_torch
    model, opened, network, files = (
        after - before for before, after in zip(laps, laps[1:], strict=False)
    )
    return {
        "torch": after_torch - started,
        "other imports and first use": once - (laps[-1] - laps[0]),
        "model": model,
        "slide": opened,
        "network": network,
        "files": files,
    }


def situations(folder: Path) -> dict[str, list[str]]:
    """Return what is run, by name; the slides it needs are painted into `folder`."""
    from wsi_sampath.synthetic.painted import paint_slide

    slide, unknown = folder / "slide.svs", folder / "no-mpp.svs"
    paint_slide(slide, width=SIDE_PX, height=SIDE_PX, mpp=0.5, seed=1)
    paint_slide(unknown, width=SIDE_PX, height=SIDE_PX, mpp=0.5, seed=1, mpp_in_file=False)
    segment = ["segment", str(slide), "--device", "cpu", "--out", str(folder / "made.zarr")]
    return {
        **{f"wsi-{name} --help": [name, "--help"] for name in COMMANDS},
        "wsi-doctor": ["doctor"],
        "an error (no-mpp)": ["segment", str(unknown), "--out", str(folder / "none.zarr")],
        "a slide of 1024 px": [*segment, "--force"],
        "the same, complete already": segment,
    }


def least(rows: list[dict[str, float]]) -> dict[str, float]:
    """Return, name by name, the least of several runs."""
    return {name: round(min(row[name] for row in rows), 2) for name in rows[0]}


def run_once(package: Path, words: list[str]) -> dict[str, float]:
    """Run a command of a copy of the package; return its seconds and CPU seconds."""
    start = f"from wsi_sampath.cli.{words[0]} import main; main()"
    command = ["env", f"PYTHONPATH={package}", sys.executable, "-P", "-c", start, *words[1:]]
    row = measure(command, LIMITS)
    return {"seconds": row["seconds"], "cpu_seconds": row["cpu_seconds"]}


def stages_once(package: Path, slide: Path) -> dict[str, float]:
    """Run `stages` in a process of its own."""
    with tempfile.TemporaryDirectory() as out:
        words = [sys.executable, __file__, "--stages", str(slide), out]
        command = ["env", f"PYTHONPATH={package}", *words]
        done = subprocess.run(
            command, stdout=subprocess.PIPE, text=True, check=True, env=as_installed()
        )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def measure_all(packages: dict[str, Path], runs: int, folder: Path) -> dict[str, Any]:
    """Measure all situations and the stages of every copy, taking turns."""
    rows: dict[str, dict[str, Any]] = {name: {} for name in packages}
    for situation, words in situations(folder).items():
        turns: dict[str, list[dict[str, float]]] = {name: [] for name in packages}
        for _ in range(runs):
            for name, package in packages.items():
                turns[name].append(run_once(package, words))
        for name, found in turns.items():
            rows[name][situation] = least(found)
            print(f"{name:8} {situation:30} {rows[name][situation]}", flush=True)
    parts: dict[str, list[dict[str, float]]] = {name: [] for name in packages}
    for _ in range(runs):
        for name, package in packages.items():
            parts[name].append(stages_once(package, folder / "slide.svs"))
    for name, found in parts.items():
        rows[name]["stages_cpu_seconds"] = least(found)
        print(f"{name:8} stages {rows[name]['stages_cpu_seconds']}", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--beside", type=Path, help="a folder with another copy of the package")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--stages", nargs=2, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.stages:
        print(json.dumps(stages(*arguments.stages)))
        return
    packages = {"this": HERE}
    if arguments.beside:
        packages["beside"] = arguments.beside.resolve()
    with tempfile.TemporaryDirectory(prefix="startup-") as name:
        result = {
            "hardware": hardware(),
            "runs": arguments.runs,
            **measure_all(packages, arguments.runs, Path(name)),
        }
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
