"""Search a folder for slides: links are followed, nothing is dropped silently."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from wsi_sampath.batch.dicom import find_series, scattered
from wsi_sampath.batch.found import DICOM_SUFFIXES, SLIDE_SUFFIXES, Found, fault_of, kind_of
from wsi_sampath.shown import plural

_FOLDERS_OF_OTHERS = frozenset({"logs", "__MACOSX"})
_OURS = (".zarr", ".zarr.partial")
# A link of such a name did not lead to a slide.
_TEXTS = frozenset(
    {".txt", ".csv", ".tsv", ".md", ".pdf", ".json", ".geojson", ".xml", ".log", ".html", ".htm"}
    | {".xls", ".xlsx", ".doc", ".docx", ".md5", ".yaml", ".yml", ".py", ".r", ".sh", ".qpproj"}
)


@dataclass
class Searched:
    """The slides and other files of a folder.

    Attributes
    ----------
    found
        Slides, readable or not, by path.
    others
        Files that are not slides, counted by suffix.
    notes
        Sentences on links and folders that were left out.
    series
        The DICOM series among the slides; see `SeriesFound.series`.
    """

    found: list[Found] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    series: list[tuple[str, Found, frozenset[str]]] = field(default_factory=list)


def search(folder: Path, out: Path | None = None) -> Searched:
    """Find all slides below a folder.

    Links to slides and to folders are followed; a folder is entered once, by its own path rather
    than by a link to it, however many lead there.

    Parameters
    ----------
    folder
        Where to look; hidden files and folders, and zarrs, are skipped.
    out
        Our own files below it are not counted among the others.
    """
    search = _Search(folder, out)
    search.enter(folder)
    while search.links:
        search.enter(search.links.popleft())
    searched = search.searched
    faults = scattered(searched.series)
    found = [replace(one, fault=faults.get(one.slide, one.fault)) for one in searched.found]
    searched.found = sorted(found, key=lambda one: one.slide)
    return searched


class _Search:
    def __init__(self, root: Path, out: Path | None) -> None:
        self._root = root
        self._out = None if out is None else _below(root, out)
        self.searched = Searched()
        self.links: deque[Path] = deque()
        self._entered: set[tuple[int, int]] = set()

    def enter(self, top: Path) -> None:
        """Search a folder and the real folders below it; links to folders are kept for later."""
        waiting = [top]
        while waiting:
            folder = waiting.pop()
            try:
                stat = folder.stat()
                entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
            except OSError as error:
                self._fail(folder, f"the folder cannot be read: {error.strerror or error}")
                continue
            if (stat.st_dev, stat.st_ino) in self._entered:
                self._note(f"{folder} is a link to a folder that is searched by its own name")
                continue
            self._entered.add((stat.st_dev, stat.st_ino))
            waiting += reversed(self._look(folder, entries))

    def _look(self, folder: Path, entries: Sequence[os.DirEntry[str]]) -> list[Path]:
        """Sort what lies in a folder; return the folders in it."""
        folders, dicom = [], []
        for entry in entries:
            if entry.name.startswith("."):
                continue
            path = folder / entry.name
            if _is_folder(entry):
                folders += self._folder(path, is_link=entry.is_symlink())
            elif fault := fault_of(path):
                self._faulty(path, fault)
            elif (kind := kind_of(path)) == "dicom":
                dicom.append(path)
            elif kind == "slide":
                self.searched.found.append(Found(path, self._relative(path)))
            else:
                self._other(path)
        self._dicom(folder, dicom)
        return folders

    def _folder(self, path: Path, *, is_link: bool) -> list[Path]:
        if path.name in _FOLDERS_OF_OTHERS:
            self._count_closed(path)
            return []
        if path.name.endswith(_OURS) or (is_link and os.path.realpath(path).endswith(_OURS)):
            return []
        if is_link:
            self.links.append(path)
            return []
        return [path]

    def _count_closed(self, folder: Path) -> None:
        names = os.listdir(folder) if os.access(folder, os.R_OK | os.X_OK) else []
        slides = [name for name in names if _has_suffix_of_slide(name)]
        if slides:
            left_out = plural(len(slides), "slide")
            self._note(f"{folder} is passed over with {left_out}, as a folder of other programs")

    def _faulty(self, path: Path, fault: str) -> None:
        # A link of any name may have led to a slide, or to a folder of slides.
        suffix = path.suffix.lower()
        if _has_suffix_of_slide(path.name) or (path.is_symlink() and suffix not in _TEXTS):
            self._fail(path, fault)
        else:
            self._other(path)

    def _fail(self, path: Path, fault: str) -> None:
        self.searched.found.append(Found(path, self._relative(path), fault=fault))

    def _dicom(self, folder: Path, paths: list[Path]) -> None:
        if not paths:
            return
        relative = folder.relative_to(self._root)
        series = find_series(paths, relative)
        self.searched.found += series.slides
        self.searched.series += series.series
        for path in series.others:
            self._other(path)
        for note in series.notes:
            self._note(note)

    def _relative(self, path: Path) -> Path:
        return Path(path.name) if path == self._root else path.relative_to(self._root)

    def _other(self, path: Path) -> None:
        if self._out is None or not _lies_in(path, self._out):
            self.searched.others[path.suffix.lower() or "without suffix"] += 1

    def _note(self, note: str) -> None:
        self.searched.notes.append(note)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _has_suffix_of_slide(name: str) -> bool:
    suffix = Path(name).suffix.lower()
    return not name.startswith(".") and suffix in SLIDE_SUFFIXES | DICOM_SUFFIXES


def _below(root: Path, out: Path) -> str | None:
    """Return the real path of the output folder where it lies inside the folder searched."""
    place = os.path.realpath(out)
    return place if place.startswith(os.path.realpath(root) + os.sep) else None


def _lies_in(path: Path, folder: str) -> bool:
    return f"{os.path.realpath(path.parent)}{os.sep}".startswith(f"{folder}{os.sep}")
