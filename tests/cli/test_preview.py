"""``wsi-segment --preview``: what it tells, what it draws, and what it leaves alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tifffile
from command_line import ended
from PIL import Image
from terminal import WIDTHS, check_screen, on_terminal

from wsi_sampath.cli.segment import main

SIDE = 700
GREY = (240, 238, 242)


def write_slide(path, *, mpp=1.0, objective=None, stained=True):
    """A stained square on glass."""
    rgb = np.full((SIDE, SIDE, 3), GREY, np.uint8)
    if stained:
        noise = np.random.default_rng(5).integers(-20, 20, (300, 300, 1))
        rgb[100:400, 100:400] = (np.array((120, 70, 150)) + noise).clip(0, 255)
    per_cm = 1e4 / mpp if mpp else 72
    size = {"resolution": (per_cm, per_cm), "resolutionunit": "CENTIMETER" if mpp else "INCH"}
    said = f"Aperio Image |AppMag = {objective}" if objective else None
    tifffile.imwrite(
        path, rgb, tile=(256, 256), photometric="rgb", metadata=None, description=said, **size
    )
    return path


@pytest.fixture
def run(command, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    return command(main, "wsi-segment", "--preview")


SCREEN = """\
s.tif
  size       700 x 700 px, 0.7 x 0.7 mm, read by tiff
  levels     0: 700 x 700 px, downsample 1, which the run reads
  mpp        1 um (TIFF resolution tags)
  model      gland-mini (sam_path), made for 1 um per pixel, sees 1 um; tiles of 256 px that overlap by 64 px
  tissue     0.106 of 0.49 mm2 (21.6 %), above an optical density of 0.035 (found on the slide)
  tiles      6 of 16 tiles to analyse
  region     the whole slide
  s.preview.png
"""  # noqa: E501 - a line of the screen


def test_one_slide_without_torch(tmp_path):
    write_slide(tmp_path / "s.tif")
    code = (
        "import sys; from wsi_sampath.cli.segment import main\n"
        "sys.argv = ['wsi-segment', 's.tif', '--preview', '--tile', '256']\n"
        "try: main()\n"
        "finally: assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == SCREEN
    assert sorted(os.listdir(tmp_path)) == ["s.preview.png", "s.tif"]
    with Image.open(tmp_path / "s.preview.png") as picture:
        assert picture.format == "PNG"
        assert picture.width >= SIDE


def test_every_source_of_the_mpp_is_told(run, tmp_path):
    write_slide(tmp_path / "s.tif", mpp=1.0, objective=10)
    (tmp_path / "mpp.csv").write_text("wsi,mpp\ns.tif,0.8\n")
    code, told, said = run("s.tif", "--slide-mpp", "0.8", "--mpp-csv", "mpp.csv", "--json")
    assert code == 0
    (facts,) = json.loads(told)
    assert [(one["source"], one["x"], one["agrees"]) for one in facts["mpp_sources"]] == [
        ("--slide-mpp", 0.8, True),
        ("the mpp CSV", 0.8, True),
        ("TIFF resolution tags", pytest.approx(1.0), False),
    ]
    assert facts["mpp"]["origin"] == (
        "given by --slide-mpp, taken on your word: the file states 1 um (TIFF resolution tags)"
    )
    assert facts["objective"] == 10
    assert "             TIFF resolution tags: 1 um, differs\n" in said
    assert "             the mpp CSV: 0.8 um, agrees\n" in said


def test_a_slide_that_would_fail_is_one_line_and_the_others_go_on(run, tmp_path):
    for folder in ("in/a", "in/b"):
        (tmp_path / folder).mkdir(parents=True)
    write_slide(tmp_path / "in/a/none.tif", mpp=None, objective=40)
    write_slide(tmp_path / "in/b/bare.tif", stained=False)
    write_slide(tmp_path / "in/good.tif")
    (tmp_path / "in/torn.svs").write_bytes(b"garbage" * 100)
    code, told, said = run("in", "--out", "out", "--json", "--tile", "256")
    assert code == 1
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(errors) == 3
    assert "no-mpp" in errors[0]
    assert "it names a 40x objective, so about 0.25 um" in errors[0]
    assert "no-tissue" in errors[1]
    assert "unreadable" in errors[2] or "unreadable" in errors[1]
    failed = {one["slide"]: one["error"] for one in json.loads(told)}
    assert [error is None for error in failed.values()].count(True) == 1
    # What has no scale, or no tissue, can be looked at all the same.
    out = tmp_path / "out"
    pictures = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.*"))
    assert pictures == ["a/none.preview.png", "b/bare.preview.png", "good.preview.png"]


def test_a_picture_that_is_not_ours_stays(run, tmp_path):
    write_slide(tmp_path / "s.tif")
    Image.new("RGB", (8, 8)).save(tmp_path / "s.preview.png")
    before = (tmp_path / "s.preview.png").read_bytes()
    code, told, said = run("s.tif", "--out", "s.zarr")
    assert code == 1
    assert "not ours" in said
    assert "tissue" in told
    assert (tmp_path / "s.preview.png").read_bytes() == before
    os.remove(tmp_path / "s.preview.png")
    assert run("s.tif", "--out", "s.zarr")[0] == run("s.tif", "--out", "s.zarr")[0] == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--model", "gland-minni"), "gland-mini"),
        (("--tile", "128", "--overlap", "128"), "overlap"),
        (("--tissue", "no-such.png"), "no-such.png"),
    ],
)
def test_what_a_run_refuses_a_preview_refuses(run, tmp_path, words, said):
    write_slide(tmp_path / "s.tif")
    code, told, error = run("s.tif", *words)
    assert (code, told) == (2, "")
    assert said in error


def test_without_a_preview_the_result_needs_a_place(command, tmp_path):
    code, _, said = command(main, "wsi-segment")(tmp_path / "s.tif")
    assert code == 2
    assert "--out" in said


@pytest.mark.parametrize("width", WIDTHS)
def test_the_screen_of_a_region(tmp_path, monkeypatch, width):
    write_slide(tmp_path / "s.tif", mpp=0.25, objective=10)
    monkeypatch.chdir(tmp_path)
    words = ("s.tif", "--preview", "--region", "0", "0", "500.5", "400")
    with on_terminal(monkeypatch, width) as terminal:
        code = ended(monkeypatch, main, "wsi-segment", *words, "--tissue-threshold", "0.02")
    assert code == 0
    check_screen("preview", width, terminal.text())


def test_silence(run, tmp_path):
    write_slide(tmp_path / "s.tif")
    assert run("s.tif", "-q") == (0, "", "")
    assert (tmp_path / "s.preview.png").exists()


def test_a_preview_and_a_dry_run_are_not_asked_for_together(run, tmp_path):
    code, _, said = run(str(write_slide(tmp_path / "s.tif")), "--dry-run")
    assert code == 2
    assert "--preview and --dry-run both run nothing; give one of them" in said
    assert not list(tmp_path.glob("*.png"))
