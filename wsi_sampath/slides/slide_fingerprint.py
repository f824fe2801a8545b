"""The fingerprint of a slide's content, including the files that belong to its main one."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

from wsi_sampath.errors import WsiError
from wsi_sampath.fingerprint import file_state, sampled_digest
from wsi_sampath.slides.remote.place import RemotePath

_INDEX_BYTES = 1 << 20
_DICOM_HEAD_BYTES = 1 << 16
# Tag (0020,000E) SeriesInstanceUID with its VR, as every transfer syntax of slides stores it.
_SERIES = re.compile(rb"\x20\x00\x0e\x00UI..([0-9.]{1,64})", re.DOTALL)


def slide_fingerprint(path: Path) -> str:
    """Return a sha256 of a slide's content, in hexadecimal; its name and place do not count.

    Every file of the slide counts with its size and samples of its content (see
    `sampled_digest`): a MIRAX file's folder, the other instances of a DICOM series, the images that
    a Hamamatsu index names, all files of a slide that is a folder. Unchanged files are read once
    per process.

    Raises
    ------
    WsiError
        ``unreadable`` where a file cannot be read.
    """
    try:
        files = [(file, name, file_state(file)) for file, name in slide_files(path)]
        return _fingerprint(tuple(files))
    except OSError as error:
        message = f"a file of it cannot be read ({error.strerror or error}); copy it again"
        raise WsiError("unreadable", message, subject=str(path)) from error


@lru_cache(maxsize=4096)
def _fingerprint(files: tuple[tuple[Path, str, tuple[int, ...]], ...]) -> str:
    if len(files) == 1:
        return sampled_digest(files[0][0])
    digest = hashlib.sha256()
    # Sorted, so that any instance of a DICOM series stands for the whole.
    for name, content in sorted((name, sampled_digest(file)) for file, name, _ in files):
        digest.update(f"{name}\0{content}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def slide_files(path: Path) -> list[tuple[Path, str]]:
    """Return the files of a slide, each with a name within the slide that survives renaming."""
    if path.is_dir():
        return [(file, file.relative_to(path).as_posix()) for file in _below(path)]
    # On a server a slide is one file.
    own = not isinstance(path, RemotePath)
    companions = _COMPANIONS.get(path.suffix.lower()) if own else None
    return [(path, ""), *(companions(path) if companions else ())]


def _below(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))


def _mirax(path: Path) -> Iterator[tuple[Path, str]]:
    folder = path.with_suffix("")
    for file in _below(folder) if folder.is_dir() else ():
        yield file, file.relative_to(folder).as_posix()


def _dicom(path: Path) -> Iterator[tuple[Path, str]]:
    series = _series_of(path)
    for file in sorted(path.parent.iterdir()) if series else ():
        known = file != path and file.suffix.lower() == ".dcm" and file.is_file()
        if known and _series_of(file) == series:
            yield file, ""


def _series_of(path: Path) -> bytes | None:
    with path.open("rb") as stream:
        found = _SERIES.search(stream.read(_DICOM_HEAD_BYTES))
    return found[1] if found else None


def _named_inside(path: Path) -> Iterator[tuple[Path, str]]:
    """Find the files that an index names: lines ``key=file``, or one name per line."""
    with path.open("rb") as stream:
        text = stream.read(_INDEX_BYTES).decode("latin-1")
    names = {line.partition("=")[2].strip() or line.strip() for line in text.splitlines()}
    for name in sorted(names - {""}):
        if "\0" not in name and len(name) < 256 and (path.parent / name).is_file():
            yield path.parent / name, name


_COMPANIONS: dict[str, Callable[[Path], Iterator[tuple[Path, str]]]] = {
    ".mrxs": _mirax,
    ".dcm": _dicom,
    ".vms": _named_inside,
    ".vmu": _named_inside,
    ".ndpis": _named_inside,
}
