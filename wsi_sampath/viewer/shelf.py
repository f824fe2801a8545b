"""What is shown: slides and results under opaque ids, opened when first asked for."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from wsi_sampath.errors import WsiError
from wsi_sampath.fingerprint import file_state
from wsi_sampath.outputs.result import Result, open_result
from wsi_sampath.shown import shown
from wsi_sampath.slides.mpp import differs
from wsi_sampath.slides.remote.place import RemotePath
from wsi_sampath.slides.slide import Slide
from wsi_sampath.slides.slide_fingerprint import slide_fingerprint
from wsi_sampath.viewer.recent import Recent
from wsi_sampath.viewer.settings import ViewSettings

Status = Literal["done", "failed", "waiting", "slide"]
MOST_OPEN = 6
_MOST_RESULTS = 64
_ID_LETTERS = 24
_THIS_RUN = (time.time_ns(),)
_NOTHING: Mapping[str, float] = MappingProxyType({})


class Missing(Exception):
    """An id, or a part of a picture, that is not there; the server answers 404."""


@dataclass(frozen=True)
class NamedResult:
    """A result that belongs to a slide, opened or not."""

    id: str
    name: str
    path: Path

    @classmethod
    def at(cls, path: Path) -> NamedResult:
        """Name the result in a zarr by what changes when it is written anew."""
        name = shown(path.name.removesuffix(".zarr"))
        return cls(opaque_id("result", path, path / ".zattrs", path / "zarr.json"), name, path)


@dataclass(frozen=True)
class ShelfEntry:
    """A slide of the shelf, opened or not.

    Attributes
    ----------
    id
        Opaque; another one once the file has changed.
    name
        By which people know it, with no character that acts; as HTML it is not safe.
    path
        The slide.
    status
        ``done``, ``failed`` or ``waiting`` in a batch; ``slide`` outside of one.
    reason, message
        Why it failed, as the batch recorded it.
    areas_mm2, counts
        By class, as the batch recorded them: areas, and numbers of nuclei.
    analysed_mm2
        None where nothing is recorded.
    thumbnail
        The batch's picture of it, None where there is none.
    results
        Those that belong to it.
    mpp
        True (x, y) um per level-0 pixel, where a list states it; weaker than the settings' own.
    """

    id: str
    name: str
    path: Path
    status: Status = "slide"
    reason: str = ""
    message: str = ""
    areas_mm2: Mapping[str, float] = field(default_factory=lambda: _NOTHING)
    counts: Mapping[str, float] = field(default_factory=lambda: _NOTHING)
    analysed_mm2: float | None = None
    thumbnail: Path | None = None
    results: tuple[NamedResult, ...] = ()
    mpp: tuple[float, float] | None = None


@dataclass(frozen=True)
class ShownResult:
    """An open result."""

    id: str
    name: str
    result: Result


@dataclass(frozen=True)
class ShownSlide:
    """An open slide with the results that are of it.

    Attributes
    ----------
    warnings
        Sentences for the user: the slide's own, and why a result is not shown.
    no_mpp
        Why its scale is not known, where it is not: then ``slide.mpp`` is 1 um, which means
        nothing.
    """

    id: str
    name: str
    path: Path
    slide: Slide
    results: tuple[ShownResult, ...]
    warnings: tuple[str, ...] = ()
    no_mpp: str = ""


@dataclass
class _Place:
    """Room for an open slide, kept while it is used and its entry stays as it is."""

    entry: ShelfEntry
    opening: threading.Lock = field(default_factory=threading.Lock)
    shown: ShownSlide | None = None
    users: int = 0


class Shelf:
    """Slides and results by id. Thread-safe; keeps a bounded number of slides open.

    Parameters
    ----------
    entries
        What is on it.
    settings
        How slides are opened.
    most_open
        Slides that stay open; more only while more are in use at once.
    """

    def __init__(
        self, entries: Iterable[ShelfEntry], settings: ViewSettings, *, most_open: int = MOST_OPEN
    ) -> None:
        self.settings = settings
        self._most_open = most_open
        self._lock = threading.Lock()
        self._places: OrderedDict[str, _Place] = OrderedDict()
        self._results: Recent[ShownResult] = Recent(_MOST_RESULTS, lambda _: 1)
        self.renew(entries)

    def renew(self, entries: Iterable[ShelfEntry]) -> None:
        """Put other entries on the shelf, as a batch goes on.

        An open slide stays so as long as its entry is the same one; with other results, or another
        scale, it is opened anew when it is next asked for.
        """
        self._entries = {entry.id: entry for entry in entries}
        self._owners = {one.id: entry for entry in self.entries for one in entry.results}

    @property
    def entries(self) -> tuple[ShelfEntry, ...]:
        """All of them, in the order that they were given in."""
        return tuple(self._entries.values())

    def entry(self, id: str) -> ShelfEntry:
        """Return the entry of a slide, without opening it.

        Raises
        ------
        Missing
            Where there is no such id.
        """
        try:
            return self._entries[id]
        except KeyError:
            raise Missing("there is no such slide") from None

    @contextmanager
    def open(self, id: str, *, unscaled: bool = False) -> Iterator[ShownSlide]:
        """Open a slide, which nobody closes within the block.

        Parameters
        ----------
        id
            Of its entry.
        unscaled
            Whether its pixels are all that is asked for, so that its mpp need not be known.

        Raises
        ------
        Missing
            Where there is no such id.
        WsiError
            What `Slide.open` raises.
        """
        place, replaced = self._entered(id)
        try:
            if replaced is not None:
                replaced.slide.close()
            with place.opening:
                if place.shown is None:
                    place.shown = self._opened(place.entry)
            if place.shown.no_mpp and not unscaled:
                raise WsiError("no-mpp", place.shown.no_mpp, subject=str(place.shown.path))
            yield place.shown
        finally:
            for done in self._left(id, place):
                done.slide.close()

    def slide(self, id: str, *, unscaled: bool = False) -> ShownSlide:
        """Return a slide of which no pixels are to be read; see `open`."""
        with self.open(id, unscaled=unscaled) as shown:
            return shown

    def result(self, id: str) -> ShownResult:
        """Return a result, checked to be one of its slide.

        Raises
        ------
        Missing
            Where there is no such id, or the result was written anew since it got that.
        WsiError
            What `open_result` raises, and ``bad-input`` for a result of another slide.
        """
        try:
            entry = self._owners[id]
            named = next(one for one in entry.results if one.id == id)
        except KeyError:
            raise Missing("there is no such result") from None
        # Of a batch's the journal tells.
        if entry.status == "slide" and NamedResult.at(named.path).id != id:
            raise Missing("the result was written anew meanwhile; load the page again")
        return self._results.fetch(
            id, lambda: ShownResult(id, named.name, _result_of(named.path, entry.path))
        )

    def close(self) -> None:
        """Close every slide; nothing may be read afterwards."""
        with self._lock:
            places = list(self._places.values())
            self._places.clear()
        for place in places:
            if place.shown is not None:
                place.shown.slide.close()

    def _opened(self, entry: ShelfEntry) -> ShownSlide:
        slide, no_mpp = _slide_of(entry, self.settings)
        results, warnings = [], list(slide.warnings)
        try:
            for named in entry.results:
                try:
                    results.append(self.result(named.id))
                except WsiError as error:
                    warnings.append(f"result {named.name}: {error.message}")
        except BaseException:
            slide.close()
            raise
        if no_mpp:
            warnings = [f"its scale is not known: {no_mpp}", *slide.warnings]
            results = []
        return ShownSlide(
            *(entry.id, entry.name, entry.path, slide, tuple(results), tuple(warnings)),
            no_mpp=no_mpp,
        )

    def _entered(self, id: str) -> tuple[_Place, ShownSlide | None]:
        """Count a user in; return the slide, too, that is to be closed for an entry of before."""
        with self._lock:
            entry, before = self.entry(id), self._places.get(id)
            closed = None
            if before is not None and (before.entry.results, before.entry.mpp) != (
                entry.results,
                entry.mpp,
            ):
                del self._places[id]
                closed = None if before.users else before.shown
            place = self._places.setdefault(id, _Place(entry))
            self._places.move_to_end(id)
            place.users += 1
            return place, closed

    def _left(self, id: str, place: _Place) -> list[ShownSlide]:
        """Count a user out; return the slides that are to be closed."""
        with self._lock:
            place.users -= 1
            if self._places.get(id) is not place:
                # The shelf was closed, or has another entry by now.
                return [place.shown] if place.shown is not None and not place.users else []
            if place.shown is None and not place.users:
                del self._places[id]
            # The idle ones, longest unused first.
            idle = [key for key, one in self._places.items() if not one.users]
            surplus = max(0, len(self._places) - self._most_open)
            closed = [self._places.pop(key).shown for key in idle[:surplus]]
        return [shown for shown in closed if shown is not None]


def opaque_id(*parts: str | Path) -> str:
    """Return an id that tells nothing, and that changes when a file among `parts` does.

    Parameters
    ----------
    parts
        Words that are hashed as they are, and files (or folders), hashed by their place, size and
        times; one that is not there counts by its place.
    """
    digest = hashlib.sha256()
    for part in parts:
        state: tuple[int, ...] = ()
        if isinstance(part, RemotePath):
            # Its server is not asked for a list of slides; a browser keeps tiles for this run.
            part, state = part.address.full, _THIS_RUN
        elif isinstance(part, Path):
            try:
                state = file_state(part)
            except OSError:
                state = ()
        text = f"{os.path.realpath(part) if isinstance(part, Path) else part}\0{state}\0"
        digest.update(text.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:_ID_LETTERS]


def _slide_of(entry: ShelfEntry, settings: ViewSettings) -> tuple[Slide, str]:
    """Open a slide by what it says itself, unless a list knew its scale and that differs.

    Returns the slide, and why its scale is not known, where it is not.
    """
    path, reader = entry.path, settings.reader
    no_mpp = ""
    try:
        slide = Slide.open(path, slide_mpp=settings.slide_mpp, reader=reader)
    except WsiError as error:
        if error.reason != "no-mpp" and (entry.mpp is None or error.reason != "implausible-mpp"):
            raise
        no_mpp = error.message
    else:
        scales = zip((slide.mpp.x, slide.mpp.y), entry.mpp or (), strict=False)
        if settings.slide_mpp is not None or not any(differs(*pair) for pair in scales):
            return slide, ""
        slide.close()
    if entry.mpp is None:
        return Slide.open(path, slide_mpp=1.0, reader=reader), no_mpp
    return Slide.open(path, csv_mpp=entry.mpp, reader=reader), ""


def _result_of(path: Path, slide: Path) -> Result:
    result = open_result(path)
    if result.attributes["slide"]["fingerprint"] != slide_fingerprint(slide):
        name = result.attributes["slide"]["name"]
        message = f"it was made of another slide, or of another state of it ({name})"
        raise WsiError("bad-input", message, subject=str(path))
    return result
