"""The benchmark of what goes wrong tells drivers apart that do different things."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from wsi_sampath.synthetic.painted import paint_slide

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import situations  # noqa: E402

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")

RESUMES = """
import sys, time
from pathlib import Path
out = Path(sys.argv[2])
kept = out / "kept"
if not kept.exists():
    out.mkdir(exist_ok=True)
    kept.touch()
    time.sleep(3 if out.name == "whole.zarr" else 60)
"""
REFUSES = """
import sys
sys.exit("first words\\nerror: no scale")
"""


def driver(folder, text):
    path = folder / "driver.py"
    path.write_text(text)
    return [sys.executable, str(path)]


FAILS_AGAIN = (
    RESUMES
    + """
else:
    sys.exit("error: the output exists")
"""
)


def test_a_second_run_is_held_against_a_whole_one(tmp_path, monkeypatch):
    monkeypatch.setattr(situations, "agreement", lambda one, other: 1.0)
    slide = tmp_path / "none.svs"
    found = situations.killed_and_repeated(slide, driver(tmp_path, RESUMES), tmp_path)
    assert found["left_under_its_name"]
    assert found["killed"]["fate"] == "stopped"
    assert found["again_of_whole"] < 1
    assert found["agreement"] == 1


def test_a_second_run_that_fails_is_no_resumed_one(tmp_path):
    slide = tmp_path / "none.svs"
    found = situations.killed_and_repeated(slide, driver(tmp_path, FAILS_AGAIN), tmp_path)
    assert found["again"]["fate"] == "failed"
    assert "again_of_whole" not in found


def test_the_last_words_of_a_failure_are_kept(tmp_path):
    slide = tmp_path / "none.svs"
    row = situations.answer_to(slide, driver(tmp_path, REFUSES), tmp_path)
    assert row == {"fate": "failed", "last_line": "error: no scale", "map_px": None}


def test_our_own_driver_refuses_a_slide_without_a_scale(tmp_path):
    slide = tmp_path / "unscaled.svs"
    paint_slide(slide, width=512, height=512, mpp_in_file=False)
    row = situations.answer_to(slide, situations.drivers({})[situations.OURS], tmp_path)
    assert row["fate"] == "failed"
    assert "microns per pixel" in row["last_line"]
