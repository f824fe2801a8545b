# ruff: noqa: F811 - fixtures are named as arguments
from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time

import pytest
from batch_stub import (  # noqa: F401 - some are fixtures
    Told,
    cohort,
    contents,
    holders,
    load_slow,
    present,
    serial,
    settings,
)

from wsi_sampath.batch.batch import Batch
from wsi_sampath.batch.devices import parse_devices, run_on_devices
from wsi_sampath.batch.discover import plan_jobs
from wsi_sampath.batch.options import BatchOptions
from wsi_sampath.errors import UsageError


def test_names_of_devices():
    assert parse_devices("0, 1") == ("cuda:0", "cuda:1")
    assert parse_devices("cpu,cpu") == ("cpu", "cpu")
    for text in ("", "0,", "0,0"):
        with pytest.raises(UsageError, match="--gpus"):
            parse_devices(text)


@pytest.mark.processes
def test_two_devices_one_killed(cohort, serial, tmp_path):
    def kill_one() -> None:
        deadline = time.monotonic() + 120
        while (
            not (present(tmp_path, "*.partial") and holders(tmp_path))
            and time.monotonic() < deadline
        ):
            time.sleep(0.02)
        children = multiprocessing.active_children()
        held_by = holders(tmp_path)
        victim = next(child for child in children if child.pid in held_by)
        os.kill(victim.pid, signal.SIGKILL)

    killer = threading.Thread(target=kill_one)
    killer.start()
    told, jobs = Told(), plan_jobs([cohort], tmp_path)
    batch = Batch(jobs, settings(), tmp_path, BatchOptions(poll_s=0.2), told)
    outcomes = run_on_devices(batch, ("cpu", "cpu"), load=load_slow)
    killer.join()
    failed = [outcome.line() for outcome in outcomes if not outcome.done]
    assert len(failed) == 1, failed
    assert len(outcomes) == 6
    assert told.outcomes == outcomes
    assert contents(tmp_path) == serial.maps
    assert not list(tmp_path.rglob("*.claim"))
    assert "5 done, 1 failed, 0 waiting" in (tmp_path / "report.html").read_text()
