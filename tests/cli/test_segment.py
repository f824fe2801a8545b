from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import zarr
from command_line import quick_help

from wsi_sampath.cli.segment import main
from wsi_sampath.shown import plural
from wsi_sampath.synthetic.painted import paint_slide

COMMAND = [sys.executable, "-c", "from wsi_sampath.cli.segment import main; main()"]


@pytest.fixture
def run(command):
    return command(main, "wsi-segment")


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "small.svs"
    paint_slide(path, width=1400, height=1100, mpp=0.5, seed=5)
    return path


def last_line(text: str) -> str:
    return text.strip().splitlines()[-1]


def test_help_is_quick_and_imports_nothing_heavy():
    text = quick_help("wsi-segment", without={"torch", "zarr", "numpy", "shapely", "openslide"})
    for option in ("--out", "--model", "--mpp-csv", "--region", "--zarr-format", "--json"):
        assert option in text


def test_one_slide_end_to_end_with_the_bundled_model(run, small, tmp_path):
    code, told, said = run(small, "--out", tmp_path / "s.zarr", "--device", "cpu", "--json")
    assert code == 0, said
    record = json.loads(last_line(told))
    assert (record["done"], record["failed"]) == (1, 0)
    result = record["slides"][0]["result"]
    assert set(result["area_mm2"]) == {"other", "gland"}
    root = zarr.open_group(tmp_path / "s.zarr", mode="r")
    assert root.attrs["wsi_sampath"]["complete"] is True
    assert (tmp_path / "s.geojson").exists()
    assert "gland-mini is a demonstration, not for diagnosis" in said
    assert f"gland-mini on cpu in fp32: {plural(result['tiles']['analysed'], 'tile')}" in said
    _, again, _ = run(small, "--out", tmp_path / "s.zarr", "--device", "cpu", "--json")
    assert json.loads(last_line(again))["slides"][0]["reused"] is True


def test_several_slides_one_of_them_bad(run, small, tmp_path):
    folder = tmp_path / "in" / "deep"
    folder.mkdir(parents=True)
    (folder / "good.svs").write_bytes(small.read_bytes())
    (tmp_path / "in" / "bad.svs").write_bytes(b"garbage" * 100)
    code, told, said = run(tmp_path / "in", "--out", tmp_path / "out", "--json", "--no-geojson")
    assert code == 1
    record = json.loads(last_line(told))
    assert (record["done"], record["failed"]) == (1, 1)
    assert (tmp_path / "out" / "deep" / "good.zarr").is_dir()
    assert not (tmp_path / "out" / "bad.zarr").exists()
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert errors[0].startswith(f"error: {tmp_path / 'in' / 'bad.svs'}: unreadable: ")
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["{slide}"], 2, "out"),
        (["{slide}", "--out", "x"], 2, "NAME.zarr"),
        (["{slide}", "--out", "x.zarr", "--nonsense"], 2, "--nonsense"),
        (["{slide}", "--out", "x.zarr", "--tile", "ten"], 2, "--tile"),
        (["{slide}", "--out", "x.zarr", "--overlap", "4096"], 2, "overlap"),
        (["{slide}", "--out", "x.zarr", "--precision", "fp8"], 2, "precision"),
        (["{slide}", "--out", "x.zarr", "--batch-size", "many"], 2, "batch-size"),
        (["{slide}", "--out", "x.zarr", "--slide-mpp", "half"], 2, "mpp 'half'"),
        (["{slide}", "--out", "x.zarr", "--tissue", "no-such.png"], 2, "no-such.png"),
        (["{slide}", "--out", "x.zarr", "--tissue-threshold", "0.6"], 2, "--tissue-threshold"),
        (
            ["{slide}", "--out", "x.zarr", "--tissue", "none", "--tissue-threshold", "0.02"],
            2,
            "goes with --tissue otsu",
        ),
        (["{slide}", "--out", "x.zarr", "--mpp-csv", "none.csv"], 2, "none.csv"),
        (["{slide}", "--out", "x.zarr", "--model", "gland-minni"], 2, "gland-mini"),
        (["{slide}", "--out", "x.zarr", "--model", "none.safetensors"], 2, "none.safetensors"),
        (["empty-folder", "--out", "x"], 2, "no slides"),
        (["no-such.svs", "--out", "x.zarr"], 1, "unreadable"),
        (["{slide}", "--out", "x.zarr", "--slide-mpp", "50"], 1, "implausible-mpp"),
    ],
)
def test_bad_input_is_one_line_and_an_exit_code(
    small, tmp_path, monkeypatch, capsys, arguments, code, words
):
    (tmp_path / "empty-folder").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["wsi-segment", *(w.format(slide=small) for w in arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == code
    lines = capsys.readouterr().err.splitlines()
    errors = [line for line in lines if not line.startswith(("note:", "warning:"))]
    assert len(errors) == 1, lines
    assert errors[0].startswith("error: ")
    assert words in errors[0]
    assert not (tmp_path / "x.zarr").exists()


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_stopping_is_clean(small, tmp_path, kind):
    words = [
        *COMMAND,
        str(small),
        "--out",
        str(tmp_path / "s.zarr"),
        "--mpp",
        "0.1",
        "--overlap",
        "900",
    ]
    process = subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # What runs the tests in the background may have SIGINT ignored, which children inherit.
        preexec_fn=lambda: signal.signal(kind, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "s.zarr.partial").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.kill(process.pid, kind)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert last_line(errors).startswith(f"error: {small}: interrupted: ")
    assert ("Ctrl-C again stops at once" in errors) == (kind == signal.SIGINT)
    assert "Traceback" not in errors
    assert not (tmp_path / "s.zarr").exists()
    assert not (tmp_path / "s.geojson").exists()
    assert not (tmp_path / "s.zarr.claim").exists()


def test_a_real_slide_with_wrong_mpp_is_refused_then_mended(run, real_slides, tmp_path):
    path = real_slides / "CMU-1-Small-Region.jpeg.tiff"
    if not path.exists():
        pytest.skip("this data has no slide with a wrong mpp")
    code, _, said = run(path, "--out", tmp_path / "a.zarr")
    assert code == 1
    assert "implausible-mpp" in said
    assert list(tmp_path.iterdir()) == []
    how = ("--slide-mpp", "0.499", "--mpp", "4", "--json")
    code, told, said = run(path, "--out", tmp_path / "a.zarr", *how)
    assert code == 0
    assert json.loads(last_line(told))["slides"][0]["result"]["mpp"]["source"] == "flag"
    assert "warning: mpp 0.499" in said
