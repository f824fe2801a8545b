from __future__ import annotations

import json
import re
import sys

import pytest
from command_line import quick_help

from wsi_sampath import doctor as checkup
from wsi_sampath.cli import doctor

FEATURE = {
    "type": "Feature",
    "id": "9c0282c9-c443-512b-9dcb-a012686d7f2d",
    "geometry": {"type": "Polygon", "coordinates": [[[0, 0], [8, 0], [8, 8], [0, 8], [0, 0]]]},
    "properties": {"objectType": "annotation"},
}


@pytest.fixture
def run(monkeypatch, capsys):
    def call(*words):
        monkeypatch.setattr(sys, "argv", ["wsi-doctor", *map(str, words)])
        with pytest.raises(SystemExit) as stopped:
            doctor.main()
        said = capsys.readouterr()
        return stopped.value.code, said.out, said.err

    return call


@pytest.fixture
def files(tmp_path):
    good, bad = tmp_path / "good.geojson", tmp_path / "bad.geojson"
    good.write_text(json.dumps({"type": "FeatureCollection", "features": [FEATURE]}))
    broken = {
        **FEATURE,
        "properties": {"objectType": "annotation", "classification": {"name": "x"}},
    }
    bad.write_text(json.dumps({"type": "FeatureCollection", "features": [FEATURE, broken]}))
    return good, bad


def test_a_good_geojson(run, files):
    assert run("--geojson", files[0]) == (0, f"{files[0]}: QuPath loads it\n", "")


def test_a_bad_geojson_is_explained(run, files):
    code, out, _ = run("--geojson", files[0], "--geojson", files[1])
    assert code == 1
    assert f"{files[0]}: QuPath loads it" in out
    assert f"{files[1]}: QuPath refuses it" in out
    assert "  feature 1: classification has no color" in out


def test_wrong_usage(run, tmp_path):
    code, _, err = run("--geojson", tmp_path / "none.geojson")
    assert (code, err) == (
        2,
        f"error: {tmp_path / 'none.geojson'}: bad-input: there is no such file\n",
    )
    (tmp_path / "a.txt").write_text("{}")
    code, _, err = run("--geojson", tmp_path / "a.txt")
    assert code == 2
    assert ".geojson.zip" in err
    code, _, err = run("--nonsense")
    assert code == 2
    assert len(err.splitlines()) == 1


def test_the_machine(run):
    code, out, _ = run()
    assert code == 0
    lines = out.splitlines()
    assert all(line.startswith("ok ") for line in lines)
    wanted = ("Python 3", "torch ", "OpenSlide library", "codecs: jpeg", "reader openslide: reads")
    for words in (*wanted, "bf16 on", "bundled models: gland-mini", "self-test: one tile by"):
        assert any(words in line for line in lines), words


def quick(monkeypatch, *checks):
    """Leave out all other checks, for they were tried above."""
    monkeypatch.setattr(
        checkup, "check_machine", lambda out: (one for check in checks for one in check(out))
    )


def test_the_output_folder(run, tmp_path, monkeypatch):
    quick(monkeypatch, checkup._disk)
    code, out, _ = run("--out", tmp_path / "not" / "there")
    assert code == 0
    assert re.fullmatch(r"ok      --out .*: \d+ MB/s, \d+ small files/s, \d+ GB free\n", out)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    code, out, _ = run("--out", tmp_path / "file" / "below")
    assert code == 1
    assert out.startswith("PROBLEM --out")
    assert "is a file; name a folder" in out
    monkeypatch.setattr(checkup, "_SLOW_MB_PER_S", 1e9)
    code, out, _ = run("--out", tmp_path)
    assert (code, "slow for large files; use another disk" in out) == (1, True)


def test_whatever_breaks_is_a_finding():
    def _some_check():
        raise ZeroDivisionError("gone\nwrong")

    (finding,) = checkup._carried_out(_some_check)
    assert not finding.fine
    assert finding.line.startswith("some check: ZeroDivisionError: gone wrong; ")


def test_a_precision_that_is_off(run, monkeypatch):
    monkeypatch.setattr(checkup, "_ROUNDING", {"fp32": 1e-4, "fp16": 1e-12, "bf16": 5e-2})
    quick(monkeypatch, lambda _: checkup._precisions())
    code, out, _ = run()
    assert code == 1
    assert re.search(r"PROBLEM fp16 on \w+: relative error .*; choose another --precision", out)


def test_what_is_missing_is_a_problem(run, monkeypatch):
    monkeypatch.setattr(checkup, "PACKAGES", ("wsi-sampath", "no-such-package"))
    quick(monkeypatch, lambda _: checkup._packages())
    code, out, _ = run()
    assert code == 1
    assert "PROBLEM no-such-package is not installed" in out


def test_help_is_quick():
    text = quick_help("wsi-doctor", without={"torch", "zarr", "numpy", "shapely", "openslide"})
    assert "--geojson" in text
