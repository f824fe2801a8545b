"""DICOM: a series is a slide, whatever lies beside it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from wsi_sampath.batch.dicom import read_instance
from wsi_sampath.batch.discover import plan_batch
from wsi_sampath.batch.walk import search

WHOLE_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"
CT = "1.2.840.10008.5.1.4.1.1.2"


def write(
    path: Path, series: str, side: int, kind: str = "VOLUME", sop_class: str = WHOLE_SLIDE
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    one = Dataset()
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = sop_class
    one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    one.SeriesInstanceUID = series
    one.ImageType = ["ORIGINAL", "PRIMARY", kind, "NONE"]
    one.TotalPixelMatrixColumns = one.TotalPixelMatrixRows = side
    one.save_as(path, enforce_file_format=True)
    return path


def found(folder: Path) -> dict[str, str]:
    return {one.relative.as_posix(): one.fault for one in search(folder).found}


@pytest.fixture
def series(tmp_path) -> Path:
    """A series as archives deliver it: levels in any order, label, overview."""
    folder = tmp_path / "in" / "series"
    uid = generate_uid()
    write(folder / "0.dcm", uid, 600, "LABEL")
    write(folder / "1.dcm", uid, 250)
    write(folder / "2.dcm", uid, 1000)
    write(folder / "3.dcm", uid, 5000, "OVERVIEW")
    write(folder / "4.dcm", uid, 500, "THUMBNAIL")
    return folder


def test_a_series_is_one_slide_and_goes_by_its_largest_level(series, tmp_path):
    assert found(series) == {"2.dcm": ""}
    assert found(series.parent) == {"series/2.dcm": ""}
    (job,) = plan_batch([series.parent], tmp_path / "out").jobs
    assert job.zarr == tmp_path / "out" / "series" / "2.zarr"


def test_a_series_as_input_is_one_slide_where_the_output_is_a_zarr(series, tmp_path):
    plan = plan_batch([series], tmp_path / "out.zarr")
    assert plan.is_single
    assert [(job.slide.name, job.zarr.name) for job in plan.jobs] == [("2.dcm", "out.zarr")]


def test_several_series_in_one_folder_are_several_slides(series):
    write(series / "b0.dcm", generate_uid(), 700)
    write(series / "b1.dcm", generate_uid(), 800)
    assert found(series) == {"2.dcm": "", "b0.dcm": "", "b1.dcm": ""}


def test_files_without_a_suffix_are_known_by_their_content(series):
    for path in sorted(series.iterdir()):
        path.rename(path.with_name(f"1.2.840.{path.stem}"))
    assert found(series) == {"1.2.840.2.dcm": ""}


def test_levels_that_are_named_one_by_one_are_one_slide(series, tmp_path):
    jobs = plan_batch(sorted(series.iterdir()), tmp_path / "out").jobs
    assert [job.slide.name for job in jobs] == ["2.dcm"]
    (tmp_path / "l.txt").write_text("".join(f"{path}\n" for path in series.iterdir()))
    jobs = plan_batch([tmp_path / "l.txt"], tmp_path / "out").jobs
    assert [job.slide.name for job in jobs] == ["2.dcm"]


def test_a_list_may_name_the_folder_of_a_series(series, tmp_path):
    (tmp_path / "l.txt").write_text("in/series\n")
    (job,) = plan_batch([tmp_path / "l.txt"], tmp_path / "out").jobs
    assert (job.slide.name, job.fault) == ("2.dcm", "")


def test_what_is_damaged_fails_by_name_and_other_objects_are_others(series):
    (series / "cut.dcm").write_bytes((series / "2.dcm").read_bytes()[:150])
    (series / "text.dcm").write_text("no DICOM")
    (series / "empty.dcm").touch()
    write(series / "ct.dcm", generate_uid(), 512, sop_class=CT)
    faults = found(series)
    assert set(faults) == {"2.dcm", "cut.dcm", "text.dcm", "empty.dcm"}
    assert all("damaged" in fault for name, fault in faults.items() if name != "2.dcm")
    assert search(series).others == {".dcm": 1}


def test_a_label_alone_is_said(tmp_path):
    write(tmp_path / "label.dcm", generate_uid(), 600, "LABEL")
    searched = search(tmp_path)
    assert searched.found == []
    assert "no scan but only its label" in searched.notes[0]


def test_a_series_scattered_over_folders_is_said_and_copies_are_not(series, tmp_path):
    shutil.copytree(series, series.parent / "copy")
    assert found(series.parent) == {"series/2.dcm": "", "copy/2.dcm": ""}
    shutil.rmtree(series.parent / "copy")
    (series.parent / "rest").mkdir()
    (series / "1.dcm").rename(series.parent / "rest" / "1.dcm")
    faults = found(series.parent)
    assert faults["series/2.dcm"] == ""
    assert "one folder" in faults["rest/1.dcm"]


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 400), st.binary(min_size=1, max_size=8), st.integers(0, 600))
def test_damage_is_an_instance_or_none(tmp_path_factory, place, damage, length):
    path = write(tmp_path_factory.mktemp("d") / "a.dcm", "1.2.3", 1000)
    data = bytearray(path.read_bytes())
    data[place : place + len(damage)] = damage
    path.write_bytes(data[: max(1, len(data) - length)])
    instance = read_instance(path)
    assert instance is None or instance.pixels >= 0
