"""A folder that is a DICOM series, from the command line to the files."""

from __future__ import annotations

import numpy as np
import pytest
from command_line import ended
from dicom_slide import write_dicom
from pydicom.uid import generate_uid
from stub_network import make_stub

from wsi_sampath.cli import segment as command
from wsi_sampath.inference import segmenter
from wsi_sampath.outputs.result import open_result


@pytest.fixture
def said(monkeypatch, capfd):
    monkeypatch.setattr(segmenter, "load_from_settings", lambda _settings: make_stub())

    def said(*words):
        plain = ["--tissue", "none", "-j", "1", "--device", "cpu", "--no-report"]
        code = ended(monkeypatch, command.main, "wsi-segment", *words, *plain)
        told = capfd.readouterr()
        return code, told.out + told.err

    return said


def test_a_folder_of_one_series_is_one_slide_and_of_two_is_two(said, tmp_path):
    pixels = np.random.default_rng(0).integers(150, 250, (512, 768, 3), np.uint8)
    folder, series = tmp_path / "series", generate_uid()
    write_dicom(folder / "large.dcm", pixels, series=series, mpp=0.5)
    write_dicom(folder / "small.dcm", pixels[::2, ::3].copy(), series=series, mpp=1.0)
    code, told = said(folder, "--out", tmp_path / "a.zarr")
    assert (code, "large.dcm: done in" in told) == (0, True), told
    run = open_result(tmp_path / "a.zarr").attributes
    assert (run["reader"], run["slide"]["name"]) == ("openslide", "large.dcm")
    assert run["mpp"]["x"] == 0.5
    write_dicom(folder / "other.dcm", pixels[:256].copy(), series=generate_uid(), mpp=0.5)
    code, told = said(folder, "--out", tmp_path / "b.zarr")
    assert (code, "for several slides --out must be a folder" in told) == (2, True)
    code, told = said(folder, "--out", tmp_path / "both")
    assert (code, "2 done" in told) == (0, True), told
    assert sorted(p.name for p in (tmp_path / "both").glob("*.zarr")) == [
        "large.zarr",
        "other.zarr",
    ]
