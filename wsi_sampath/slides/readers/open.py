"""Opening a slide: the first reader that takes it and reads the right picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from wsi_sampath.errors import WsiError
from wsi_sampath.slides.readers.base import BROKEN_TIFF, Reader, RefusedError, TileError
from wsi_sampath.slides.readers.cross_check import checked
from wsi_sampath.slides.readers.file_checks import (
    FalseClaimError,
    check_claims,
    check_header,
    check_regular,
)
from wsi_sampath.slides.readers.openslide import OpenSlideReader
from wsi_sampath.slides.readers.shared import SharedReader
from wsi_sampath.slides.readers.tiff import TiffReader
from wsi_sampath.slides.readers.tiffslide import TiffSlideReader
from wsi_sampath.slides.remote.place import RemotePath

__all__ = [
    "BROKEN_TIFF",
    "READERS",
    "OpenSlideReader",
    "Reader",
    "TiffSlideReader",
    "TileError",
    "open_reader",
]


READERS: dict[str, Callable[[Path], Reader]] = {
    "tiff": TiffReader,
    "openslide": OpenSlideReader,
    "tiffslide": TiffSlideReader,
}
_FOR_ONE_THREAD = {"tiffslide"}


def open_reader(path: Path, *, reader: str = "auto", image: int | None = None) -> Reader:
    """Open a slide with the first reader that takes it, or with the named one.

    Parameters
    ----------
    path
        The slide; on a server the direct reader is the only one.
    reader
        ``"auto"``, or a key of `READERS`.
    image
        Number of the picture to read in a file of several; None reads the largest scan.

    Raises
    ------
    WsiError
        ``unreadable`` where the file is missing, empty or refused by all, with each one's reason;
        ``bad-input`` for an unknown reader name, or a picture that does not exist.
    """
    if isinstance(path, RemotePath) and reader not in ("auto", "tiff"):
        message = f"{reader} reads local files alone; leave --reader out, or download the slide"
        raise WsiError("bad-input", message, subject=str(path))
    if reader != "auto" and reader not in READERS:
        raise WsiError("bad-input", f"no reader {reader!r}; there are: auto, {', '.join(READERS)}")
    check_regular(path)
    try:
        check_header(path)
        return _open(path, reader, image)
    except RefusedError as error:
        raise WsiError("unreadable", str(error), subject=str(path)) from None
    except TileError as error:
        if isinstance(path, RemotePath):
            raise _not_from_a_server(path, error) from None
        advice = "is it a whole-slide image, fully copied?"
        reasons = f"no reader can open it ({error}); {advice}"
        raise WsiError("unreadable", reasons, subject=str(path)) from None
    except WsiError as error:
        raise error.about(str(path)) from None


def _not_from_a_server(path: RemotePath, error: TileError) -> WsiError:
    message = (
        "from a server only plain TIFFs are read (SVS, OME-TIFF, generic TIFF), and this is none "
        f"({error}); download it, and give the file"
    )
    return WsiError("unreadable", message, subject=str(path))


def _open(path: Path, reader: str, image: int | None) -> Reader:
    own, refusals = _own_view(path, image)
    if own is not None and reader in ("auto", "tiff"):
        return own
    if isinstance(path, RemotePath):
        raise TileError(refusals["tiff"])
    try:
        for name in READERS if reader == "auto" else (reader,):
            if name == "tiff":
                continue
            try:
                return _checked(name, path, own, image)
            except FalseClaimError:
                raise
            except TileError as error:
                refusals[name] = str(error)
    finally:
        if own is not None:
            own.close()
    raise TileError("; ".join(f"{k}: {v}" for k, v in refusals.items() if reader in ("auto", k)))


def _own_view(path: Path, image: int | None) -> tuple[TiffReader | None, dict[str, str]]:
    """Open the file directly, to check the other readers against it."""
    try:
        own = TiffReader(path, image)
    except RefusedError:
        raise
    except TileError as error:
        return None, {"tiff": str(error)}
    _hold(own, path)
    return own, {}


def _hold(opened: Reader, path: Path) -> None:
    """Check what a reader found against the file; close the reader where they disagree."""
    try:
        check_claims(path, opened.metadata.level_sizes)
    except FalseClaimError:
        opened.close()
        raise


def _checked(name: str, path: Path, own: TiffReader | None, image: int | None) -> Reader:
    opened = READERS[name](path)
    _hold(opened, path)
    try:
        if own is None and image:
            raise WsiError("bad-input", f"{opened.name} cannot pick image {image} of such a file")
        shared = SharedReader(opened, path) if name in _FOR_ONE_THREAD else opened
        return checked(shared, path, own)
    except (TileError, WsiError):
        opened.close()
        raise
