"""Lists of slides: plain text, CSV, and the manifests of the Genomic Data Commons (GDC)."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from wsi_sampath.errors import UsageError, WsiError
from wsi_sampath.slides.mpp import parse_mpp

LIST_SUFFIXES = frozenset({".txt", ".csv", ".tsv"})
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
    ]
)
_PATH_COLUMNS = ("slide", "wsi", "path", "filename", "file")
_MANIFEST_COLUMNS = {"id", "filename", "md5", "size"}


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
        True (x, y) um per level-0 pixel, where a list tells.
    output
        The zarr below the output folder, where a list tells.
    """

    slide: Path
    relative: Path
    mpp: tuple[float, float] | None = None
    output: Path | None = None


def is_list(path: Path) -> bool:
    """Tell whether a path is a list of slides, by its name."""
    return path.suffix.lower() in LIST_SUFFIXES


def read_list(path: Path) -> list[Found]:
    """Read a list of slides; relative paths are seen from the list's own folder.

    Parameters
    ----------
    path
        One path a line (``#`` starts a comment line); a table with a column ``slide`` (or ``wsi``,
        ``path``, ``filename``, ``file``) and, if wanted, ``mpp`` and ``output``; or a GDC manifest,
        whose files lie as ``ID/FILENAME`` beside it.

    Raises
    ------
    UsageError
        Where the file can't be read, lacks a column, or has an mpp or output that can't be.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the list: {error}", subject=str(path)) from None
    header = lines[0] if lines else ""
    if set(header.lower().split("\t")) >= _MANIFEST_COLUMNS:
        return _read_manifest(lines, path)
    if path.suffix.lower() == ".txt":
        named = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
        return [_found(path, name) for name in named]
    return _read_table(lines, path, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")


def _found(path: Path, name: str) -> Found:
    return Found(path.parent / name, Path(Path(name).name))


def _read_manifest(lines: list[str], path: Path) -> list[Found]:
    rows = csv.DictReader([lines[0].lower(), *lines[1:]], delimiter="\t")
    found = []
    for row in rows:
        relative = Path(row["id"] or "") / (row["filename"] or "")
        if relative.suffix.lower() not in SLIDE_SUFFIXES:
            continue
        flat = path.parent / relative.name
        in_folder = path.parent / relative
        use_flat = flat.exists() and not in_folder.exists()
        found.append(Found(flat if use_flat else in_folder, relative))
    return found


def _read_table(lines: list[str], path: Path, *, delimiter: str) -> list[Found]:
    reader = csv.DictReader(lines, delimiter=delimiter)
    columns = [name for name in _PATH_COLUMNS if name in (reader.fieldnames or ())]
    if not columns:
        raise UsageError(f"the CSV needs a column {' or '.join(_PATH_COLUMNS)}", subject=str(path))
    rows = [{k: (v or "").strip() for k, v in row.items() if k} for row in reader]
    return [_row(row, row[columns[0]], path) for row in rows if row[columns[0]]]


def _row(row: dict[str, str], name: str, path: Path) -> Found:
    plain = _found(path, name)
    try:
        mpp = parse_mpp(row["mpp"]) if row.get("mpp") else None
    except WsiError as error:
        raise UsageError(error.message, subject=f"{path}: {name}") from None
    output = Path(row["output"]) if row.get("output") else None
    if output is not None and (output.is_absolute() or ".." in output.parts):
        message = f"the output {row['output']!r} must lie below --out: give it as a relative path"
        raise UsageError(message, subject=f"{path}: {name}")
    return Found(plain.slide, plain.relative, mpp, output)
