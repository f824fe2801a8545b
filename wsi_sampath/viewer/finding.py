"""What a command line names: slides with their results, results alone, or a folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from wsi_sampath.batch.record.journal import Journal, journal_folder
from wsi_sampath.errors import UsageError
from wsi_sampath.outputs.attributes import read_attributes
from wsi_sampath.outputs.result import Result, open_result
from wsi_sampath.slides.remote.place import recorded
from wsi_sampath.slides.slide_fingerprint import slide_fingerprint
from wsi_sampath.viewer.gallery import (
    BatchEntries,
    Entries,
    folder_entries,
    is_batch,
    results_below,
    slide_entry,
)
from wsi_sampath.viewer.settings import ViewSettings
from wsi_sampath.viewer.shelf import ShelfEntry

_FOLDERS_UP = 6


@dataclass(frozen=True)
class Found:
    """What is to be shown.

    Attributes
    ----------
    title
        Of the page.
    entries
        What is put on the shelf.
    renew
        Returns the entries anew, where a batch may still be running, or what was named may have
        been written anew; raises what `find` does where it can't be read now.
    """

    title: str
    entries: Sequence[ShelfEntry]
    renew: Entries | None = None


def find(paths: Sequence[Path], settings: ViewSettings) -> Found:
    """Find out what a command line names.

    Parameters
    ----------
    paths
        One folder; or slides, and results of them; or results alone.
    settings
        How slides will be opened.

    Raises
    ------
    UsageError
        Where something is not there, or a result belongs to none of the slides, or its slide cannot
        be found.
    WsiError
        What `open_result` raises.
    """
    for path in paths:
        if not path.exists():
            raise UsageError("there is no such slide, result or folder", subject=str(path))
    if len(paths) == 1 and paths[0].is_dir() and not _is_result(paths[0]):
        return _in_folder(paths[0], settings)
    entries = _named(paths, settings)
    more = f" and {len(entries) - 1} more" if len(entries) > 1 else ""
    return Found(f"{entries[0].name}{more}", entries, lambda: _named(paths, settings))


def _named(paths: Sequence[Path], settings: ViewSettings) -> list[ShelfEntry]:
    results = [open_result(path) for path in paths if _is_result(path)]
    slides = list(dict.fromkeys(path for path in paths if not _is_result(path)))
    if folders := [path for path in slides if path.is_dir()]:
        message = "give a folder alone, or slides with their results"
        raise UsageError(message, subject=str(folders[0]))
    owned = _owned(results, slides) if slides else [(slide_of(one), one) for one in results]
    return _entries(slides, owned, settings)


def slide_of(result: Result) -> Path:
    """Find the slide that a result was made of, by the name and the content that it records.

    It is looked for beside the result, a folder above, in the working folder, and where the batch
    that wrote the result found it.

    Raises
    ------
    UsageError
        Where it is in none of these places.
    """
    slide = result.attributes["slide"]
    others = []
    for path in dict.fromkeys(_candidates(result.path, slide["name"])):
        if path.is_file():
            if slide_fingerprint(path) == slide["fingerprint"]:
                return path
            others.append(path)
    doubt = f" ({others[0]} is another one)" if others else ""
    message = f"its slide {slide['name']} is not beside it{doubt}; give both: wsi-view SLIDE RESULT"
    raise UsageError(message, subject=str(result.path))


def _is_result(path: Path) -> bool:
    return path.is_dir() and (path.suffix == ".zarr" or read_attributes(path) is not None)


def _in_folder(folder: Path, settings: ViewSettings) -> Found:
    title = folder.resolve().name
    if is_batch(folder):
        renew = BatchEntries(folder, settings)
        return Found(title, renew(), renew)
    entries = folder_entries(folder, settings)
    if not entries:
        results = [open_result(path) for path in results_below(folder)]
        entries = _entries([], [(slide_of(one), one) for one in results], settings)
    if not entries:
        raise UsageError("there are no slides and no results in it", subject=str(folder))
    return Found(title, entries)


def _owned(results: Sequence[Result], slides: Sequence[Path]) -> list[tuple[Path, Result]]:
    """Pair every result with its slide, by content."""
    if not results:
        return []
    by_content = {slide_fingerprint(slide): slide for slide in slides}
    pairs = []
    for result in results:
        slide = result.attributes["slide"]
        if slide["fingerprint"] not in by_content:
            message = f"it was made of another slide ({slide['name']}), or of another state of it"
            raise UsageError(message, subject=str(result.path))
        pairs.append((by_content[slide["fingerprint"]], result))
    return pairs


def _entries(
    slides: Sequence[Path], owned: Sequence[tuple[Path, Result]], settings: ViewSettings
) -> list[ShelfEntry]:
    entries = []
    for slide in dict.fromkeys([*slides, *(slide for slide, _ in owned)]):
        results = [result for owner, result in owned if owner == slide]
        entry = slide_entry(slide, settings, results=[one.path for one in results])
        if results:
            # For a slide that does not state its scale; the run may have been told.
            mpp = results[0].attributes["mpp"]
            entry = replace(entry, mpp=(mpp["x"], mpp["y"]))
        entries.append(entry)
    return entries


def _candidates(zarr: Path, name: str) -> Iterator[Path]:
    zarr = zarr.resolve()
    # The name is what a file says: it must not lead elsewhere.
    if name and Path(name).name == name and "\0" not in name:
        for folder in (zarr.parent, zarr.parent.parent, Path.cwd()):
            yield folder / name
    for folder in zarr.parents[:_FOLDERS_UP]:
        if is_batch(folder):
            latest = Journal(journal_folder(folder)).latest()
            record = latest.get(zarr.relative_to(folder).as_posix())
            if record is not None:
                yield recorded(record.slide)
