# ruff: noqa: F811 - fixtures are named as arguments
from __future__ import annotations

import csv
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from batch_stub import (  # noqa: F401 - some are fixtures
    cohort,
    contents,
    load_stub,
    present,
    serial,
    settings,
    two,
)
from stub_network import FailingNetwork, StubNetwork, make_stub

from wsi_sampath.batch import runner as runner_module
from wsi_sampath.batch.batch import Batch
from wsi_sampath.batch.discover import plan_jobs
from wsi_sampath.batch.options import BatchOptions
from wsi_sampath.batch.record import page
from wsi_sampath.batch.record.folder import BatchFolder
from wsi_sampath.batch.runner import run_batch
from wsi_sampath.inference import segmenter as segmenter_module
from wsi_sampath.inference.durable.claim import Claim
from wsi_sampath.inference.durable.work import WorkFolder
from wsi_sampath.slides.slide import Slide

WORK = """
import sys
sys.path[:0] = [{here!r}, {tests!r}]
from pathlib import Path
from batch_stub import load_slow, settings
from wsi_sampath.batch.batch import Batch
from wsi_sampath.batch.options import BatchOptions
from wsi_sampath.batch.discover import plan_jobs
from wsi_sampath.batch.runner import run_batch
print("ready", flush=True)
out = Path({out!r})
jobs = plan_jobs([Path({cohort!r})], out)
batch = Batch(jobs, settings(), out, BatchOptions(poll_s=0.1))
outcomes = run_batch(batch, load_slow())
print(sum(o.done and not o.result.reused for o in outcomes), sum(o.done for o in outcomes))
"""


def rows(out: Path) -> dict[str, dict[str, str]]:
    with (out / "slides.csv").open(newline="") as stream:
        return {row["zarr"]: row for row in csv.DictReader(stream)}


def start(cohort: Path, out: Path) -> subprocess.Popen[str]:
    here = Path(__file__).parent
    code = WORK.format(here=str(here), tests=str(here.parent), out=str(out), cohort=str(cohort))
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def batch(folder: Path, out: Path, model=None, *, options=None, **values):
    jobs, options = plan_jobs([folder], out), options or BatchOptions()
    return run_batch(Batch(jobs, settings(**values), out, options), model or load_stub())


def test_one_bad_slide_is_one_failure(serial, cohort):
    assert [outcome.done for outcome in serial.outcomes] == [True] * 5 + [False]
    line = serial.outcomes[-1].line()
    assert line.startswith(f"error: {cohort / 'uuid-9' / 'broken.svs'}: unreadable: ")
    assert len(serial.maps) == 5


def test_table(serial, cohort):
    table = rows(serial.out)
    assert len(table) == 6
    bad = table["uuid-9/broken.zarr"]
    assert (bad["status"], bad["reason"]) == ("failed", "unreadable")
    assert bad["slide"] == str(cohort / "uuid-9" / "broken.svs")
    for outcome in serial.outcomes[:5]:
        row = table[outcome.job.zarr.relative_to(serial.out).as_posix()]
        run = outcome.result.attributes
        assert row["status"] == "done"
        assert int(row["tiles_analysed"]) == run["tiles"]["analysed"]
        assert float(row["area_mm2 class 2"]) == pytest.approx(run["area_mm2"]["class 2"])
        assert row["finished"].endswith("+00:00")


def test_page_shows_failures_first_and_its_links_lead_somewhere(serial):
    text = (serial.out / "report.html").read_text()
    assert "5 done, 1 failed, 0 waiting" in text
    assert text.index("broken.svs") < text.index(">uuid-0/slide</a>")
    assert "; by stub." in text
    links = re.findall(r'(?:src|href)="([^"]+)"', text)
    assert sum(link.endswith(".jpg") for link in links) == 5
    assert all((serial.out / link).is_file() for link in links)


def test_a_page_of_very_many_slides_names_the_first(serial, monkeypatch):
    monkeypatch.setattr(page, "MOST_ROWS", 2)
    folder = BatchFolder(serial.out, [outcome.job for outcome in serial.outcomes])
    records = list(folder.journal.latest().values())
    text = page.render_page(records, [], lambda _: None)
    assert "5 done, 1 failed, 0 waiting" in text
    assert text.count("slide</a>") == 2
    assert "and 3 more in <a" in text


def test_logs(serial):
    assert "failed: unreadable: " in (serial.out / "uuid-9" / "broken.log").read_text()
    log = (serial.out / "uuid-0" / "slide.log").read_text().splitlines()
    assert len(log) == 2
    assert "started: " in log[0]
    assert "done: " in log[1]


def test_again_does_nothing(serial, cohort, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(serial.out, out)
    before = (out / "slides.csv").read_text()
    model = load_stub()
    outcomes = batch(cohort, out, model)
    assert model.module.calls == []
    assert all(outcome.result.reused for outcome in outcomes[:5])
    assert (out / "slides.csv").read_text() == before
    assert len((out / "uuid-0" / "slide.log").read_text().splitlines()) == 2


def opened_slides(monkeypatch) -> list[str]:
    opened, original = [], Slide.open.__func__

    def recording(cls, path, **rest):
        opened.append(Path(path).name)
        return original(cls, path, **rest)

    monkeypatch.setattr(Slide, "open", classmethod(recording))
    return opened


def test_retry_failed(two, tmp_path, monkeypatch):
    out = tmp_path / "out"
    batch(two, out)
    opened = opened_slides(monkeypatch)
    outcomes = batch(two, out)
    assert opened == [], "what is known is not opened again"
    assert [outcome.failed_before for outcome in outcomes] == [True, False]
    assert "--retry-failed" in outcomes[0].line()
    batch(two, out, options=BatchOptions(retry_failed=True))
    assert opened == ["broken.svs"]
    opened.clear()
    batch(two, out, max_bad_tiles=0.5)
    assert "broken.svs" in opened, "other settings are another try"
    shutil.copy(two / "good.svs", two / "broken.svs")
    assert all(outcome.done for outcome in batch(two, out))
    assert {row["status"] for row in rows(out).values()} == {"done"}


def test_what_was_removed_is_made_again(two, tmp_path):
    out = tmp_path / "out"
    batch(two, out)
    made = contents(out)
    (out / "good.geojson").unlink()
    shutil.rmtree(out / "good.zarr")
    batch(two, out)
    assert contents(out) == made


def test_fail_fast(two, tmp_path):
    outcomes = batch(two, tmp_path / "out", options=BatchOptions(fail_fast=True))
    assert [outcome.reason for outcome in outcomes] == ["unreadable"]
    table = rows(tmp_path / "out")
    assert table["good.zarr"]["status"] == "waiting"


def test_a_defect_of_the_program_costs_one_slide_and_is_logged(cohort, tmp_path):
    class Once(StubNetwork):
        def forward(self, images):
            if not self.calls:
                self.calls.append(0)
                raise ValueError("shape mismatch")
            return super().forward(images)

    outcomes = batch(cohort, tmp_path, make_stub(network=Once()))
    assert [outcome.reason for outcome in outcomes] == ["internal", "", "", "", "", "unreadable"]
    assert "ValueError: shape mismatch" in outcomes[0].line()
    log = (tmp_path / "uuid-0" / "slide.log").read_text()
    assert "Traceback" in log
    assert rows(tmp_path)["uuid-0/slide.zarr"]["reason"] == "internal"


def test_no_log_tells_a_secret(cohort, tmp_path):
    error = ValueError("no answer of https://me:hidden@h/a.svs?sig=hidden, at all")
    with pytest.raises(ValueError, match="no answer"):
        batch(cohort, tmp_path, make_stub(network=FailingNetwork(error)))
    log = (tmp_path / "uuid-0" / "slide.log").read_text()
    assert "ValueError: no answer of https://h/a.svs, at all" in log
    assert "hidden" not in log


def test_a_defect_in_every_slide_ends_the_batch(cohort, tmp_path):
    with pytest.raises(ValueError, match="always"):
        batch(cohort, tmp_path, make_stub(network=FailingNetwork(ValueError("always"))))
    assert sum(row["reason"] == "internal" for row in rows(tmp_path).values()) == 2


def test_stopped_and_continued(cohort, tmp_path, serial):
    stopping = FailingNetwork(KeyboardInterrupt(), after=12)
    outcomes = batch(cohort, tmp_path, make_stub(network=stopping))
    assert outcomes[-1].reason == "interrupted"
    assert len(outcomes) < 5
    table = rows(tmp_path)
    assert {row["status"] for row in table.values()} == {"done", "waiting"}
    batch(cohort, tmp_path)
    assert contents(tmp_path) == serial.maps


def test_the_next_slide_is_opened_while_the_current_one_runs(cohort, tmp_path, monkeypatch):
    opened = opened_slides(monkeypatch)

    class Watching(StubNetwork):
        seen: list[list[str]] = []

        def forward(self, images):
            time.sleep(0.1)
            self.seen.append(list(opened))
            return super().forward(images)

    batch(cohort, tmp_path, make_stub(network=Watching()))
    assert "slide-2.svs" in next(seen for seen in Watching.seen[::-1] if len(seen) == 3)
    assert any(len(seen) == 2 for seen in Watching.seen)
    assert len(opened) == 6


def publishing(monkeypatch, before) -> None:
    """Have `before` called with the target of every zarr that is put in its place."""
    original = WorkFolder.publish

    def publish(self, target):
        before(target)
        original(self, target)

    monkeypatch.setattr(WorkFolder, "publish", publish)


def test_a_slide_is_finished_while_the_next_one_runs(cohort, tmp_path, monkeypatch, serial):
    def wait_for_the_next(target):
        deadline = time.monotonic() + 60
        while target.parent.name == "uuid-1" and not present(tmp_path, "slide-2.zarr.partial"):
            assert time.monotonic() < deadline, "the network waits for the files"
            time.sleep(0.01)

    publishing(monkeypatch, wait_for_the_next)
    outcomes = batch(cohort, tmp_path, report=False)
    assert [outcome.job for outcome in outcomes] == plan_jobs([cohort], tmp_path)
    assert contents(tmp_path) == serial.maps


@pytest.mark.parametrize(
    ("error", "reason"), [(ValueError("odd"), "internal"), (OSError(5, "I/O"), "bad-input")]
)
def test_a_failure_while_finishing_is_that_slides_failure(
    cohort, tmp_path, monkeypatch, serial, error, reason
):
    def fail_once(target):
        if target.parent.name == "uuid-1" and not (tmp_path / "failed").exists():
            (tmp_path / "failed").touch()
            raise error

    publishing(monkeypatch, fail_once)
    outcomes = batch(cohort, tmp_path, report=False)
    assert [outcome.reason for outcome in outcomes] == ["", reason, "", "", "", "unreadable"]
    assert not list(tmp_path.rglob("*.claim"))
    model = load_stub()
    batch(cohort, tmp_path, model, report=False)
    assert model.module.calls == [], "all strips were in the ledger"
    assert contents(tmp_path) == serial.maps


def test_stopped_while_a_slide_is_finished(cohort, tmp_path, monkeypatch, serial):
    finishing = threading.Event()

    class Stopping(StubNetwork):
        def forward(self, images):
            if finishing.is_set():
                raise KeyboardInterrupt
            return super().forward(images)

    def say(target):
        if target.parent.name == "uuid-1":
            finishing.set()
            time.sleep(0.2)

    publishing(monkeypatch, say)
    outcomes = batch(cohort, tmp_path, make_stub(network=Stopping()), report=False)
    reasons = [outcome.reason for outcome in outcomes]
    # The network may be through with the third slide when the second one's files are put in place.
    assert reasons in (["", "", "interrupted"], ["", "", "", "interrupted"])
    assert not list(tmp_path.rglob("*.claim"))
    monkeypatch.undo()
    batch(cohort, tmp_path, report=False)
    assert contents(tmp_path) == serial.maps


def test_stopped_while_waiting_for_files(cohort, tmp_path, monkeypatch):
    """The user's signal comes while the batch itself has nothing to do but to wait."""

    class Interrupting(ThreadPoolExecutor):
        interrupts = iter([KeyboardInterrupt()])

        def submit(self, *arguments):
            future = super().submit(*arguments)
            future.result = partial(self.wait, future.result)
            return future

        def wait(self, result):
            for interrupt in self.interrupts:
                raise interrupt
            return result()

    monkeypatch.setattr(runner_module, "ThreadPoolExecutor", Interrupting)
    outcomes = batch(cohort, tmp_path, report=False)
    assert [outcome.reason for outcome in outcomes][-1] == "interrupted"
    assert all(outcome.done for outcome in outcomes[:-1])
    assert not list(tmp_path.rglob("*.claim"))


def test_one_predictor_serves_all_slides(cohort, tmp_path, monkeypatch):
    made = []
    original = segmenter_module.Predictor

    def counted(*arguments, **options):
        made.append(1)
        return original(*arguments, **options)

    monkeypatch.setattr(segmenter_module, "Predictor", counted)
    batch(cohort, tmp_path, report=False)
    assert made == [1]


@pytest.mark.processes
def test_a_slide_held_by_another_is_left_to_it_and_taken_over(cohort, tmp_path, serial):
    claim = tmp_path / "uuid-1" / "slide.zarr.claim"
    claim.parent.mkdir()
    model = load_stub()
    with Claim(claim):
        done = threading.Timer(3.0, lambda: claim.unlink())
        done.start()
        outcomes = batch(cohort, tmp_path, model, options=BatchOptions(poll_s=0.2))
    assert outcomes[-1].job.slide == cohort / "uuid-1" / "slide.svs"
    assert outcomes[-1].done
    assert contents(tmp_path) == serial.maps


def test_a_stopped_batch_does_not_turn_to_slides_that_others_held(cohort, tmp_path, monkeypatch):
    jobs = plan_jobs([cohort], tmp_path)[:3]
    claims = [job.zarr.with_name(f"{job.zarr.name}.claim") for job in (jobs[0], jobs[2])]
    for claim in claims:
        claim.parent.mkdir()

    def let_go_and_fail(_target):
        time.sleep(0.3)
        for claim in claims:
            claim.unlink()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    publishing(monkeypatch, let_go_and_fail)
    with Claim(claims[0]), Claim(claims[1]):
        batch = Batch(jobs, settings(report=False), tmp_path, BatchOptions(poll_s=0.1))
        outcomes = run_batch(batch, load_stub())
    assert [(outcome.job, outcome.reason) for outcome in outcomes] == [(jobs[1], "disk-full")]


@pytest.mark.processes
def test_two_processes_share_a_folder(cohort, tmp_path, serial):
    workers = [start(cohort, tmp_path) for _ in range(2)]
    answers = [worker.communicate(timeout=200)[0].split()[1:] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0]
    worked, done = zip(*(map(int, answer) for answer in answers), strict=True)
    assert sum(worked) == 5, "no slide is done twice"
    assert done == (5, 5)
    assert contents(tmp_path) == serial.maps
    assert {row["status"] for row in rows(tmp_path).values()} == {"done", "failed"}
    assert not list(tmp_path.rglob("*.claim"))


@pytest.mark.processes
def test_killed_and_restarted_twice(cohort, tmp_path, serial):
    for n_done in (1, 3):
        worker = start(cohort, tmp_path)
        deadline = time.monotonic() + 120
        while len(present(tmp_path, "*.zarr")) < n_done or not present(tmp_path, "*.partial"):
            assert worker.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.kill(worker.pid, signal.SIGKILL)
        worker.communicate()
    outcomes = batch(cohort, tmp_path)
    assert sum(outcome.done for outcome in outcomes) == 5
    assert contents(tmp_path) == serial.maps
    assert not [p for p in tmp_path.rglob("*") if p.name.endswith((".claim", ".partial"))]
    for journal in (tmp_path / ".wsi_sampath" / "journal").glob("*.jsonl"):
        for line in journal.read_text().splitlines():
            json.loads(line)
