"""A folder as a gallery: what a batch wrote there, or simply the slides and results in it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from wsi_sampath.batch.record.journal import Journal, Record, journal_folder, thumbnail_of
from wsi_sampath.batch.record.table import read_waiting
from wsi_sampath.batch.walk import search
from wsi_sampath.classes import color_of
from wsi_sampath.errors import WsiError
from wsi_sampath.models.spec import ModelSpec
from wsi_sampath.outputs.attributes import read_attributes
from wsi_sampath.outputs.result import open_result
from wsi_sampath.shown import shown
from wsi_sampath.slides.remote.place import recorded
from wsi_sampath.version import __version__
from wsi_sampath.viewer.answers import kept_for_ever
from wsi_sampath.viewer.refusals import without_paths
from wsi_sampath.viewer.settings import ViewSettings
from wsi_sampath.viewer.shelf import Missing, NamedResult, Shelf, ShelfEntry, opaque_id

Entries = Callable[[], Sequence[ShelfEntry]]
_RENEW_S = 2.0
# The slides of a batch have one model, and so one set of colours; some results may be damaged.
_COLORED_BY = 3


def slide_entry(
    path: Path, settings: ViewSettings, *, name: str = "", results: Iterable[Path] = ()
) -> ShelfEntry:
    """Return the entry of a slide outside of a batch.

    Parameters
    ----------
    path
        The slide.
    settings
        How it will be opened, which its id depends on.
    name
        By which people know it; that of the file if empty.
    results
        The zarrs that belong to it.
    """
    named = tuple(NamedResult.at(one) for one in results)
    return ShelfEntry(slide_id(path, settings), shown(name or path.name), path, results=named)


def slide_id(path: Path, settings: ViewSettings, *more: str) -> str:
    """Return the opaque id of a slide as these settings open it."""
    return opaque_id("slide", path, settings.reader, str(settings.slide_mpp), *more)


def is_batch(folder: Path) -> bool:
    """Return whether a batch wrote its record into a folder."""
    return journal_folder(folder).is_dir()


class BatchEntries:
    """What a batch folder holds; called again, what it holds by then.

    Parameters
    ----------
    folder
        The output folder of a batch.
    settings
        How slides will be opened.
    """

    def __init__(self, folder: Path, settings: ViewSettings) -> None:
        self._folder, self._settings = folder, settings
        self._journal = Journal(journal_folder(folder))
        self._known: dict[str, tuple[Record, ShelfEntry]] = {}

    def __call__(self) -> list[ShelfEntry]:
        """Return the entries: failures first, then those done, then those waiting."""
        records = [one for one in self._journal.latest().values() if one.has_ended]
        ended = [self._of(one) for one in records if _is_usable(one.slide, one.zarr)]
        names = {one.zarr for one in records}
        waiting = [
            ShelfEntry(self._id(slide, zarr), _name(zarr), recorded(slide), "waiting")
            for slide, zarr in read_waiting(self._folder / "slides.csv")
            if zarr not in names and _is_usable(slide, zarr)
        ]
        ended.sort(key=lambda one: (one.status == "done", one.name))
        return [*ended, *waiting]

    def _of(self, record: Record) -> ShelfEntry:
        known = self._known.get(record.zarr)
        if known is not None and known[0] == record:
            return known[1]
        picture = thumbnail_of(self._folder, record.zarr)
        done = record.status == "done"
        entry = ShelfEntry(
            id=self._id(record.slide, record.zarr),
            name=_name(record.zarr),
            path=recorded(record.slide),
            status="done" if done else "failed",
            reason=record.reason,
            message=record.message,
            areas_mm2=record.area_mm2,
            counts=record.nuclei,
            analysed_mm2=record.analysed_mm2 if done else None,
            thumbnail=picture if done and picture.is_file() else None,
            results=(NamedResult.at(self._folder / record.zarr),) if done else (),
            mpp=_recorded_mpp(record),
        )
        # A result is recorded before its picture is drawn.
        if entry.thumbnail is not None or not done:
            self._known[record.zarr] = record, entry
        return entry

    def _id(self, slide: str, zarr: str) -> str:
        # A slide may be in a batch twice, in two lists.
        return slide_id(recorded(slide), self._settings, zarr)


def folder_entries(folder: Path, settings: ViewSettings) -> list[ShelfEntry]:
    """Return the slides below a folder without a batch, with the results there that name them."""
    results: dict[str, list[Path]] = {}
    for zarr in results_below(folder):
        attributes = read_attributes(zarr) or {}
        slide = attributes.get("slide")
        if isinstance(slide, dict) and attributes.get("complete") is True:
            results.setdefault(str(slide.get("name")), []).append(zarr)
    entries = []
    for one in search(folder).found:
        name = one.relative.as_posix()
        entry = slide_entry(one.slide, settings, name=name, results=results.get(one.slide.name, ()))
        if one.fault:
            entry = replace(entry, status="failed", reason="unreadable", message=one.fault)
        entries.append(entry)
    return entries


def routes(
    shelf: Shelf, title: str, *, renew: Entries | None = None, model: ModelSpec | None = None
) -> list[Route]:
    """Return the routes of the gallery.

    Parameters
    ----------
    shelf
        What is shown.
    title
        Of the page.
    renew
        Returns the entries anew, where they may change while they are shown.
    model
        What answers clicks.
    """
    turn, last = threading.Lock(), [time.monotonic()]
    colors: dict[str, dict[str, str]] = {}

    def contents(_request: Request) -> Response:
        with turn:
            if renew is not None and time.monotonic() - last[0] >= _RENEW_S:
                # What is being written just now is shown as it was.
                with suppress(WsiError, OSError):
                    shelf.renew(renew())
                last[0] = time.monotonic()
            known = _colors(shelf.entries, colors)
        told = [_told(entry) for entry in shelf.entries]
        classes = dict.fromkeys(name for one in told for name in one["areas_mm2"])
        return JSONResponse(
            {
                "title": shown(title),
                "version": __version__,
                "model": model and _model(model, shelf.settings),
                "entries": told,
                "classes": [
                    {"name": name, "color": known.get(name) or color_of(name)} for name in classes
                ],
            }
        )

    def picture(request: Request) -> Response:
        entry = shelf.entry(request.path_params["sid"])
        if entry.thumbnail is None:
            raise Missing("there is no picture of it")
        try:
            data = entry.thumbnail.read_bytes()
        except OSError:
            raise Missing("its picture has gone") from None
        return kept_for_ever(request, "image/jpeg", lambda: data)

    return [
        Route("/api/shelf", contents),
        Route("/api/slides/{sid}/picture.jpg", picture),
    ]


def _colors(entries: Iterable[ShelfEntry], known: dict[str, dict[str, str]]) -> dict[str, str]:
    """Return the colours of classes in the first results, by name; `known` keeps them by id."""
    found: dict[str, str] = {}
    for one in islice((one for entry in entries for one in entry.results), _COLORED_BY):
        if one.id not in known:
            known[one.id] = {}
            with suppress(WsiError):
                known[one.id] = {each.name: each.color for each in open_result(one.path).classes}
        found |= known[one.id]
    return found


def _told(entry: ShelfEntry) -> dict[str, Any]:
    return {
        "id": entry.id,
        "name": entry.name,
        "status": entry.status,
        "reason": entry.reason,
        "message": without_paths(entry.message),
        "areas_mm2": {shown(name): area for name, area in entry.areas_mm2.items()},
        "counts": {shown(name): count for name, count in entry.counts.items()},
        "analysed_mm2": entry.analysed_mm2,
        "thumbnail": _thumbnail(entry),
        "results": [{"id": one.id, "name": one.name} for one in entry.results],
    }


def _thumbnail(entry: ShelfEntry) -> str | None:
    if entry.thumbnail is not None:
        return f"/api/slides/{entry.id}/picture.jpg?of={opaque_id(entry.thumbnail)}"
    return None if entry.status == "failed" else f"/api/slides/{entry.id}/thumbnail.jpg"


def _model(spec: ModelSpec, settings: ViewSettings) -> dict[str, Any]:
    return {
        "name": Path(settings.model or "").stem,
        "mpp": spec.mpp,
        "kind": spec.architecture,
    }


def _recorded_mpp(record: Record) -> tuple[float, float] | None:
    if record.mpp_x is None or record.mpp_y is None:
        return None
    return record.mpp_x, record.mpp_y


def _name(zarr: str) -> str:
    return shown(zarr.removesuffix(".zarr"))


def _is_usable(slide: str, zarr: str) -> bool:
    # The journal is a file like any other: it may come from elsewhere.
    path = PurePosixPath(zarr)
    return not path.is_absolute() and ".." not in path.parts and "\0" not in slide + zarr


def results_below(folder: Path) -> Iterator[Path]:
    """Yield the zarrs below a folder, without looking into any."""
    for top, folders, _ in os.walk(folder):
        found = sorted(name for name in folders if name.endswith(".zarr"))
        yield from (Path(top, name) for name in found)
        folders[:] = sorted(
            one for one in folders if not one.endswith((".zarr", ".partial")) and one[0] != "."
        )
