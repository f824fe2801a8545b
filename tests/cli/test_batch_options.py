from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import pytest

from wsi_sampath.cli.segment import main
from wsi_sampath.synthetic.painted import paint_slide


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("cohort")
    for number in range(2):
        (path / str(number)).mkdir()
        paint_slide(path / str(number) / "a.svs", width=520, height=500, mpp=0.5, seed=number)
    (path / "bad.svs").write_bytes(b"garbage" * 100)
    return path


def command(monkeypatch, *words) -> int:
    monkeypatch.setattr(sys, "argv", ["wsi-segment", *map(str, words), "--device", "cpu"])
    with pytest.raises(SystemExit) as stopped:
        main()
    return stopped.value.code or 0


def test_dry_run_then_run_then_retry(folder, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    assert command(monkeypatch, folder, "--out", out, "--dry-run", "--json") == 1
    assert not out.exists()
    shown = capsys.readouterr()
    estimates = json.loads(shown.out)
    assert [one["state"] for one in estimates] == ["to do", "to do", "unreadable"]
    assert shown.err.splitlines()[-1].startswith("2 slides to do, 1 would fail")

    assert command(monkeypatch, folder, "--out", out) == 1
    shown = capsys.readouterr()
    assert f"2 done, 1 failed, 0 left; {out}/report.html, {out}/slides.csv" in shown.err
    assert shown.out.count(": done in ") == 2
    with (out / "slides.csv").open(newline="") as stream:
        statuses = {row["zarr"]: row["status"] for row in csv.DictReader(stream)}
    assert statuses == {"0/a.zarr": "done", "1/a.zarr": "done", "bad.zarr": "failed"}
    assert (out / "report.html").exists()

    assert command(monkeypatch, folder, "--out", out) == 1
    assert "failed before; --retry-failed" in capsys.readouterr().err
    assert command(monkeypatch, folder, "--out", out, "--retry-failed") == 1
    assert "failed before" not in capsys.readouterr().err


def test_gpus(folder, tmp_path, monkeypatch, capsys):
    """Two processes on the CPU stand for two GPUs."""
    out = tmp_path / "out"
    assert command(monkeypatch, folder, "--out", out, "--gpus", "cpu,cpu", "--json") == 1
    shown = capsys.readouterr()
    summary = json.loads(shown.out.splitlines()[-1])
    assert (summary["done"], summary["failed"]) == (2, 1)
    assert all(one["result"]["complete"] for one in summary["slides"] if one["status"] == "done")
    assert shown.err.count("error: ") == 1


def test_gpus_want_a_batch(folder, tmp_path, monkeypatch, capsys):
    slide = folder / "0" / "a.svs"
    assert command(monkeypatch, slide, "--out", tmp_path / "a.zarr", "--gpus", "0") == 2
    assert "--gpus" in capsys.readouterr().err


def test_scheduler(folder, tmp_path, monkeypatch, capsys):
    pytest.importorskip("distributed", reason="dask.distributed is not installed")
    out = tmp_path / "out"
    words = (folder, "--out", out, "--scheduler", "local:1", "--json", "--no-report")
    assert command(monkeypatch, *words) == 1
    shown = capsys.readouterr()
    summary = json.loads(shown.out.splitlines()[-1])
    assert (summary["done"], summary["failed"]) == (2, 1)
    assert shown.err.count("error: ") == 1
    assert (out / "report.html").exists()


@pytest.mark.parametrize(
    "words", [("--scheduler", "local:1", "--gpus", "0"), ("--scheduler", "local:many")]
)
def test_a_scheduler_that_cannot_be(folder, tmp_path, monkeypatch, capsys, words):
    assert command(monkeypatch, folder, "--out", tmp_path / "out", *words) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: bad-input: --scheduler")
