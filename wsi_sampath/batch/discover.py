"""Find the slides that a command line means, and name their outputs."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from wsi_sampath.batch.dicom import one_per_series
from wsi_sampath.batch.found import Found, fault_of, is_slide
from wsi_sampath.batch.job import Job
from wsi_sampath.batch.lists import is_list, read_list
from wsi_sampath.batch.names import name_results
from wsi_sampath.batch.walk import search
from wsi_sampath.errors import UsageError
from wsi_sampath.shown import plural
from wsi_sampath.slides.mpp import lookup_mpp
from wsi_sampath.slides.remote.place import RemotePath

__all__ = ["Job", "Plan", "is_single", "is_slide", "plan_batch", "plan_jobs", "with_mpp"]


@dataclass(frozen=True)
class Plan:
    """What a command line means.

    Attributes
    ----------
    jobs
        One per slide.
    is_single
        Whether it is one slide, with no batch around it.
    notes
        Sentences for the user: what was left out, named twice, or reached twice.
    """

    jobs: list[Job]
    is_single: bool
    notes: tuple[str, ...] = ()


@dataclass
class _Gathered:
    found: list[Found] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)


def plan_jobs(inputs: Sequence[Path], out: Path) -> list[Job]:
    """Pair every slide with its output; see `plan_batch`."""
    return plan_batch(inputs, out).jobs


def plan_batch(inputs: Sequence[Path], out: Path, *, into_folder: bool = False) -> Plan:
    """Pair every slide with its output.

    Parameters
    ----------
    inputs
        Slides, also on servers (`RemotePath`), folders (searched recursively) and lists (see
        `read_list`).
    out
        ``NAME.zarr`` for a single slide, or an existing folder, which gets ``NAME.zarr``; for
        several a folder that mirrors the inputs' relative paths.
    into_folder
        Whether `out` is a folder, existing or not: it was written with a slash at its end.

    Raises
    ------
    UsageError
        Where nothing is found, a list is unusable, or `out` does not fit the number of slides.
    """
    if is_single(inputs):
        return Plan([_single(inputs[0], out, into_folder=into_folder)], True)
    gathered = _gather(inputs, out)
    found = gathered.found
    if not found:
        raise UsageError(f"no slides were found{_left_out(gathered.others)}", subject=_all(inputs))
    notes = (*gathered.notes, *_others_note(gathered))
    if out.suffix == ".zarr" and not out.is_dir() and _is_one_series(inputs, found):
        return Plan([Job(found[0].slide, out)], True, notes)
    if out.suffix == ".zarr":
        raise UsageError("for several slides --out must be a folder", subject=str(out))
    if out.exists() and not out.is_dir():
        raise UsageError("--out is a file, and must be a folder for several", subject=str(out))
    names = name_results(found, out)
    jobs = [
        Job(one.slide, out / name, one.mpp, one.fault)
        for one, name in zip(found, names, strict=True)
    ]
    return Plan(jobs, False, notes)


def is_single(inputs: Sequence[Path]) -> bool:
    """Return whether a command line names one slide rather than a batch."""
    return len(inputs) == 1 and not os.path.isdir(inputs[0]) and not is_list(inputs[0])


def with_mpp(jobs: Sequence[Job], table: dict[str, tuple[float, float]]) -> list[Job]:
    """Give the jobs their mpp from an mpp table, which overrides that of lists."""
    return [replace(job, mpp=lookup_mpp(table, job.slide) or job.mpp) for job in jobs]


def _single(slide: Path, out: Path, *, into_folder: bool) -> Job:
    fault = fault_of(slide)
    if out.suffix == ".zarr" and not into_folder:
        return Job(slide, out, fault=fault)
    found = Found(slide, Path(slide.name))
    if out.is_dir() or into_folder:
        return Job(slide, out / name_results([found], out)[0], fault=fault)
    if not fault and not isinstance(slide, RemotePath) and not os.path.lexists(slide):
        raise UsageError("there is no such slide, folder or list", subject=str(slide))
    stem = slide.stem or "slide"
    raise UsageError(
        f"for one slide --out is NAME.zarr, or a folder with a slash at its end: give {out}.zarr, "
        f"or {out / stem}.zarr",
        subject=str(out),
    )


def _gather(inputs: Sequence[Path], out: Path) -> _Gathered:
    gathered = _Gathered()
    for path in inputs:
        if os.path.isdir(path):
            searched = search(path, out)
            gathered.found += searched.found
            gathered.others += searched.others
            gathered.notes += searched.notes
        elif is_list(path):
            gathered.found += read_list(path)
        else:
            gathered.found.append(Found(path, Path(path.name), fault=fault_of(path)))
    gathered.found = one_per_series(_once(gathered))
    gathered.notes += _linked(gathered.found)
    return gathered


def _once(gathered: _Gathered) -> list[Found]:
    """Leave out what is the same file by the same path, however it is spelled."""
    kept: dict[tuple[str, Path | None], Found] = {}
    for one in gathered.found:
        key = (_place(one.slide), one.output)
        before = kept.setdefault(key, one)
        if before is one:
            continue
        if before.mpp != one.mpp:
            message = f"the slide has mpp {before.mpp} in one row and {one.mpp} in another"
            raise UsageError(f"{message}; leave one of them", subject=str(one.slide))
        gathered.notes.append(f"{one.slide} is named more than once, and analysed once")
    return list(kept.values())


def _place(slide: Path) -> str:
    if isinstance(slide, RemotePath):
        return slide.address.full
    if "\0" in str(slide):
        return str(slide)
    return os.path.join(os.path.realpath(slide.parent), slide.name)


def _linked(found: Sequence[Found]) -> list[str]:
    """Name the links to slides that are in the batch by their own paths, too."""
    links = [one.slide for one in found if not one.fault and one.slide.is_symlink()]
    if not links:
        return []
    places = {_place(one.slide): one.slide for one in found if not one.fault}
    targets = [(link, places.get(os.path.realpath(link))) for link in links]
    return [
        f"{link} is a link to {target}: both are in the batch, and analysed"
        for link, target in targets
        if target is not None and target != link
    ]


def _is_one_series(inputs: Sequence[Path], found: Sequence[Found]) -> bool:
    """Return whether a folder of DICOM files is all that was given, and is one slide."""
    return (
        len(inputs) == len(found) == 1
        and not found[0].fault
        and found[0].relative.suffix.lower() in (".dcm", ".dicom")
    )


def _others_note(gathered: _Gathered) -> list[str]:
    count = sum(gathered.others.values())
    if not count:
        return []
    slides = plural(len(gathered.found), "slide")
    return [f"{slides} found; {plural(count, 'other file')} left out ({_kinds(gathered.others)})"]


def _left_out(others: Counter[str]) -> str:
    count = sum(others.values())
    return f" among {plural(count, 'file')} ({_kinds(others)})" if count else ""


def _kinds(others: Counter[str]) -> str:
    kinds = [f"{count} {suffix}" for suffix, count in others.most_common(5)]
    return ", ".join(kinds) + (", ..." if len(others) > len(kinds) else "")


def _all(inputs: Sequence[Path]) -> str:
    return ", ".join(map(str, inputs))
