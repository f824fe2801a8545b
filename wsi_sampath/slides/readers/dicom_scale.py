"""The scale of a DICOM series as each of its instances states it.

OpenSlide reports only the spacing of level 0. The lower levels show the same extent, so each of
them states the scale once more (PS3.3 C.7.6.16.2.1, Pixel Measures).
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

from wsi_sampath.slides.mpp import differs
from wsi_sampath.slides.readers.base import BROKEN_TIFF
from wsi_sampath.slides.readers.tiff_scale import Statement
from wsi_sampath.slides.slide_fingerprint import slide_files

_PER_FRAME = 0x52009230
_LARGEST_VALUE = 1 << 16
_MOST_FILES = 64
# For smaller levels, rounding of their size alone exceeds half a per cent.
_LEAST_PX = 200


def dicom_statements(path: Path, size: tuple[int, int]) -> tuple[Statement, ...]:
    """Read um per level-0 pixel from every volume instance of a series.

    Parameters
    ----------
    path
        Any instance.
    size
        (width, height) of level 0.

    Returns
    -------
    tuple of Statement
        None of instances that cannot be read or state nothing.
    """
    files = sorted(file for file, _ in slide_files(path))[:_MOST_FILES]
    found: list[Statement] = []
    for file in files:
        header = _header(file)
        if header is not None:
            found += _of_instance(file, header, size)
    return tuple(found)


def _header(path: Path) -> Any:
    from pydicom.errors import BytesLengthException, InvalidDicomError
    from pydicom.filereader import read_partial

    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    try:
        with path.open("rb") as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return read_partial(
                stream, lambda tag, _vr, _length: tag >= _PER_FRAME, defer_size=_LARGEST_VALUE
            )
    except (InvalidDicomError, BytesLengthException, MemoryError, *BROKEN_TIFF):
        return None


def _of_instance(path: Path, header: Any, size: tuple[int, int]) -> list[Statement]:
    try:
        kinds = {str(kind).upper() for kind in header.get("ImageType") or ()}
        if "VOLUME" not in kinds:
            return []
        pixels = int(header.TotalPixelMatrixColumns), int(header.TotalPixelMatrixRows)
        found = [_spacing(path, header, pixels, size)]
        if pixels == size:
            found.append(_volume(path, header, size))
    except BROKEN_TIFF:
        return []
    return [value for value in found if value is not None]


def _spacing(
    path: Path, header: Any, pixels: tuple[int, int], size: tuple[int, int]
) -> Statement | None:
    groups = header.get("SharedFunctionalGroupsSequence")
    measures = groups[0].get("PixelMeasuresSequence") if groups else None
    spacing = measures[0].get("PixelSpacing") if measures else None
    if min(pixels) < _LEAST_PX and pixels != size:
        return None
    if not spacing or len(spacing) != 2 or min(map(float, spacing)) <= 0:
        return None
    # Between rows first, then between columns, in mm.
    y, x = (float(number) * 1e3 for number in spacing)
    return Statement(
        f"PixelSpacing of {path.name}", x * pixels[0] / size[0], y * pixels[1] / size[1]
    )


def _volume(path: Path, header: Any, size: tuple[int, int]) -> Statement | None:
    """Read the extent of the volume, unless its shape shows that it belongs to something else."""
    width, height = (float(header.get(f"ImagedVolume{side}") or 0) for side in ("Width", "Height"))
    x, y = 1e3 * width / size[0], 1e3 * height / size[1]
    if min(x, y) <= 0 or differs(x, y):
        return None
    return Statement(f"ImagedVolume of {path.name}", x, y)
