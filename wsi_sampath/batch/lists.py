"""Lists of slides: plain text, CSV, and the manifests of the Genomic Data Commons (GDC)."""

from __future__ import annotations

import codecs
import csv
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PureWindowsPath

from wsi_sampath.batch.dicom import find_series
from wsi_sampath.batch.found import DICOM_SUFFIXES, SLIDE_SUFFIXES, Found, fault_of, kind_of
from wsi_sampath.batch.record.table import unquoted
from wsi_sampath.errors import UsageError, WsiError
from wsi_sampath.slides.csv_tables import parse_table
from wsi_sampath.slides.mpp import parse_mpp
from wsi_sampath.slides.remote.address import as_address
from wsi_sampath.slides.remote.place import RemotePath, located

LIST_SUFFIXES = frozenset({".txt", ".csv", ".tsv"})
_PATH_COLUMNS = ("slide", "wsi", "path", "filename", "file")
_MANIFEST_COLUMNS = {"id", "filename", "md5", "size"}
_WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def is_list(path: Path) -> bool:
    """Tell whether a path is a list of slides, by its name."""
    return path.suffix.lower() in LIST_SUFFIXES and not isinstance(path, RemotePath)


def read_list(path: Path) -> list[Found]:
    """Read a list of slides; relative paths are seen from the list's own folder.

    Parameters
    ----------
    path
        One path or URL a line (``#`` starts a comment line); a table with a column ``slide`` (or
        ``wsi``, ``path``, ``filename``, ``file``) and, if wanted, ``mpp`` and ``output``, parted by
        commas or semicolons; or a GDC manifest, whose files lie as ``ID/FILENAME`` beside it.
        UTF-8, or UTF-16 with its mark; names in the bytes of an older system are tried as such.

    Returns
    -------
    list of Found
        What is named and cannot be a slide has its `Found.fault`.

    Raises
    ------
    UsageError
        Where the file can't be read, lacks a column, or has an mpp or output that can't be.
    """
    lines = _lines(path)
    header = lines[0] if lines else ""
    try:
        if set(header.lower().split("\t")) >= _MANIFEST_COLUMNS:
            return _read_manifest(lines, path)
        if path.suffix.lower() == ".txt":
            return [one for name in _named(lines, path) for one in _found(path, name)]
        return _read_table(lines, path)
    except csv.Error as error:
        message = f"cannot read the list: {error}; is it a table of text?"
        raise UsageError(message, subject=str(path)) from None


def _lines(path: Path) -> list[str]:
    """Return the lines of a list; bytes that are not UTF-8 stay as `os.fsdecode` has them."""
    try:
        content = path.read_bytes()
        if content.startswith(_WIDE):
            return content.decode("utf-16").splitlines()
        return content.decode("utf-8-sig", "surrogateescape").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the list: {error}", subject=str(path)) from None


def _named(lines: Sequence[str], path: Path) -> Iterator[str]:
    for line in lines:
        name = line.strip()
        is_comment = name.startswith("#") and not _is_there(path.parent / name)
        if name and not is_comment:
            yield name


def _found(path: Path, name: str) -> list[Found]:
    """Return what an entry of a list means: a slide, or the DICOM slides of a folder."""
    if as_address(plain := name.strip("\"'")) is not None:
        return [_on_server(path, plain)]
    slide = path.parent / _as_it_is_there(name, path.parent)
    fault = fault_of(slide)
    if fault and _is_folder(slide):
        files = [one for one in sorted(slide.iterdir()) if one.is_file()]
        dicom = [one for one in files if kind_of(one) == "dicom"]
        series = find_series(dicom, Path(slide.name)).slides
        if series:
            return series
    # On Windows and elsewhere: the last part of either kind of path.
    return [Found(slide, Path(PureWindowsPath(slide.name).name or slide.name), fault=fault)]


def _on_server(path: Path, name: str) -> Found:
    try:
        slide = located(name)
    except UsageError as error:
        raise UsageError(error.message, subject=f"{path}: {error.subject}") from None
    return Found(slide, Path(slide.name))


def _as_it_is_there(name: str, folder: Path) -> str:
    """Return the spelling of a name that leads to a file: as written, if none does."""
    spellings: list[Callable[[str], str]] = [
        str,
        lambda text: text.strip("\"'"),
        lambda text: text.replace("\\", "/"),
        lambda text: text.strip("\"'").replace("\\", "/"),
        # Of a list in the bytes of Western Windows.
        lambda text: text.encode("utf-8", "surrogateescape").decode("cp1252", "replace"),
    ]
    tried = dict.fromkeys(spell(name) for spell in spellings)
    return next((one for one in tried if _is_there(folder / one)), name)


def _is_there(path: Path) -> bool:
    try:
        return os.path.lexists(path)
    except ValueError:
        return False


def _is_folder(path: Path) -> bool:
    return os.path.isdir(path) and os.access(path, os.R_OK | os.X_OK)


def _read_manifest(lines: list[str], path: Path) -> list[Found]:
    rows = csv.DictReader([lines[0].lower(), *lines[1:]], delimiter="\t")
    found = []
    for row in rows:
        names = [(row[column] or "").strip() for column in ("id", "filename")]
        if not all(map(_is_plain, names)):
            message = "id and filename of a GDC manifest are names without folders, in every row"
            raise UsageError(message, subject=f"{path}: {' '.join(names)}")
        relative = Path(*names)
        if relative.suffix.lower() not in SLIDE_SUFFIXES | DICOM_SUFFIXES:
            continue
        flat = path.parent / relative.name
        in_folder = path.parent / relative
        use_flat = flat.exists() and not in_folder.exists()
        slide = flat if use_flat else in_folder
        found.append(Found(slide, relative, fault=fault_of(slide)))
    return found


def _is_plain(name: str) -> bool:
    return name not in ("", ".", "..") and not set(name) & set("/\\\0")


def _read_table(lines: list[str], path: Path) -> list[Found]:
    try:
        table = parse_table("\n".join(lines))
    except UsageError as error:
        raise error.about(str(path)) from None
    name = next((name for name in _PATH_COLUMNS if name in table.columns), None)
    if name is None:
        raise UsageError(f"the CSV needs a column {' or '.join(_PATH_COLUMNS)}", subject=str(path))
    named = [(row.cells, unquoted(row.cells[name])) for row in table.rows if row.cells[name]]
    comma = table.decimal_comma
    return [one for cells, slide in named for one in _row(cells, slide, path, comma)]


def _row(cells: dict[str, str], name: str, path: Path, decimal_comma: bool) -> list[Found]:
    subject = f"{path}: {name}"
    mpp = _mpp(cells["mpp"], subject, decimal_comma) if cells.get("mpp") else None
    output = _output(cells["output"], subject) if cells.get("output") else None
    found = _found(path, name)
    if output is not None and len(found) > 1:
        message = "the folder holds several slides, which need an output each: name their files"
        raise UsageError(message, subject=subject)
    return [Found(one.slide, one.relative, mpp, output, one.fault) for one in found]


def _mpp(text: str, subject: str, decimal_comma: bool) -> tuple[float, float]:
    try:
        return parse_mpp(text, decimal_comma=decimal_comma)
    except WsiError as error:
        raise UsageError(error.message, subject=subject) from None


def _output(text: str, subject: str) -> Path:
    output, windows = Path(text), PureWindowsPath(text)
    if output.is_absolute() or windows.drive or windows.root or ".." in windows.parts:
        message = f"the output {text!r} must lie below --out: give it as a relative path"
        raise UsageError(message, subject=subject)
    if not output.name or "\0" in text:
        raise UsageError(f"the output {text!r} is not the name of a zarr", subject=subject)
    inner = output.parts[:-1]
    if inner and (inner[0].startswith(".wsi_sampath") or any(p.endswith(".zarr") for p in inner)):
        message = f"the output {text!r} would lie among files of the batch or within another zarr"
        raise UsageError(message, subject=subject)
    return output
