"""Which prompts go with which slide, where several are answered by one command."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wsi_sampath.batch.discover import is_single, plan_batch
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
    """

    slide: Path
    prompts: Path
    out: Path


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
        its suffix or without.
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
    found = {job: file_of(job.slide, prompts) for job in plan.jobs}
    jobs = [
        PromptJob(job.slide, file, job.zarr.with_suffix(".geojson"))
        for job, file in found.items()
        if file is not None
    ]
    if not jobs:
        raise UsageError("holds no file named as one of the slides", subject=str(prompts))
    lacking = len(found) - len(jobs)
    notes = [*plan.notes, *([f"{plural(lacking, 'slide')} without prompts"] if lacking else [])]
    taken = {job.prompts for job in jobs}
    others = [path for path in _files(prompts) if path not in taken]
    if others:
        example = f" ({others[0].name})" if len(others) == 1 else f" ({others[0].name}, ...)"
        notes.append(f"{plural(len(others), 'file')} of prompts without a slide{example}")
    return PromptPlan(tuple(jobs), tuple(notes))


def file_of(slide: Path, folder: Path) -> Path | None:
    """Return the file of prompts of a slide, or None; see `plan_prompts`.

    Raises
    ------
    UsageError
        Where there are several.
    """
    names = [name + suffix for name in (slide.name, slide.stem) for suffix in SUFFIXES]
    found = [folder / name for name in dict.fromkeys(names) if (folder / name).is_file()]
    if len(found) > 1:
        both = " and ".join(path.name for path in found[:2])
        raise UsageError(f"has {both} for one slide; leave one", subject=str(folder))
    return found[0] if found else None


def _single_out(out: Path, slide: Path) -> Path:
    return out / f"{slide.stem}.geojson" if out.is_dir() else out


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name.lower().endswith(SUFFIXES))
