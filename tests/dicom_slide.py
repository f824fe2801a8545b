"""A DICOM slide that OpenSlide opens: one uncompressed level, in tiles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from imagecodecs import jpeg_encode
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit, generate_uid

WHOLE_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"
TILE = 256


def write_dicom(path: Path, pixels: np.ndarray, *, series: str, mpp: float) -> Path:
    """Write uint8 (height, width, 3), both multiples of 256, as the level of a series."""
    height, width, _ = pixels.shape
    one = Dataset()
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = WHOLE_SLIDE
    one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    one.SeriesInstanceUID, one.StudyInstanceUID = series, generate_uid()
    one.Modality = "SM"
    one.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    one.TotalPixelMatrixColumns, one.TotalPixelMatrixRows = width, height
    one.TotalPixelMatrixFocalPlanes, one.NumberOfOpticalPaths = 1, 1
    one.Rows = one.Columns = TILE
    one.SamplesPerPixel, one.PlanarConfiguration = 3, 0
    one.PhotometricInterpretation = "YBR_FULL_422"
    one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 8, 8, 7, 0
    one.DimensionOrganizationType = "TILED_FULL"
    measures, shared = Dataset(), Dataset()
    measures.PixelSpacing = [mpp / 1000, mpp / 1000]
    shared.PixelMeasuresSequence = [measures]
    one.SharedFunctionalGroupsSequence = [shared]
    tiles = [
        jpeg_encode(np.ascontiguousarray(pixels[y : y + TILE, x : x + TILE]), level=90)
        for y in range(0, height, TILE)
        for x in range(0, width, TILE)
    ]
    one.NumberOfFrames = len(tiles)
    one.PixelData = encapsulate(tiles)
    one["PixelData"].VR = "OB"
    path.parent.mkdir(parents=True, exist_ok=True)
    one.save_as(path, enforce_file_format=True)
    return path
