"""What is drawn on one slide: kept event by event in a file, and read back from it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from wsi_sampath.classes import name_key
from wsi_sampath.errors import WsiError
from wsi_sampath.explained import explained
from wsi_sampath.shown import json_line
from wsi_sampath.viewer.drawn import DrawnClass, Frame
from wsi_sampath.viewer.event_log import EventLog
from wsi_sampath.viewer.events import Drawing, Event, event_of

FORMAT, VERSION = "wsi_sampath session", 1
SUFFIX = ".session.jsonl"


class Stale(Exception):
    """The page knows an earlier state than there is."""


@dataclass(frozen=True)
class Subject:
    """The slide of a session.

    Attributes
    ----------
    name
        Of the slide.
    fingerprint
        Of its content.
    frame
        Size and scale.
    classes
        Those of its results, which an object may have at once.
    """

    name: str
    fingerprint: str
    frame: Frame
    classes: tuple[DrawnClass, ...] = ()

    def head(self) -> dict[str, Any]:
        """Return what the first line of its session says."""
        slide = {
            "name": self.name,
            "fingerprint": self.fingerprint,
            "size": list(self.frame.size),
            "mpp": list(self.frame.mpp),
        }
        return {"format": FORMAT, "version": VERSION, "slide": slide}


class Session:
    """The drawing on a slide, with its file. For one thread at a time.

    A file that is there is opened at once, and nobody else can write to it until `close`. Where
    there is none, the first event makes it: looking alone leaves nothing behind.

    Parameters
    ----------
    path
        Of the file.
    subject
        The slide.

    Attributes
    ----------
    drawing
        What is drawn.
    notes
        Sentences for the user.

    Raises
    ------
    WsiError
        What `EventLog` raises, and ``bad-input`` for a session of another slide or format, or with
        events that make no sense.
    """

    def __init__(self, path: Path, subject: Subject) -> None:
        self.path, self.subject = path, subject
        self.drawing = Drawing()
        self.notes: tuple[str, ...] = ()
        self._log: EventLog | None = None
        if path.exists():
            self._open()

    def do(self, event: Event, revision: int) -> None:
        """Let an event happen: it is on the disk before it shows.

        Parameters
        ----------
        event
            What happens.
        revision
            The state that it was meant for.

        Raises
        ------
        Stale
            Where there is a later one.
        WsiError
            ``bad-input`` for an event that makes no sense, and what `EventLog.append` raises.
        """
        self.check(revision)
        step = self.drawing.step(event)
        if self._log is None:
            self._open()
            self.check(revision)
        number = self.drawing.revision + 1
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._opened.append({"n": number, "at": now, **event.told()})
        self.drawing.take(event, step)

    def check(self, revision: int) -> None:
        """Raise `Stale` unless this is the present state."""
        if revision != self.drawing.revision:
            raise Stale

    def classes(self) -> list[DrawnClass]:
        """Return the classes that an object may have at once, those of the session first."""
        own = self.drawing.classes
        return [
            *own.values(),
            *(one for one in self.subject.classes if name_key(one.name) not in own),
        ]

    def text(self, more: Mapping[str, Any] | None = None) -> str:
        """Return the state as the page has it, as JSON.

        Parameters
        ----------
        more
            Further members.
        """
        drawing = self.drawing
        state = {
            "revision": drawing.revision,
            "classes": [one.model_dump() for one in self.classes()],
            "can_undo": drawing.can_undo,
            "can_redo": drawing.can_redo,
            "notes": list(self.notes),
            **(more or {}),
        }
        # Outlines are kept as text: most of a state is the same as before.
        return f'{json_line(state)[:-1]}, "objects": [{",".join(self._objects())}]}}'

    def close(self) -> None:
        """Let others write to the file."""
        if self._log is not None:
            self._log.close()
            self._log = None

    @property
    def _opened(self) -> EventLog:
        assert self._log is not None
        return self._log

    def _open(self) -> None:
        log = EventLog(self.path, self.subject.head())
        try:
            self._check_head(log.head)
            self._replay(log.lines)
        except BaseException as error:
            log.close()
            if isinstance(error, WsiError):
                raise error.about(str(self.path)) from None
            raise
        if log.torn:
            lost = "the last event was cut off by a crash before it was acknowledged, and is gone"
            self.notes = (f"{self.path.name}: {lost}",)
        log.lines.clear()
        self._log = log

    def _check_head(self, head: Mapping[str, Any]) -> None:
        if head.get("format") != FORMAT:
            message = "is no session of wsi-view; move it away, or choose another --session"
            raise WsiError("bad-input", message)
        if head.get("version") != VERSION:
            message = f"is of version {head.get('version')!r} of the format, and this is {VERSION}"
            raise WsiError("bad-input", f"{message}; use the wsi-view that wrote it")
        slide = head.get("slide")
        whose = slide if isinstance(slide, dict) else {}
        if whose.get("fingerprint") != self.subject.fingerprint:
            name = whose.get("name")
            message = f"is of another slide, or of another state of it ({name}); choose another"
            raise WsiError("bad-input", f"{message} --session")

    def _replay(self, lines: Iterable[Mapping[str, Any]]) -> None:
        for number, line in enumerate(lines, 1):
            try:
                values = {key: value for key, value in line.items() if key not in ("n", "at")}
                if line.get("n") != number:
                    raise WsiError("bad-input", f"its number is not {number}")
                event = event_of(values, self.subject.frame.size)
                self.drawing.take(event, self.drawing.step(event))
            except WsiError as error:
                where = f"line {number + 1} cannot be used: {error.message}"
                raise WsiError("bad-input", f"{where}; cut the file off before that line") from None

    def _objects(self) -> Iterable[str]:
        for one in self.drawing.ordered():
            spec = self.drawing.class_of(one.class_name)
            properties: dict[str, Any] = {"name": None, "class": None, "quality": None}
            properties |= {"prompt": None, **one.properties()}
            properties["color"] = spec and spec.color
            head = f'{{"type": "Feature", "id": "{one.id}", "geometry": {one.geometry_text}'
            yield f'{head}, "properties": {json_line(properties)}}}'


def session_path(slide: Path, results: Sequence[Path], folder: Path | None) -> Path:
    """Return where the session of a slide is kept: by the full name of its file.

    Without a folder one that is there counts, and a new one goes beside the slide if it may, so
    that what is drawn is there again with other results, or none.

    Parameters
    ----------
    slide
        The slide.
    results
        Those of the slide that are shown.
    folder
        What --session names; made where it is not there.

    Raises
    ------
    WsiError
        ``bad-input`` where nothing can be written.
    """
    # With the suffix: a slide and its converted copy lie side by side.
    name = slide.name + SUFFIX
    if folder is not None:
        with explained(str(folder)):
            folder.mkdir(parents=True, exist_ok=True)
        if not _is_writable(folder):
            message = "nothing can be written there; name another folder with --session"
            raise WsiError("bad-input", message, subject=str(folder))
        return folder / name
    folders = list(dict.fromkeys(one.absolute().parent for one in (slide, *results)))
    for one in folders:
        if (one / name).exists():
            return one / name
    for one in folders:
        if _is_writable(one):
            return one / name
    message = "annotations cannot be kept beside it, for its folder cannot be written to; name one"
    raise WsiError("bad-input", f"{message} with --session", subject=str(slide))


def _is_writable(folder: Path) -> bool:
    return os.access(folder, os.W_OK | os.X_OK)
