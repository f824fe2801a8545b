"""A folder as it comes from GDC, good and broken slides; two processes at once; kills in between.

What comes out must be what one process makes without a stop. The large version takes the real
slides too, and minutes; the small one runs always.
"""

from __future__ import annotations

import csv
import os
import shutil
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from batch_stub import contents, load_slow, load_stub, present, settings
from forked import begin

from wsi_sampath.batch.batch import Batch
from wsi_sampath.batch.discover import plan_jobs
from wsi_sampath.batch.options import BatchOptions
from wsi_sampath.batch.runner import run_batch
from wsi_sampath.synthetic.painted import paint_slide

DEADLINE_S = 1500


def add(folder: Path, number: int, name: str) -> Path:
    """Make the folder of a download, with what GDC's client leaves beside the file."""
    home = folder / f"{number:08x}-uuid"
    (home / "logs").mkdir(parents=True)
    (home / "logs" / f"{name}.parcel").write_bytes(b"II*\0parcel")
    (home / "annotations.txt").write_text("id\tstate\n")
    return home / name


def make_folder(folder: Path, n_painted: int) -> int:
    """Fill a folder with painted and broken slides; return the number of the next one."""
    sources = []
    for seed in range(4):
        sources.append(folder.with_name(f"source-{seed}.svs"))
        paint_slide(sources[-1], width=520 + 60 * seed, height=500, mpp=0.5, seed=seed)
    for number in range(n_painted):
        name = "slide.svs" if number % 3 else f"slide-{number}.svs"
        os.link(sources[number % 4], add(folder, number, name))
    whole = sources[0].read_bytes()
    broken = {
        "garbage.svs": b"garbage" * 100,
        "empty.svs": b"",
        "cut.svs": whole[:20_000],
        "page.svs": b"<html>404 not found</html>",
        "header.ndpi": whole[:16],
    }
    for number, (name, data) in enumerate(broken.items(), start=n_painted):
        add(folder, number, name).write_bytes(data)
    add(folder, n_painted + len(broken), "unfinished.svs.partial").write_bytes(whole)
    return n_painted + len(broken) + 1


def serially(folder: Path, out: Path) -> None:
    run_batch(Batch(plan_jobs([folder], out), settings(report=False), out), load_stub())


def work(folder: Path, out: Path) -> None:
    options = BatchOptions(poll_s=0.2)
    run_batch(Batch(plan_jobs([folder], out), settings(report=False), out, options), load_slow())


class Crowd:
    """Processes that run the same batch."""

    def __init__(self, folder: Path, out: Path) -> None:
        self._folder = folder
        self._out = out
        self._deadline = time.monotonic() + DEADLINE_S
        self.workers: list[BaseProcess] = []

    def start(self) -> None:
        self.workers.append(begin(work, self._folder, self._out))

    def wait_for(self, n_done: int) -> None:
        """Wait until so many slides are done and another one is under way."""
        while len(present(self._out, "*.zarr")) < n_done or not present(self._out, "*.partial"):
            assert time.monotonic() < self._deadline
            assert any(worker.is_alive() for worker in self.workers), "ended too early"
            time.sleep(0.02)

    def kill_oldest(self) -> None:
        worker = self.workers.pop(0)
        assert worker.is_alive(), "it had ended already"
        worker.kill()
        worker.join()

    def wait(self) -> None:
        for worker in self.workers:
            worker.join(self._deadline - time.monotonic())
            assert worker.exitcode == 0


def endure(folder: Path, out: Path, kill_at: list[int]) -> None:
    crowd = Crowd(folder, out)
    crowd.start()
    crowd.start()
    for n_done in kill_at:
        crowd.wait_for(n_done)
        crowd.kill_oldest()
        crowd.start()
    crowd.wait()


def endings(out: Path) -> dict[str, tuple[str, str, str]]:
    """Status, reason and message of every slide in the table."""
    with (out / "slides.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    return {row["zarr"]: (row["status"], row["reason"], row["message"]) for row in rows}


def leftovers(out: Path) -> set[str]:
    suffixes = (".claim", ".partial", ".growing", ".stale")
    return {str(p.relative_to(out)) for p in out.glob("*/*") if p.name.endswith(suffixes)}


def check(folder: Path, serial: Path, out: Path, n_slides: int) -> None:
    assert contents(out) == contents(serial)
    assert endings(out) == endings(serial)
    assert len(endings(out)) == n_slides
    statuses = [status for status, _, _ in endings(out).values()]
    assert statuses.count("done") == len(present(out, "*.zarr"))
    assert set(statuses) == {"done", "failed"}
    # A slide that fails half-way keeps its strips, for a run with another --max-bad-tiles.
    assert leftovers(out) == leftovers(serial)
    assert not [name for name in leftovers(out) if not name.endswith(".partial")]


def test_small(tmp_path):
    folder = tmp_path / "in"
    make_folder(folder, 12)
    serially(folder, tmp_path / "serial")
    reasons = [reason for _, reason, _ in endings(tmp_path / "serial").values()]
    assert reasons.count("unreadable") == 5
    endure(folder, tmp_path / "out", [3])
    check(folder, tmp_path / "serial", tmp_path / "out", 17)


@pytest.mark.processes
@pytest.mark.timeout(3600)
def test_large(real_slides, tmp_path):
    folder = tmp_path / "in"
    number = make_folder(folder, 200)
    real = sorted(path for path in real_slides.iterdir() if path.is_file())
    for path in real:
        shutil.copyfile(path, add(folder, number, path.name))
        number += 1
    serially(folder, tmp_path / "serial")
    failed = {name for name, end in endings(tmp_path / "serial").items() if end[0] == "failed"}
    assert any("broken" in name for name in failed)
    assert not any("slide" in name for name in failed)
    endure(folder, tmp_path / "out", [50, 120])
    check(folder, tmp_path / "serial", tmp_path / "out", 205 + len(real))
