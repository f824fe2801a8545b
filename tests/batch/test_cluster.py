# ruff: noqa: F811 - fixtures are named as arguments
from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from batch_stub import (  # noqa: F401 - some are fixtures
    Told,
    cohort,
    contents,
    holders_with_strips,
    load_slow,
    load_stub,
    serial,
    settings,
    two,
)
from stub_network import StubNetwork, make_stub

from wsi_sampath.batch.batch import Batch
from wsi_sampath.batch.cluster import on_own_gpu, run_on_cluster
from wsi_sampath.batch.discover import plan_jobs
from wsi_sampath.batch.options import BatchOptions
from wsi_sampath.errors import UsageError, WsiError
from wsi_sampath.inference.durable.claim import Claim

distributed = pytest.importorskip("distributed", reason="dask.distributed is not installed")


@pytest.fixture(scope="module")
def address():
    """A cluster of others: one worker, within this process, that declares a GPU."""
    with distributed.LocalCluster(
        n_workers=1,
        threads_per_worker=3,
        processes=False,
        protocol="tcp",
        resources={"GPU": 1},
        dashboard_address=None,
    ) as cluster:
        yield cluster.scheduler_address


def run(cohort, out, scheduler, load=load_stub, **values):
    jobs, options = plan_jobs([cohort], out), BatchOptions(poll_s=0.2)
    chosen = settings(report=False, **values)
    return run_on_cluster(Batch(jobs, chosen, out, options), scheduler, load=load)


def test_a_worker_killed_in_the_middle_of_a_slide(cohort, serial, tmp_path):
    killed = []

    def kill_one() -> None:
        deadline = time.monotonic() + 300
        while not killed and time.monotonic() < deadline:
            time.sleep(0.02)
            if held_by := holders_with_strips(tmp_path):
                os.kill(held_by[0], signal.SIGKILL)
                killed.append(held_by[0])

    killer = threading.Thread(target=kill_one)
    killer.start()
    outcomes = run(cohort, tmp_path, "local:2", load_slow)
    killer.join()
    assert killed
    failed = [outcome.line() for outcome in outcomes if not outcome.done]
    assert len(failed) == 1, failed
    assert "unreadable" in failed[0]
    resumed = [one.result.attributes["resumed_after_strip"] for one in outcomes if one.done]
    assert any(row is not None for row in resumed), "the slide went on elsewhere"
    assert contents(tmp_path) == serial.maps
    assert "5 done, 1 failed, 0 waiting" in (tmp_path / "report.html").read_text()
    assert not list(tmp_path.rglob("*.claim"))


def test_a_cluster_that_is_there_already(cohort, serial, tmp_path, address):
    assert sum(outcome.done for outcome in run(cohort, tmp_path, address)) == 5
    assert contents(tmp_path) == serial.maps
    again = run(cohort, tmp_path, address)
    assert all(outcome.result.reused for outcome in again if outcome.done)
    assert [outcome.failed_before for outcome in again if not outcome.done] == [True]
    journals = list((tmp_path / ".wsi_sampath" / "journal").iterdir())
    assert len(journals) == 1, "one a worker, not one a slide"


def test_paths_are_told_as_they_were_given(two, tmp_path, address, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcomes = run(two.relative_to(tmp_path), Path("out"), address)
    broken, good = sorted(outcomes, key=lambda outcome: outcome.done)
    assert broken.line().startswith("error: two/broken.svs: unreadable: ")
    assert (str(good.job.slide), str(good.job.zarr)) == ("two/good.svs", "out/good.zarr")
    assert (str(good.result.zarr), str(good.result.geojson)) == (
        "out/good.zarr",
        "out/good.geojson",
    )


def test_a_stop_is_told_and_can_be_continued(cohort, serial, tmp_path, address):
    class StopAfterTheFirst(Told):
        def finish_slide(self, outcome, *, elsewhere=False):
            super().finish_slide(outcome, elsewhere=elsewhere)
            if len(self.outcomes) == 1:
                raise KeyboardInterrupt

    told, jobs = StopAfterTheFirst(), plan_jobs([cohort], tmp_path)
    batch = Batch(jobs, settings(report=False), tmp_path, BatchOptions(poll_s=0.2), told)
    outcomes = run_on_cluster(batch, address, load=load_stub)
    assert told.outcomes == outcomes
    assert [outcome.reason for outcome in outcomes][1:] == ["interrupted"]
    run(cohort, tmp_path, address)
    assert contents(tmp_path) == serial.maps


def test_a_slide_that_a_run_outside_holds(cohort, tmp_path, address):
    claim = tmp_path / "uuid-1" / "slide.zarr.claim"
    claim.parent.mkdir()
    with Claim(claim):
        timer = threading.Timer(2.0, lambda: claim.unlink())
        timer.start()
        outcomes = run(cohort, tmp_path, address)
    assert sum(outcome.done for outcome in outcomes) == 5
    assert outcomes[-1].job.slide == cohort / "uuid-1" / "slide.svs"


class _Failing(StubNetwork):
    """Fails for the first `times` batches of tiles that it ever sees."""

    times = 0

    def forward(self, images):
        if type(self).times:
            type(self).times -= 1
            raise ValueError("a kernel failed")
        return super().forward(images)


def load_failing(_settings):
    return make_stub(network=_Failing())


def test_a_passing_failure_is_tried_again(cohort, serial, tmp_path, address, monkeypatch):
    monkeypatch.setattr(_Failing, "times", 2)
    outcomes = run(cohort, tmp_path, address, load_failing)
    assert [one.reason for one in outcomes if not one.done] == ["unreadable"]
    assert contents(tmp_path) == serial.maps


def test_a_lasting_failure_is_named(two, tmp_path, address, monkeypatch):
    monkeypatch.setattr(_Failing, "times", 3)
    outcomes = run(two, tmp_path / "out", address, load_failing)
    by_name = {outcome.job.slide.name: outcome for outcome in outcomes}
    assert by_name["broken.svs"].reason == "unreadable"
    assert by_name["good.svs"].reason == "internal"
    assert "a kernel failed" in by_name["good.svs"].message


def load_nothing(_settings):
    raise WsiError("bad-model", "is not there", subject="m.safetensors")


def test_a_model_that_a_worker_cannot_load(cohort, tmp_path, address):
    with pytest.raises(WsiError, match=r"m\.safetensors: bad-model: is not there"):
        run(cohort, tmp_path, address, load_nothing)


@pytest.mark.parametrize("scheduler", ["local:none", "local:0", "nonsense://x:1", "here"])
def test_what_is_no_scheduler(scheduler, tmp_path):
    with pytest.raises(UsageError, match="--scheduler"):
        run_on_cluster(Batch([], settings(), tmp_path), scheduler)


def test_without_dask(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UsageError, match=r"\[cluster\]"):
        run_on_cluster(Batch([], settings(), tmp_path), "local:1")


def test_paths_that_only_this_machine_knows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mask.png").touch()
    with pytest.raises(UsageError, match="--tissue with its full path"):
        run_on_cluster(Batch([], settings(tissue="mask.png"), tmp_path), "tcp://x:1")


def test_workers_of_one_machine_take_different_gpus(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    plain = settings(device="auto")
    taken = [on_own_gpu(plain, number).device for number in range(3)]
    assert taken == ["cuda:0", "cuda:1", "cuda:0"]
    assert on_own_gpu(settings(device="cpu"), 1).device == "cpu"
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    assert on_own_gpu(plain, 1) is plain
