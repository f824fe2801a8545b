"""Find the slides that a command line means, and name their outputs."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from wsi_sampath.batch.lists import SLIDE_SUFFIXES, Found, is_list, read_list
from wsi_sampath.errors import UsageError
from wsi_sampath.slides.mpp import lookup_mpp

# GDC's client writes NAME.partial while it downloads, and logs/ and annotations.txt beside slides.
_UNFINISHED = frozenset({".partial", ".part", ".tmp", ".crdownload"})
_FOLDERS_OF_OTHERS = frozenset({"logs", "__MACOSX"})
_OURS = (".zarr", ".zarr.partial")
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


@dataclass(frozen=True)
class Job:
    """One slide and the zarr it becomes.

    Attributes
    ----------
    slide, zarr
        The files.
    mpp
        True (x, y) um per level-0 pixel, where a list told; weaker than a flag.
    """

    slide: Path
    zarr: Path
    mpp: tuple[float, float] | None = None


def plan_jobs(inputs: Sequence[Path], out: Path) -> list[Job]:
    """Pair every slide with its output.

    Parameters
    ----------
    inputs
        Slides, folders (searched recursively) and lists (see `read_list`).
    out
        ``NAME.zarr`` for a single slide; else a folder that mirrors the inputs' relative paths.

    Raises
    ------
    UsageError
        Where nothing is found, a list is unusable, or `out` does not fit the number of slides.
    """
    if is_single(inputs):
        if out.suffix != ".zarr":
            raise UsageError("for one slide --out must be NAME.zarr", subject=str(out))
        return [Job(inputs[0], out)]
    found = [one for path in inputs for one in _expand(path)]
    if not found:
        raise UsageError("no slides were found", subject=", ".join(map(str, inputs)))
    if out.suffix == ".zarr":
        raise UsageError("for several slides --out must be a folder", subject=str(out))
    return [Job(one.slide, out / name, one.mpp) for one, name in _distinct(found)]


def is_single(inputs: Sequence[Path]) -> bool:
    """Tell whether a command line means one slide rather than a batch."""
    return len(inputs) == 1 and not inputs[0].is_dir() and not is_list(inputs[0])


def with_mpp(jobs: Sequence[Job], table: dict[str, tuple[float, float]]) -> list[Job]:
    """Give the jobs the mpp that an mpp table has for them, over that of their lists."""
    return [replace(job, mpp=lookup_mpp(table, job.slide) or job.mpp) for job in jobs]


def _expand(path: Path) -> list[Found]:
    if path.is_dir():
        return [Found(p, p.relative_to(path)) for p in sorted(_walk(path)) if is_slide(p)]
    if is_list(path):
        return read_list(path)
    return [Found(path, Path(path.name))]


def _walk(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not _is_closed(name)]
        yield from (Path(parent, name) for name in files if not name.startswith("."))


def _is_closed(name: str) -> bool:
    return name.startswith(".") or name in _FOLDERS_OF_OTHERS or name.endswith(_OURS)


def is_slide(path: Path) -> bool:
    """Tell whether a file is a slide: by its suffix, else by being a tiled TIFF.

    A broken file with the suffix of a slide counts as one, so that the batch names it as failed.
    """
    suffix = path.suffix.lower()
    if suffix in SLIDE_SUFFIXES:
        return path.is_file()
    return suffix not in _UNFINISHED and path.is_file() and _is_tiled_tiff(path)


def _is_tiled_tiff(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            if stream.read(4) not in _TIFF_STARTS:
                return False
    except OSError:
        return False
    import tifffile

    from wsi_sampath.slides.readers import BROKEN_TIFF

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    try:
        with tifffile.TiffFile(path) as tiff:
            return bool(tiff.pages[0].is_tiled)
    except BROKEN_TIFF:
        return False


def _distinct(found: Iterable[Found]) -> list[tuple[Found, Path]]:
    found = list(found)
    stated = [one.output for one in found if one.output is not None]
    taken = {_as_zarr(output) for output in stated}
    if len(taken) < len(stated):
        twice = next(output for output in stated if stated.count(output) > 1)
        raise UsageError(f"the output {str(twice)!r} is named for more than one slide")
    pairs = []
    for one in found:
        name = _as_zarr(one.output) if one.output is not None else _free(one.relative, taken)
        taken.add(name)
        pairs.append((one, name))
    return pairs


def _as_zarr(output: Path) -> Path:
    return output if output.suffix == ".zarr" else output.with_name(output.name + ".zarr")


def _free(relative: Path, taken: set[Path]) -> Path:
    name = relative.with_suffix(".zarr")
    if name in taken:
        # a.svs beside a.tiff, or one name from two lists: the suffix, then a number, tells.
        name = relative.with_name(relative.name + ".zarr")
    number = 2
    while name in taken:
        name = relative.with_name(f"{relative.stem}-{number}.zarr")
        number += 1
    return name
