"""Find the slides that a command line means, and name their outputs."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from wsi_sampath.errors import UsageError

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
_LISTS = frozenset({".txt", ".csv"})
_PATH_COLUMNS = ("slide", "wsi", "path", "filename", "file")


@dataclass(frozen=True)
class Job:
    """One slide and the zarr it becomes."""

    slide: Path
    zarr: Path


def plan_jobs(inputs: Sequence[Path], out: Path) -> list[Job]:
    """Pair every slide with its output.

    Parameters
    ----------
    inputs
        Slides, folders (searched recursively) and ``.txt`` or ``.csv`` lists.
    out
        ``NAME.zarr`` for a single slide; else a folder that mirrors the inputs' relative paths.

    Raises
    ------
    UsageError
        Where nothing is found, a list is unusable, or `out` does not fit the number of slides.
    """
    if len(inputs) == 1 and _is_single(inputs[0]):
        if out.suffix != ".zarr":
            raise UsageError("for one slide --out must be NAME.zarr", subject=str(out))
        return [Job(inputs[0], out)]
    found = [pair for path in inputs for pair in _expand(path)]
    if not found:
        raise UsageError("no slides were found", subject=", ".join(map(str, inputs)))
    if out.suffix == ".zarr":
        raise UsageError("for several slides --out must be a folder", subject=str(out))
    return [Job(slide, out / name) for slide, name in _distinct(found)]


def _is_single(path: Path) -> bool:
    return not path.is_dir() and path.suffix.lower() not in _LISTS


def _expand(path: Path) -> list[tuple[Path, Path]]:
    if path.is_dir():
        slides = (p for p in path.rglob("*") if _is_slide(p))
        return [(p, p.relative_to(path)) for p in sorted(slides)]
    if path.suffix.lower() in _LISTS:
        return [(p, Path(p.name)) for p in _read_list(path)]
    return [(path, Path(path.name))]


def _is_slide(path: Path) -> bool:
    hidden = any(part.startswith(".") or part == "logs" for part in path.parts)
    return path.suffix.lower() in SLIDE_SUFFIXES and path.is_file() and not hidden


def _read_list(path: Path) -> list[Path]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the list: {error}", subject=str(path)) from None
    if path.suffix.lower() == ".csv":
        names = _csv_column(lines, path)
    else:
        names = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    return [path.parent / name for name in names]


def _csv_column(lines: list[str], path: Path) -> list[str]:
    reader = csv.DictReader(lines)
    columns = [name for name in _PATH_COLUMNS if name in (reader.fieldnames or ())]
    if not columns:
        raise UsageError(f"the CSV needs a column {' or '.join(_PATH_COLUMNS)}", subject=str(path))
    return [row[columns[0]].strip() for row in reader if (row[columns[0]] or "").strip()]


def _distinct(found: Iterable[tuple[Path, Path]]) -> list[tuple[Path, Path]]:
    taken: set[Path] = set()
    pairs = []
    for slide, relative in found:
        name = relative.with_suffix(".zarr")
        if name in taken:
            # a.svs beside a.tiff, or one name from two lists: the suffix, then a number, tells.
            name = relative.with_name(relative.name + ".zarr")
        number = 2
        while name in taken:
            name = relative.with_name(f"{relative.stem}-{number}.zarr")
            number += 1
        taken.add(name)
        pairs.append((slide, name))
    return pairs
