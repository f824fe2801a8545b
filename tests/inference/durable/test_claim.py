"""One run holds an output; what a dead, gone or absurd owner left is cleared, soon."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from wsi_sampath.errors import WsiError
from wsi_sampath.inference.durable import claim as claim_module
from wsi_sampath.inference.durable.claim import Claim

ELSEWHERE = {"host": "another-machine", "pid": 1, "token": "x"}


DEAD = {"host": socket.gethostname(), "pid": os.getpid(), "born": "1", "token": "y"}


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


N_CLAIMANTS = 3


class ClaimMachine(RuleBasedStateMachine):
    """Claimants of one output, and the claims that others leave there; `holder` has the file."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "a.zarr.claim"
        self.entered: dict[int, Claim] = {}
        self.holder: int | str | None = None
        self.is_old = False

    def teardown(self) -> None:
        for claim in self.entered.values():
            claim.__exit__()
        self.folder.cleanup()

    def is_abandoned(self) -> bool:
        return self.is_old or self.holder in (None, "dead")

    @rule(number=st.integers(0, N_CLAIMANTS - 1))
    def claim(self, number: int) -> None:
        if number in self.entered:
            return
        claim = Claim(self.path)
        if self.is_abandoned():
            self.entered[number] = claim.__enter__()
            self.holder, self.is_old = number, False
        else:
            with pytest.raises(WsiError) as caught:
                claim.__enter__()
            assert caught.value.reason == "busy"

    @precondition(lambda self: self.entered)
    @rule(data=st.data())
    def release(self, data) -> None:
        number = data.draw(st.sampled_from(sorted(self.entered)))
        self.entered.pop(number).__exit__()
        if self.holder == number:
            self.holder, self.is_old = None, False

    @precondition(lambda self: self.holder is None)
    @rule(holder=st.sampled_from(["dead", "elsewhere", "unsigned"]))
    def is_left(self, holder: str) -> None:
        leave(self.path, {"dead": DEAD, "elsewhere": ELSEWHERE, "unsigned": ""}[holder])
        self.holder = holder

    @precondition(lambda self: self.holder is not None)
    @rule(age_s=st.floats(claim_module.STALE_S + 1, 1e6))
    def grows_stale(self, age_s: float) -> None:
        """Its owner sleeps, or the network between does."""
        then = time.time() - age_s
        os.utime(self.path, (then, then))
        self.is_old = True

    @precondition(lambda self: self.holder is not None)
    @rule(ahead_s=st.floats(0, 1e6))
    def is_refreshed(self, ahead_s: float) -> None:
        """By an owner whose clock may be ahead of ours."""
        then = time.time() + ahead_s
        os.utime(self.path, (then, then))
        self.is_old = False

    @invariant()
    def is_held_by_one_at_most(self) -> None:
        for number, claim in self.entered.items():
            if number == self.holder:
                claim.check()
            else:
                with pytest.raises(WsiError, match="another run"):
                    claim.check()

    @invariant()
    def everybody_sees_whether_it_is_held(self) -> None:
        for claim in (Claim(self.path), *self.entered.values()):
            assert claim.is_held() == (not self.is_abandoned())

    @invariant()
    def nothing_else_is_left(self) -> None:
        names = [file.name for file in self.path.parent.iterdir()]
        assert names == ([] if self.holder is None else [self.path.name])


ClaimMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestClaim = ClaimMachine.TestCase


RACE = """
import sys, time
from contextlib import suppress
from pathlib import Path
from wsi_sampath.errors import WsiError
from wsi_sampath.inference.durable.claim import Claim

folder = Path(sys.argv[1])

def wait_for(name):
    while not (folder / name).exists():
        time.sleep(0.0002)

print("ready", flush=True)
for number in range(int(sys.argv[2])):
    wait_for(f"go-{number}")
    held = False
    with suppress(WsiError), Claim(folder / f"{number}.claim") as claim:
        (folder / f"entered-{number}-{sys.argv[3]}").touch()
        wait_for(f"end-{number}")
        claim.check()
        held = True
    if not held:
        (folder / f"refused-{number}-{sys.argv[3]}").touch()
    print(held, flush=True)
"""


def test_of_processes_that_race_for_a_stale_claim_one_gets_it(tmp_path):
    n_rounds, n_runs = 8, 3
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, str(tmp_path), str(n_rounds), str(number)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(n_runs)
    ]
    assert [run.stdout.readline() for run in runs] == ["ready\n"] * n_runs
    for number in range(n_rounds):
        leave(tmp_path / f"{number}.claim", ELSEWHERE, claim_module.STALE_S + 1)
        (tmp_path / f"go-{number}").touch()
        deadline = time.monotonic() + 60
        while len(list(tmp_path.glob(f"[er]*-{number}-*"))) < n_runs:
            assert time.monotonic() < deadline
        (tmp_path / f"end-{number}").touch()
        assert sorted(run.stdout.readline() for run in runs) == ["False\n"] * 2 + ["True\n"]
    assert [run.wait(30) for run in runs] == [0] * n_runs
    assert not list(tmp_path.glob("*.claim*"))
