"""One run holds an output; what a dead, gone or absurd owner left is cleared, soon."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
import time

import pytest

from wsi_sampath.errors import WsiError
from wsi_sampath.inference.durable import claim as claim_module
from wsi_sampath.inference.durable.claim import Claim

ELSEWHERE = {"host": "another-machine", "pid": 1, "token": "x"}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.zarr.claim"


def leave(path, owner, age_s=0.0):
    path.write_text(owner if isinstance(owner, str) else json.dumps(owner))
    then = time.time() - age_s
    os.utime(path, (then, then))


def is_taken(path):
    with Claim(path):
        pass
    return not path.exists()


def test_held_by_one_and_gone_after(path):
    with Claim(path) as first:
        assert first.is_held()
        with pytest.raises(WsiError, match="choose another --geojson") as caught:
            Claim(path, option="--geojson").__enter__()
        assert caught.value.reason == "busy"
        assert str(os.getpid()) in caught.value.message
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("age_s", [claim_module.STALE_S + 1, 1e6])
def test_one_that_nobody_refreshes_is_taken_over(path, age_s):
    leave(path, ELSEWHERE, age_s)
    assert is_taken(path)


def test_a_fresh_one_of_another_machine_is_held(path):
    leave(path, ELSEWHERE)
    assert Claim(path).is_held()
    with pytest.raises(WsiError, match="another-machine"):
        is_taken(path)


@pytest.mark.parametrize("ahead_s", [60.0, 3600.0, 1e9])
def test_one_from_the_future_ages_from_now_on(path, ahead_s, monkeypatch):
    leave(path, ELSEWHERE, -ahead_s)
    assert Claim(path).is_held()
    assert abs(path.stat().st_mtime - time.time()) < 10
    monkeypatch.setattr(claim_module, "STALE_S", 0.0)
    assert is_taken(path)


@pytest.mark.parametrize("age_s", [0.0, -3600.0])
def test_a_dead_process_of_this_host_holds_nothing_whatever_the_time(path, age_s):
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], stdout=-1)
    leave(path, {"host": socket.gethostname(), "pid": int(gone.stdout)}, age_s)
    assert is_taken(path)


def test_a_number_that_another_process_has_now_holds_nothing(path):
    leave(path, {"host": socket.gethostname(), "pid": os.getpid(), "born": "1"})
    assert is_taken(path)


def test_a_process_that_cannot_be_seen_from_here_is_not_taken_for_dead(path):
    leave(path, {"host": socket.gethostname(), "pid": 2**22 + 1, "space": "pid:[1]"})
    assert Claim(path).is_held()


@pytest.mark.parametrize("text", ["", "\0" * 50, "[1]", '{"pid": "x"', "[" * 100_000])
def test_one_without_an_owner_is_soon_cleared(path, text):
    leave(path, text, 1.0)
    assert Claim(path).is_held()
    leave(path, text, 20.0)
    assert is_taken(path)


@pytest.mark.parametrize("pid", [0, -1, True, 1 << 80, None, "7"])
def test_an_owner_without_a_number_is_judged_by_its_age(path, pid):
    leave(path, {"host": socket.gethostname(), "pid": pid})
    assert Claim(path).is_held()


def test_a_full_disk_leaves_no_claim(path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(claim_module.json, "dump", refuse)
    with pytest.raises(OSError, match="No space"):
        Claim(path).__enter__()
    assert list(path.parent.iterdir()) == []


def test_what_another_run_took_over_is_left_to_it(path):
    with Claim(path) as slow:
        leave(path, ELSEWHERE)
        with pytest.raises(WsiError, match="another-machine"):
            slow.check()
    assert json.loads(path.read_text()) == ELSEWHERE


def test_a_clock_that_is_wrong_here_takes_no_claim_away(path, monkeypatch):
    leave(path, ELSEWHERE)
    real = time.time
    monkeypatch.setattr(claim_module.time, "time", lambda: real() + 7200)
    assert Claim(path).is_held()
    assert sorted(path.parent.iterdir()) == [path]
