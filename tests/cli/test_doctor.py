from __future__ import annotations

import json
import subprocess
import sys

import pytest

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
    assert f"{files[1]}: problems" in out
    assert "feature 1: classification has no color" in out


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
    for words in ("Python 3", "torch ", "OpenSlide library", "gland-mini"):
        assert any(words in line for line in lines), words


def test_what_is_missing_is_a_problem(run, monkeypatch):
    monkeypatch.setattr(doctor, "_PACKAGES", ("wsi-sampath", "no-such-package"))
    code, out, _ = run()
    assert code == 1
    assert "PROBLEM no-such-package is not installed" in out


def test_help_is_quick():
    code = (
        "import sys; sys.argv = ['wsi-doctor', '-h']\n"
        "from wsi_sampath.cli.doctor import main\n"
        "try: main()\n"
        "except SystemExit as stop: assert not stop.code\n"
        "heavy = {'torch', 'zarr', 'numpy', 'shapely', 'openslide'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--geojson" in done.stdout
