import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import nuclei  # noqa: E402

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")


def test_painted_nuclei_are_as_dense_as_said_and_continue_at_the_borders():
    plane = nuclei.painted(10_000)
    assert 0.2 < (plane[..., 0] > 0).mean() < 0.6
    twice = np.tile(plane, (1, 2, 1))[:, nuclei.PERIOD - 40 : nuclei.PERIOD + 40]
    steps = np.abs(np.diff(twice[..., 1].astype(int), axis=1)).mean(axis=0)
    assert steps[39] < 2 * steps.mean()


def test_time_goes_to_the_innermost_step():
    clock = nuclei.Clock()
    inner = clock.timed("inner", lambda: sum(range(300_000)))
    clock.timed("outer", lambda: [inner(), inner()])()
    assert clock.calls == {"inner": 2, "outer": 1}
    assert clock.seconds["inner"] > 10 * clock.seconds["outer"] >= 0


def test_all_steps_are_there_to_be_timed(monkeypatch):
    clock = nuclei.Clock()
    monkeypatch.setattr(nuclei.Clock, "timed", lambda self, _, function: function)
    clock.watch()


def test_many_nuclei_are_written_and_read_back(tmp_path):
    report = nuclei.run_million(tmp_path, 400, 4000)
    assert report["nuclei"] >= max(400, report["nuclei_in_4000_rows"])
    assert report["nuclei_in_4000_rows"] > 0
    assert set(report["size_mb"]) == {"nuclei.parquet", "geojson", "geojson.zip"}


def test_both_watersheds_agree_but_for_ties():
    report = nuclei.run_watershed(512, 10_000)
    assert report["pixels_that_differ"] < 0.001 * report["foreground_mpx"] * 1e6
