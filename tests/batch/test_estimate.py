from __future__ import annotations

import tempfile

import pytest
from batch_stub import load_stub, settings

from wsi_sampath.batch.batch import Batch
from wsi_sampath.batch.discover import Job, plan_jobs
from wsi_sampath.batch.estimate import (
    estimate_batch,
    estimate_line,
    format_size,
    summary_line,
)
from wsi_sampath.batch.runner import run_batch
from wsi_sampath.synthetic.painted import paint_slide


def size(folder) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_nothing_is_written_and_bad_slides_are_named(tmp_path, monkeypatch):
    folder = tmp_path / "in"
    folder.mkdir()
    paint_slide(folder / "good.svs", width=600, height=500, mpp=0.5, seed=1)
    (folder / "bad.svs").write_bytes(b"garbage" * 100)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    out = tmp_path / "out"
    bad, good = estimate_batch(plan_jobs([folder], out), settings(), load_stub())
    assert not out.exists()
    assert not list(scratch.iterdir())
    assert bad.fails
    assert "would fail: unreadable" in estimate_line(bad)
    assert good.state == "to do"
    assert "0.5 x 0.5 um/px" in estimate_line(good)
    assert summary_line([bad, good]).startswith("1 slide to do, 1 would fail, 0 done already")


@pytest.mark.processes
def test_the_estimate_is_near_what_is_made(tmp_path):
    slide = tmp_path / "s.svs"
    paint_slide(slide, width=2400, height=2000, mpp=0.5, seed=2)
    job = Job(slide, tmp_path / "out" / "s.zarr")
    (estimate,) = estimate_batch([job], settings(report=False), load_stub())
    (outcome,) = run_batch(Batch([job], settings(report=False)), load_stub())
    run = outcome.result.attributes
    assert estimate.tiles == run["tiles"]["analysed"]
    assert estimate.tissue_mm2 == pytest.approx(run["coverage"]["tissue_mm2"])
    assert 0.3 < estimate.size_bytes / size(tmp_path / "out") < 3
    (again,) = estimate_batch([job], settings(report=False), load_stub())
    assert again.state == "done already"
    assert again.seconds == 0


def test_sizes_as_people_write_them():
    sizes = [format_size(value) for value in (0, 1234, 999_900, 5e9, 2e12)]
    assert sizes == ["0 kB", "1.23 kB", "1 MB", "5 GB", "2 TB"]
