"""Where slides are annotated: their sessions, and who answers clicks on them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self

from wsi_sampath.errors import UsageError, WsiError
from wsi_sampath.inference.prompting.settings import PromptSettings
from wsi_sampath.viewer.asking import Asker
from wsi_sampath.viewer.drawn import Drawn, DrawnClass, Frame
from wsi_sampath.viewer.event_log import claim_of
from wsi_sampath.viewer.making import Maker
from wsi_sampath.viewer.session import Session, Subject, session_path
from wsi_sampath.viewer.shelf import Shelf, ShownSlide

if TYPE_CHECKING:
    from wsi_sampath.models.network import LoadedModel

NO_MODEL = "no model was asked for that answers; start wsi-view with --model NAME"
MOST_SESSIONS = 8
"""Sessions that stay open; of more, those used longest ago are read again when needed."""


class Desk:
    """Sessions and answers for all slides of a shelf. Thread-safe.

    Parameters
    ----------
    shelf
        The slides, with the settings of the viewer: the model, and where sessions are kept.
    load
        Loads the model; `load_from_settings` if None.
    tell
        Told in sentences what is the matter with the model, or with a session.

    Attributes
    ----------
    asker
        Who answers clicks; None where no model was asked for.
    """

    def __init__(
        self,
        shelf: Shelf,
        load: Callable[[PromptSettings], LoadedModel] | None = None,
        *,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self._shelf, self._tell = shelf, tell
        self._lock = threading.RLock()
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        prompting = shelf.settings.prompting()
        self.asker = (
            None if prompting is None else Asker(shelf, prompting, load or _load, tell=tell)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let others write to the sessions, and stop answering."""
        with self._lock:
            for session in self._sessions.values():
                session.close()
            self._sessions.clear()
        if self.asker is not None:
            self.asker.close()

    def warnings(self) -> list[str]:
        """Say, without opening a slide, why what is drawn on the first one could not be kept."""
        try:
            for entry in self._shelf.entries[:1]:
                results = [one.path for one in entry.results]
                path = session_path(entry.path, results, self._shelf.settings.session)
                claim_of(path).refuse_held()
        except WsiError as error:
            return [f"what is drawn cannot be kept: {error}"]
        return []

    @contextmanager
    def session(self, slide: str) -> Iterator[Session]:
        """Have the session of a slide, alone, within the block.

        Raises
        ------
        Missing
            Where there is no such slide.
        WsiError
            What `Slide.open`, `session_path` and `Session` raise.
        """
        with self._lock:
            session = self._sessions.pop(slide, None) or self._opened(slide)
            self._sessions[slide] = session
            while len(self._sessions) > MOST_SESSIONS:
                _, oldest = self._sessions.popitem(last=False)
                oldest.close()
            yield session

    def frame(self, slide: str) -> Frame:
        """Return what places on a slide are measured by.

        Raises
        ------
        Missing
            Where there is no such slide.
        WsiError
            What `Slide.open` raises.
        """
        with self._shelf.open(slide) as shown:
            return Frame.of(shown.slide)

    def maker(self) -> Maker | None:
        """Return the network that answers; None before it is loaded."""
        model = None if self.asker is None else self.asker.model
        return None if model is None else Maker(model.spec.name, model.weights_sha256)

    def accepted(self, slide: str, token: str) -> Drawn:
        """Return the object that a candidate becomes.

        Raises
        ------
        Missing
            Where there is no such slide.
        WsiError
            ``bad-input`` where the candidate is not kept any more.
        """
        maker = self.maker()
        if self.asker is None or maker is None:
            raise UsageError(NO_MODEL)
        return maker.accepted(self.asker.kept(slide, token), self.frame(slide))

    def _opened(self, slide: str) -> Session:
        with self._shelf.open(slide) as shown:
            results = [one.result.path for one in shown.results]
            path = session_path(shown.path, results, self._shelf.settings.session)
            session = Session(path, _subject(shown))
        if self._tell is not None:
            for note in session.notes:
                self._tell(note)
        return session


def _load(settings: PromptSettings) -> LoadedModel:
    # Not before it is needed: it takes seconds to import.
    from wsi_sampath.inference.segmenter import load_from_settings

    return load_from_settings(settings)


def _subject(shown: ShownSlide) -> Subject:
    classes = {
        one.name: DrawnClass(name=one.name, color=one.color)
        for result in shown.results
        for one in result.result.classes
    }
    slide = shown.slide
    return Subject(shown.name, slide.fingerprint(), Frame.of(slide), tuple(classes.values()))
