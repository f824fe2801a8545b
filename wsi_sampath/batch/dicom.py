"""DICOM slides: files of one folder that belong to one series are one slide.

An archive delivers a slide as a folder of files, one per pyramid level, beside its label and
its overview. OpenSlide opens the series by any of its levels; which files belong together is said
in their headers (DICOM PS3.3, C.7.3.1 and C.8.12.4), read here up to the sizes and no further.
"""

from __future__ import annotations

import logging
import warnings
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wsi_sampath.batch.found import DICOM_SUFFIXES, Found
from wsi_sampath.shown import plural
from wsi_sampath.slides.remote.place import RemotePath

_WHOLE_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"
# All that is needed lies below this group; pixels and the offsets of a million tiles lie above.
_LAST_GROUP = 0x0048
_LARGEST_VALUE = 1 << 16
_NOT_THE_SCAN = frozenset({"LABEL", "OVERVIEW", "THUMBNAIL", "LOCALIZER"})


@dataclass(frozen=True)
class Instance:
    """One DICOM file.

    Attributes
    ----------
    path
        The file.
    series, uid
        SeriesInstanceUID and SOPInstanceUID; empty where it has none.
    is_slide
        Whether it holds a whole-slide image rather than another kind of object.
    is_scan
        Whether it is a level of the scan rather than label, overview or thumbnail.
    pixels
        Number of pixels of its whole plane.
    """

    path: Path
    series: str
    uid: str
    is_slide: bool
    is_scan: bool
    pixels: int


@dataclass
class SeriesFound:
    """What the DICOM files of one folder are.

    Attributes
    ----------
    slides
        One per series, and every broken file.
    others
        Files that do not belong to a slide.
    notes
        Sentences on what was left out.
    series
        Per series: its slide, and the SOPInstanceUIDs of its files.
    """

    slides: list[Found] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    series: list[tuple[str, Found, frozenset[str]]] = field(default_factory=list)


def read_instance(path: Path) -> Instance | None:
    """Read what a DICOM file is; None where it is broken or is not DICOM."""
    from pydicom.errors import BytesLengthException, InvalidDicomError
    from pydicom.filereader import read_partial

    from wsi_sampath.slides.readers.open import BROKEN_TIFF

    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    try:
        with path.open("rb") as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header = read_partial(stream, _is_past, defer_size=_LARGEST_VALUE)
            instance = _instance(path, header)
    # The parser meets damage with the same kinds of errors as those of TIFF do.
    except (InvalidDicomError, BytesLengthException, EOFError, MemoryError, *BROKEN_TIFF):
        return None
    is_whole = instance.pixels > 0 and instance.series if instance.is_slide else instance.uid
    return instance if is_whole else None


def _is_past(tag: Any, _vr: str | None, _length: int) -> bool:
    return bool(tag.group > _LAST_GROUP)


def _instance(path: Path, header: Any) -> Instance:
    kinds = {str(kind).upper() for kind in header.get("ImageType") or ()}
    columns = header.get("TotalPixelMatrixColumns") or header.get("Columns") or 0
    rows = header.get("TotalPixelMatrixRows") or header.get("Rows") or 0
    return Instance(
        path,
        series=str(header.get("SeriesInstanceUID") or ""),
        uid=str(header.get("SOPInstanceUID") or ""),
        is_slide=str(header.get("SOPClassUID") or "") == _WHOLE_SLIDE,
        is_scan=not kinds & _NOT_THE_SCAN,
        pixels=int(columns) * int(rows),
    )


def find_series(paths: Sequence[Path], relative: Path) -> SeriesFound:
    """Group the DICOM files of one folder by series.

    Parameters
    ----------
    paths
        The files.
    relative
        The folder, relative to what names it; see `Found.relative`.

    Returns
    -------
    SeriesFound
        Each series as a slide, which is its largest level.
    """
    found = SeriesFound()
    by_series = defaultdict[str, list[Instance]](list)
    for path in sorted(paths):
        instance = read_instance(path)
        if instance is None:
            fault = "the DICOM file is damaged or cut off; copy it again"
            found.slides.append(Found(path, relative / _named(path), fault=fault))
        elif instance.is_slide:
            by_series[instance.series].append(instance)
        else:
            found.others.append(path)
    for series, instances in by_series.items():
        _add_series(found, series, instances, relative)
    return found


def _add_series(found: SeriesFound, series: str, instances: list[Instance], relative: Path) -> None:
    first = _largest(instances)
    if not first.is_scan:
        found.others += [one.path for one in instances]
        count = plural(len(instances), "file")
        found.notes.append(
            f"{first.path.parent}: the DICOM series {series} holds no scan but only its label or "
            f"overview ({count}, such as {first.path.name}); nothing of it is analysed"
        )
        return
    slide = Found(first.path, relative / _named(first.path))
    found.slides.append(slide)
    found.series.append((series, slide, frozenset(one.uid for one in instances)))


def _largest(instances: Iterable[Instance]) -> Instance:
    return max(instances, key=lambda one: (one.is_scan, one.pixels))


def _named(path: Path) -> str:
    """Return a file's name with a suffix: archives also name files ``1.2.840.10008.7``."""
    return path.name if path.suffix.lower() in DICOM_SUFFIXES else f"{path.name}.dcm"


def scattered(series: Sequence[tuple[str, Found, frozenset[str]]]) -> dict[Path, str]:
    """Find the parts of series whose files lie in several folders.

    Returns
    -------
    dict
        Fault by slide, for all parts but the largest. Complete copies of a series are not parts.
    """
    by_uid = defaultdict[str, list[tuple[Found, frozenset[str]]]](list)
    for uid, slide, files in series:
        by_uid[uid].append((slide, files))
    faults = {}
    for parts in (parts for parts in by_uid.values() if len(parts) > 1):
        slides = {slide.slide: read_instance(slide.slide) for slide, _ in parts}
        whole = _largest(one for one in slides.values() if one is not None)
        files = next(files for slide, files in parts if slide.slide == whole.path)
        for slide, others in parts:
            if slide.slide != whole.path and not others <= files:
                faults[slide.slide] = (
                    "it is a part of the DICOM series of which another lies in "
                    f"{whole.path.parent}; put all files of a series into one folder"
                )
    return faults


def one_per_series(found: Sequence[Found]) -> list[Found]:
    """Keep one of the DICOM files of each series among those that were named one at a time."""
    named = [one for one in found if not one.fault and _is_dicom(one.slide)]
    if len(named) < 2:
        return list(found)
    groups = defaultdict[tuple[Path, str], list[Instance]](list)
    for path in dict.fromkeys(one.slide for one in named):
        instance = read_instance(path)
        if instance is not None and instance.is_slide:
            groups[path.parent, instance.series].append(instance)
    dropped = {
        instance.path
        for instances in groups.values()
        for instance in instances
        if instance.path != _largest(instances).path
    }
    return [one for one in found if one.slide not in dropped]


def _is_dicom(path: Path) -> bool:
    return path.suffix.lower() in DICOM_SUFFIXES and not isinstance(path, RemotePath)
