"""Names for the results of a batch, which do not depend on what else is in the batch.

A slide ``a.svs`` becomes ``a.zarr``. Where that name is another slide's (``a.tiff`` was there
first), it becomes ``a.svs.zarr``. Whose a name is, is said by what lies in the output folder: the
batch's journal, a finished zarr, an unfinished one. So slides that join later take nothing from
those that are done.
"""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from wsi_sampath.batch.found import Found
from wsi_sampath.batch.record.journal import Journal, journal_folder
from wsi_sampath.errors import UsageError, WsiError
from wsi_sampath.slides.remote.address import as_address
from wsi_sampath.slides.remote.place import RemotePath

# Of the batch itself: report.html, slides.csv.
RESERVED = frozenset({"report", "slides"})
# Leaves room for what is written beside a result while it grows.
_LONGEST_STEM = 215


def name_results(found: Sequence[Found], out: Path) -> list[Path]:
    """Name the zarr of every slide, seen from the output folder.

    Parameters
    ----------
    found
        The slides.
    out
        The output folder, there already or not.

    Raises
    ------
    UsageError
        Where a list names one output for two slides, or one that is the batch's own.
    """
    return _Naming(found, Owners(out)).names()


class Owners:
    """Whose a name is, by what lies in the output folder.

    Parameters
    ----------
    out
        The output folder.
    """

    def __init__(self, out: Path) -> None:
        self._out = out
        self._slides: Mapping[str, str] = {}
        if out.is_dir():
            records = Journal(journal_folder(out)).latest()
            self._slides = {_key(Path(name)): record.slide for name, record in records.items()}
        self._listed = lru_cache(maxsize=1024)(self._list)

    def of(self, name: Path) -> str | None:
        """Return the slide that a name belongs to, as a path or as its last part; None if free."""
        recorded = self._slides.get(_key(name))
        return self._on_disk(name) if recorded is None else recorded

    def _on_disk(self, name: Path) -> str | None:
        listed = self._listed(name.parent)
        partial = f"{name.name}.partial"
        stated = _finished(self._out / name) if name.name in listed else None
        if stated is None and partial in listed:
            return _unfinished((self._out / name).with_name(partial))
        return stated

    def _list(self, folder: Path) -> frozenset[str]:
        try:
            return frozenset(os.listdir(self._out / folder))
        except OSError:
            return frozenset()


def _finished(zarr: Path) -> str | None:
    # Slow to import, and seldom needed: most of what is there is in the journal.
    from wsi_sampath.outputs.attributes import read_attributes

    return _slide_name(read_attributes(zarr))


def _unfinished(work: Path) -> str | None:
    from wsi_sampath.inference.durable.work import WorkFolder

    try:
        return _slide_name(WorkFolder(work).ledger.identity())
    except (OSError, ValueError, WsiError):
        return None


def _slide_name(attributes: object) -> str | None:
    slide = attributes.get("slide") if isinstance(attributes, dict) else None
    name = slide.get("name") if isinstance(slide, dict) else None
    return name if isinstance(name, str) else None


class _Naming:
    def __init__(self, found: Sequence[Found], owners: Owners) -> None:
        self._found, self._owners = found, owners
        self._names: dict[int, Path] = {}
        self._taken: set[str] = set()
        self._alike = Counter(one.relative for one in found if one.output is None)

    def names(self) -> list[Path]:
        self._take_stated()
        for rule in (self._its_own, self._probably_its_own, self._free):
            for number, one in enumerate(self._found):
                name = None if number in self._names else rule(one)
                if name is not None:
                    self._take(number, name)
        return [self._names[number] for number in range(len(self._found))]

    def _take(self, number: int, name: Path) -> None:
        self._names[number] = name
        self._taken.add(_key(name))

    def _take_stated(self) -> None:
        for number, one in enumerate(self._found):
            if one.output is None:
                continue
            name = _as_zarr(one.output)
            if _key(name) in self._taken:
                raise UsageError(f"the output {str(one.output)!r} is named for more than one slide")
            if _is_reserved(name):
                message = f"the output {str(one.output)!r} bears the name of the batch's own page"
                raise UsageError(f"{message}; choose another")
            self._take(number, name)

    def _its_own(self, one: Found) -> Path | None:
        """Return the name under which this very path was recorded."""
        return next((n for n, owner in self._owned(one) if _is_same_path(owner, one.slide)), None)

    def _probably_its_own(self, one: Found) -> Path | None:
        """Return the name of a slide of this name, whose folder may have been moved since."""
        if self._alike[one.relative] > 1:
            return None
        return next((n for n, owner in self._owned(one) if _may_be(owner, one.slide)), None)

    def _free(self, one: Found) -> Path | None:
        for name in self._candidates(one):
            owner = self._owners.of(name)
            if owner is None or (self._alike[one.relative] > 1 and _may_be(owner, one.slide)):
                return name
        return None

    def _owned(self, one: Found) -> Iterator[tuple[Path, str]]:
        """Iterate over the names that this slide may bear which are somebody's."""
        for number, name in enumerate(self._candidates(one)):
            owner = self._owners.of(name)
            if owner is not None:
                yield name, owner
            elif number > 0:
                return

    def _candidates(self, one: Found) -> Iterator[Path]:
        for name in _spellings(one.relative):
            if _key(name) not in self._taken and not _is_reserved(name):
                yield name


def _spellings(relative: Path) -> Iterator[Path]:
    relative = _writable(relative)
    yield relative.with_name(f"{relative.stem}.zarr")
    yield relative.with_name(f"{relative.name}.zarr")
    number = 2
    while True:
        yield relative.with_name(f"{relative.stem}-{number}.zarr")
        number += 1


def _writable(relative: Path) -> Path:
    """Return a path whose last part can name files: neither empty nor too long for its suffixes."""
    name = relative.name.replace("\0", "_")
    if name in ("", ".", ".."):
        return relative.parent / "unnamed"
    if len(os.fsencode(name)) > _LONGEST_STEM:
        digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:12]
        start = os.fsencode(Path(name).stem)[: _LONGEST_STEM - 20].decode("utf-8", "ignore")
        name = f"{start}-{digest}{Path(name).suffix[:6]}"
    return relative.parent / name


def _as_zarr(output: Path) -> Path:
    return output if output.suffix == ".zarr" else output.with_name(output.name + ".zarr")


def _is_reserved(name: Path) -> bool:
    return len(name.parts) == 1 and name.stem.casefold() in RESERVED


def _key(name: Path) -> str:
    """Return what names have in common that are one file on some system or other."""
    return unicodedata.normalize("NFC", name.as_posix()).casefold()


def _is_same_path(owner: str, slide: Path) -> bool:
    return owner == str(slide) or (
        os.sep in owner and os.path.abspath(owner) == os.path.abspath(slide)
    )


def _may_be(owner: str, slide: Path) -> bool:
    """Return whether a slide of this name may be the owner: not where that one is another file."""
    if Path(owner).name != slide.name:
        return False
    if isinstance(slide, RemotePath) and as_address(owner) is not None:
        return owner == str(slide)
    if os.sep not in owner:
        return True
    try:
        there, here = os.stat(owner), os.stat(slide)
    except (OSError, ValueError):
        return True
    return os.path.samestat(there, here) or there.st_size == here.st_size
