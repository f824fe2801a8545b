"""One prepared run on a machine with a CUDA GPU, perhaps without a network, perhaps for minutes.

The parts of `cuda_parts.PARTS` run one after the other, the most worth knowing first, each in a
process of its own that is stopped at its budget. Each leaves OUT/PART.json as soon as it ends: the
machine, versions, date, what was measured up to then, and the failure where there was one; then the
next part runs. Whatever happens, the whole takes no more than the budget.

    benchmarks/cuda.sh --fetch .wheels
    benchmarks/cuda.sh --wheels .wheels [--out DIR] [--budget SECONDS] [--parts NAME ...]
    benchmarks/cuda.sh --smoke

Python's own library is enough for this file, so that it can tell of a machine where no more is.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cuda_wheels
from cuda_parts import PARTS
from measure import Limits, hardware, measure

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
RESULTS = HERE / "results" / "cuda"
BUDGET_S = 480
INSTALL_S = 90
LEAST_S = 5
NO_MEMORY_LIMIT = float("inf")


@dataclass(frozen=True)
class Planned:
    """A command that appends its rows to a file named by its last word, and its budget."""

    command: list[str]
    seconds: float


def run_all(
    parts: dict[str, Planned], out: Path, *, ends: float, shared: dict[str, Any]
) -> list[dict[str, Any]]:
    """Run parts in their order and write a JSON for each, whatever becomes of it.

    Parameters
    ----------
    parts
        By name.
    out
        Folder of the JSONs.
    ends
        When all must be over, by `time.perf_counter`.
    shared
        What stands in every JSON.
    """
    out.mkdir(parents=True, exist_ok=True)
    records = []
    for name, part in parts.items():
        seconds = min(part.seconds, ends - time.perf_counter())
        record = {"part": name, "date": _now(), **shared, "budget_s": round(seconds, 1)}
        record |= _run(part, seconds)
        _store(out / f"{name}.json", record)
        print(told(record), flush=True)
        records.append(record)
    return records


def _run(part: Planned, seconds: float) -> dict[str, Any]:
    if seconds < LEAST_S:
        return {"fate": "skipped", "error": "no time was left", "rows": []}
    with tempfile.TemporaryDirectory(prefix="wsi-cuda-rows-") as folder:
        rows = Path(folder) / "rows.jsonl"
        cost = measure([*part.command, str(rows)], Limits(seconds, NO_MEMORY_LIMIT))
        return cost | _read(rows)


def _read(path: Path) -> dict[str, Any]:
    """Return the rows that a part left, and first of all what it found itself running on."""
    about: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            row = json.loads(line)
        except ValueError:
            # Stopped while it was writing.
            continue
        if "about" in row:
            about = row["about"]
        else:
            rows.append(row)
    return {**about, "rows": rows}


def failed_rows(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of a part that tell of a failure."""
    return [row for row in record["rows"] if "failed" in row]


def is_well(record: dict[str, Any]) -> bool:
    """Tell whether a part ended by itself and nothing in it failed."""
    return record["fate"] == "finished" and not failed_rows(record)


def told(record: dict[str, Any]) -> str:
    """Return a part's fate in a line, and a line for each of its failures."""
    rows, failed = record["rows"], failed_rows(record)
    head = f"{record['part']}: {record['fate']} after {record.get('seconds', 0)} s, "
    head += f"{len(rows)} rows, {len(failed)} failed"
    if "error" in record:
        head += f": {' '.join(record['error'].split())[-300:]}"
    return "\n".join([head, *(f"  {' '.join(row['failed'].split())[-300:]}" for row in failed)])


def _store(path: Path, record: dict[str, Any]) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    os.replace(partial, path)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def commit() -> str | None:
    """Return the commit of this tree, None where git does not know it."""
    words = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip() or None


def planned(options: argparse.Namespace, scratch: Path) -> dict[str, Planned]:
    """Return what to run: wheels first where there are some, then the wanted parts."""
    parts: dict[str, Planned] = {}
    if options.wheels:
        site = scratch / "site"
        install = [sys.executable, str(HERE / "cuda_run.py"), "--install", options.wheels, site]
        parts["install"] = Planned([*map(str, install)], INSTALL_S)
    child = [sys.executable, str(HERE / "cuda_parts.py"), "--scratch", str(scratch)]
    child += ["--smoke"] if options.smoke else []
    for name in options.parts:
        # The budgets are those of a machine of its own.
        seconds = options.budget if options.smoke else PARTS[name].seconds
        parts[name] = Planned([*child, name], seconds)
    return parts


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fetch", type=Path, metavar="DIR", help="only fill a folder with wheels")
    parser.add_argument("--wheels", type=Path, metavar="DIR", help="a folder that --fetch filled")
    parser.add_argument("--out", type=Path, help="folder of the JSONs (default: results/cuda)")
    parser.add_argument("--budget", type=float, default=BUDGET_S, metavar="SECONDS")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--smoke", action="store_true", help="everything tiny, on a CPU")
    parser.add_argument("--install", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.wheels and not list(options.wheels.glob("*.whl")):
        parser.error(f"{options.wheels} holds no wheels; fill it by --fetch {options.wheels}")
    return options


def main() -> None:
    """Fetch, or run and report; exit code 1 where anything failed."""
    began, options = time.perf_counter(), parse()
    if options.fetch:
        total = cuda_wheels.fetch(options.fetch)
        print(f"{options.fetch}: {total / 2**20:.1f} MiB")
        return
    if options.install:
        folder, site, _rows = map(Path, options.install)
        sys.exit(subprocess.run(cuda_wheels.install_command(folder, site), check=False).returncode)
    with tempfile.TemporaryDirectory(prefix="wsi-cuda-") as scratch:
        # A smoke run must not leave a CPU's numbers among those of GPUs.
        out = options.out or (
            Path(tempfile.mkdtemp(prefix="wsi-smoke-")) if options.smoke else RESULTS
        )
        paths = [str(Path(scratch) / "site"), str(ROOT), os.environ.get("PYTHONPATH", "")]
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        shared = {"smoke": options.smoke, "commit": commit(), "hardware": hardware()}
        parts = planned(options, Path(scratch))
        records = run_all(parts, out.resolve(), ends=began + options.budget, shared=shared)
    print(f"{out}: {sum(map(is_well, records))} of {len(records)} parts went well")
    sys.exit(0 if all(map(is_well, records)) else 1)


if __name__ == "__main__":
    main()
