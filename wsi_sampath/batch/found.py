"""What a command line, a folder or a list names as a slide, and what cannot be a slide."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path

SLIDE_SUFFIXES = frozenset(
    [
        ".svs",
        ".svslide",
        ".tif",
        ".tiff",
        ".ndpi",
        ".mrxs",
        ".scn",
        ".vms",
        ".vmu",
        ".bif",
        ".qptiff",
        # Slides too, of scanners whose files no reader here may support: they fail by name.
        ".czi",
        ".vsi",
        ".isyntax",
        ".i2syntax",
        ".kfb",
        ".sdpc",
        ".tmap",
    ]
)
DICOM_SUFFIXES = frozenset({".dcm", ".dicom"})
# GDC's client, browsers and copying programs write these until a file is complete.
_UNFINISHED = frozenset({".partial", ".part", ".tmp", ".crdownload", ".filepart", ".parcel"})
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_DICOM_MARK = slice(128, 132)


@dataclass(frozen=True)
class Found:
    """A slide that was named or found.

    Attributes
    ----------
    slide
        The file.
    relative
        Its path below the folder or list that named it; the output mirrors it.
    mpp
        True (x, y) um per level-0 pixel, where a list states it.
    output
        The zarr below the output folder, where a list names it.
    fault
        Why it cannot be a slide, one sentence; empty where opening it is worth a try.
    """

    slide: Path
    relative: Path
    mpp: tuple[float, float] | None = None
    output: Path | None = None
    fault: str = ""


def fault_of(path: Path) -> str:
    """Return why a path does not lead to a readable file; empty where it may.

    A plain path to nothing is left to the reader, which may find the file when its turn comes.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return _dangling(path) if path.is_symlink() else ""
    except ValueError:
        return "its name holds a NUL byte; was the list written by a broken program?"
    except OSError as error:
        return _unreachable(error)
    if stat.S_ISDIR(mode):
        return "it is a folder without DICOM files; name its slides, or give it as INPUT"
    return "" if stat.S_ISREG(mode) else "it is not a regular file but a pipe, socket or device"


def _dangling(link: Path) -> str:
    return f"the link leads to {os.readlink(link)}, which is not there; is its disk mounted?"


def _unreachable(error: OSError) -> str:
    if error.errno == errno.ELOOP:
        return "the link leads round in a circle; set it anew"
    if error.errno == errno.ENAMETOOLONG:
        return "its name is longer than any file system takes"
    return f"it cannot be reached: {error.strerror or error}"


def kind_of(path: Path) -> str:
    """Return what a regular file is: ``"slide"``, ``"dicom"`` or ``"other"``.

    By its suffix, else by being a tiled TIFF or a DICOM file. A broken file with the suffix of a
    slide counts as one, so that the batch names it as failed.
    """
    suffix = path.suffix.lower()
    if suffix in SLIDE_SUFFIXES:
        return "slide"
    if suffix in DICOM_SUFFIXES:
        return "dicom"
    return "other" if suffix in _UNFINISHED else _kind_by_content(path)


def is_slide(path: Path) -> bool:
    """Return whether a file is a slide of one file; see `kind_of`."""
    return path.is_file() and kind_of(path) == "slide"


def _kind_by_content(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            start = stream.read(_DICOM_MARK.stop)
    except OSError:
        return "other"
    if start[_DICOM_MARK] == b"DICM":
        return "dicom"
    return "slide" if start[:4] in _TIFF_STARTS and _is_tiled_tiff(path) else "other"


def _is_tiled_tiff(path: Path) -> bool:
    from wsi_sampath.slides.readers.base import BROKEN_TIFF, tiff_file

    try:
        with tiff_file(path) as tiff:
            return bool(tiff.pages[0].is_tiled)
    except BROKEN_TIFF:
        return False
