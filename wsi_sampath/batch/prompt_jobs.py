"""Which prompts go with which slide, where several are answered by one command."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wsi_sampath.batch.discover import is_single, plan_batch
from wsi_sampath.batch.job import Job
from wsi_sampath.errors import UsageError
from wsi_sampath.shown import plural

SUFFIXES = (".geojson", ".json", ".geojson.gz", ".json.gz", ".geojson.zip", ".zip", ".csv", ".tsv")


@dataclass(frozen=True)
class PromptJob:
    """One slide with its prompts.

    Attributes
    ----------
    slide, prompts, out
        The files; masks go to the last one.
    mpp, fault
        As `Job` has them.
    """

    slide: Path
    prompts: Path
    out: Path
    mpp: tuple[float, float] | None = None
    fault: str = ""


@dataclass(frozen=True)
class PromptPlan:
    """What one command answers.

    Attributes
    ----------
    jobs
        In the order of the slides.
    notes
        What was left out, for the user.
    """

    jobs: tuple[PromptJob, ...]
    notes: tuple[str, ...] = ()


def plan_prompts(slides: Sequence[Path], prompts: Path, out: Path) -> PromptPlan:
    """Find the prompts of each slide.

    Parameters
    ----------
    slides
        Slides, folders or lists, as ``wsi-segment`` takes them.
    prompts
        The file of the one slide, or a folder with a file for each, named as the slide is, with
        its suffix or without; in it, or in a folder of it as the slide lies in its own.
    out
        File of masks, or a folder.

    Raises
    ------
    UsageError
        Where prompts and slides do not go together.
    """
    if is_single(slides) and not prompts.is_dir():
        return PromptPlan((PromptJob(slides[0], prompts, _single_out(out, slides[0])),))
    if not prompts.is_dir():
        message = "is not a folder, and several slides have a file of prompts each"
        raise UsageError(message, subject=str(prompts))
    # A name for masks is found as one for maps is: several slides may have one name.
    plan = plan_batch(slides, out, into_folder=True)
    files = _files(prompts, out)
    by_name = defaultdict[Path, list[Path]](list)
    for file in files:
        by_name[file.parent / _stem(file)].append(file)
    found = {job: _file_of(job.slide, by_name, _folders(job, out, prompts)) for job in plan.jobs}
    _refuse_shared(found)
    jobs = [
        PromptJob(job.slide, file, job.zarr.with_suffix(".geojson"), job.mpp, job.fault)
        for job, file in found.items()
        if file is not None
    ]
    if not jobs:
        raise UsageError("holds no file named as one of the slides", subject=str(prompts))
    lacking = len(found) - len(jobs)
    notes = [*plan.notes, *([f"{plural(lacking, 'slide')} without prompts"] if lacking else [])]
    taken = {job.prompts for job in jobs}
    others = [path for path in files if path not in taken]
    if others:
        example = f" ({others[0].name})" if len(others) == 1 else f" ({others[0].name}, ...)"
        notes.append(f"{plural(len(others), 'file')} of prompts without a slide{example}")
    return PromptPlan(tuple(jobs), tuple(notes))


def _file_of(
    slide: Path, by_name: Mapping[Path, list[Path]], folders: Sequence[Path]
) -> Path | None:
    """Return the file of prompts of a slide, or None, from the first folder that has one."""
    for folder in folders:
        names = dict.fromkeys((slide.name, slide.stem))
        mine = [file for name in names for file in by_name.get(folder / name, ())]
        if len(mine) > 1:
            both = " and ".join(path.name for path in mine[:2])
            raise UsageError(f"has {both} for one slide; leave one", subject=str(folder))
        if mine:
            return mine[0]
    return None


def _folders(job: Job, out: Path, prompts: Path) -> tuple[Path, ...]:
    """Return where the prompts of a slide lie: as its masks will, or beside all others."""
    below = job.zarr.parent.relative_to(out) if job.zarr.is_relative_to(out) else Path()
    return tuple(dict.fromkeys((prompts / below, prompts)))


def _refuse_shared(found: Mapping[Job, Path | None]) -> None:
    """Make sure that no two slides have one file: its places are those of one of them."""
    owners: dict[Path, Path] = {}
    for job, file in found.items():
        other = job.slide if file is None else owners.setdefault(file, job.slide)
        if other != job.slide:
            message = (
                f"goes with {other} and with {job.slide}; name it as one of them with its suffix, "
                "or put it into a folder as theirs"
            )
            raise UsageError(message, subject=str(file))


def _stem(path: Path) -> str:
    """Return the name of a file of prompts without its suffix, in capitals or not."""
    lower = path.name.lower()
    return path.name[: -max(len(one) for one in SUFFIXES if lower.endswith(one))]


def _single_out(out: Path, slide: Path) -> Path:
    return out / f"{slide.stem}.geojson" if out.is_dir() else out


def _files(folder: Path, out: Path) -> list[Path]:
    """Return all files of prompts in a folder; masks in a folder below it are none."""
    masks = out if out != folder else None
    return sorted(
        path
        for path in folder.rglob("*")
        if path.name.lower().endswith(SUFFIXES) and masks not in path.parents
    )
