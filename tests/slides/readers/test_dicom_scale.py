"""Every instance of a DICOM series states the scale: contradictions among them are said."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from wsi_sampath.slides.readers.dicom_scale import dicom_statements
from wsi_sampath.slides.readers.metadata import SlideMetadata
from wsi_sampath.slides.readers.stated_scale import stated_scale

SIZE = (2048, 1536)
SERIES = generate_uid()


def instance(
    path: Path, factor: int, spacing: tuple[float, float] | None, volume: float = 0.0005
) -> Path:
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.77.1.6"
    header.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.SOPClassUID = header.file_meta.MediaStorageSOPClassUID
    header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID
    header.SeriesInstanceUID = SERIES
    header.ImageType = ["DERIVED", "PRIMARY", "VOLUME", "RESAMPLED"]
    header.TotalPixelMatrixColumns = SIZE[0] // factor
    header.TotalPixelMatrixRows = SIZE[1] // factor
    header.ImagedVolumeWidth, header.ImagedVolumeHeight = SIZE[0] * volume, SIZE[1] * volume
    measures, groups = Dataset(), Dataset()
    if spacing is not None:
        measures.PixelSpacing = list(spacing)
    groups.PixelMeasuresSequence = Sequence([measures])
    header.SharedFunctionalGroupsSequence = Sequence([groups])
    header.save_as(path, enforce_file_format=True)
    return path


def stated(path: Path, mpp: tuple[float, float] | None = (0.5, 0.5)):
    return stated_scale(path, "openslide", SlideMetadata((SIZE,), mpp, vendor="dicom"))


def test_instances_that_agree_say_nothing(tmp_path):
    path = instance(tmp_path / "0.dcm", 1, (0.0005, 0.0005))
    instance(tmp_path / "1.dcm", 4, (0.002, 0.002))
    assert stated(path).mpp == (0.5, 0.5)
    assert stated(path).warnings == ()


def test_a_lower_level_of_another_spacing_is_said(tmp_path):
    path = instance(tmp_path / "0.dcm", 1, (0.0005, 0.0005))
    instance(tmp_path / "1.dcm", 4, (0.004, 0.004))
    (said,) = stated(path).warnings
    assert "PixelSpacing of 1.dcm 1 um" in said
    assert "taken: 0.5 um" in said


def test_a_volume_of_another_extent_is_said(tmp_path):
    path = instance(tmp_path / "0.dcm", 1, (0.0005, 0.0005), volume=0.00025)
    assert "ImagedVolume of 0.dcm 0.25 um" in stated(path).warnings[0]


def test_without_spacing_in_level_0_the_others_count(tmp_path):
    path = instance(tmp_path / "0.dcm", 1, None, volume=0.0)
    instance(tmp_path / "1.dcm", 4, (0.002, 0.001))
    # The spacing between rows comes first.
    assert stated(path, None).mpp == pytest.approx((0.25, 0.5))


def test_broken_and_foreign_files_are_passed_over(tmp_path):
    path = instance(tmp_path / "0.dcm", 1, (0.0005, 0.0005))
    data = path.read_bytes()
    (tmp_path / "cut.dcm").write_bytes(data[: len(data) * 2 // 3])
    (tmp_path / "none.dcm").write_bytes(b"nothing")
    assert len(dicom_statements(path, SIZE)) == 2
