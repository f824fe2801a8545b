"""One thread that owns the network: it looks where someone points, and answers what is asked.

A network is not thread-safe, and a look takes seconds: so requests leave their wish and go on, or
wait for their answer. What was asked comes before what is to be looked at, the newest first, and
the surroundings of the last question after all else. The model is loaded by the same thread, so
that the page is there at once.
"""

from __future__ import annotations

import secrets
import statistics
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from wsi_sampath.errors import WsiError
from wsi_sampath.inference.prompting.lattice import Square
from wsi_sampath.inference.prompting.settings import PromptSettings
from wsi_sampath.prompt_files.prompt import Prompt
from wsi_sampath.viewer.shelf import Missing, Shelf
from wsi_sampath.viewer.wishes import Answered, Kept, Look, Sight, Wish, goes_on, refusals

if TYPE_CHECKING:
    from wsi_sampath.inference.prompting.embeddings import EmbeddingCache
    from wsi_sampath.inference.prompting.prompter import Prompter
    from wsi_sampath.inference.prompting.segmented import Segmented
    from wsi_sampath.models.network import LoadedModel

MOST_WAITING = 16
"""Questions, and as many wishes to look, that may wait; of wishes the oldest go."""
MOST_KEPT = 32
IDLE_S, SHORT_S = 1.5, 2.0
"""The surroundings are looked at after so long without a wish, where a look takes no longer."""
_MOST_SIGHTS = 64
_MOST_FAILURES = 256
_PATIENCE_S = 1.0


class Asker:
    """Looks and answers, in a thread of its own.

    Parameters
    ----------
    shelf
        Where the slides are.
    settings
        The model, and how it is asked.
    load
        Loads the model.
    tell
        Told, in a sentence, why the model cannot be used, or what is waited for in the end.
    """

    def __init__(
        self,
        shelf: Shelf,
        settings: PromptSettings,
        load: Callable[[PromptSettings], LoadedModel],
        *,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self.settings = settings
        self._shelf, self._load, self._tell = shelf, load, tell
        self._stir = threading.Condition()
        self._asked: list[Wish] = []
        self._looks: list[Wish] = []
        self._beside: list[tuple[str, Square]] = []
        self._now: Wish | None = None
        self._is_closing = False
        self._stirred = 0.0
        self._failure: WsiError | None = None
        self._model: LoadedModel | None = None
        self._cache: EmbeddingCache | None = None
        self._prompter: tuple[str, Prompter] | None = None
        self._sights: OrderedDict[str, Sight] = OrderedDict()
        self._failed: OrderedDict[tuple[str, Square | None], str] = OrderedDict()
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._took: deque[float] = deque(maxlen=5)
        self._thread = threading.Thread(target=self._run, daemon=True, name="asker")
        self._thread.start()

    @property
    def model(self) -> LoadedModel | None:
        """The model, once it is loaded."""
        return self._model

    def close(self) -> None:
        """Stop after what is being done, which is waited for: a process cannot end within it."""
        with self._stir:
            self._is_closing = True
            self._stir.notify()
        self._thread.join(_PATIENCE_S)
        if self._thread.is_alive() and self._tell is not None:
            self._tell("the model is busy; wsi-view ends as soon as it is done")
        self._thread.join()

    def look(self, slide: str, prompt: Prompt, *, start: bool) -> Look:
        """Tell how far the network is with where a prompt is answered.

        Parameters
        ----------
        slide
            Id of the slide.
        prompt
            A click there.
        start
            Whether to have it looked at, next of all looks.

        Raises
        ------
        Missing
            Where there is no such slide.
        WsiError
            ``bad-input`` for a place outside of the slide.
        """
        self._shelf.entry(slide)
        with self._stir:
            told = self._told(slide, prompt)
            if not start or told.state in ("ready", "reading", "encoding") or self._failure:
                return told
            self._forget_failures(slide, self._square(slide, prompt))
            same = [one for one in self._looks if self._is_same(one, slide, prompt)]
            self._looks = [one for one in self._looks if one not in same]
            self._looks += same[:1] or [Wish(slide, prompt)]
            for one in self._looks[:-MOST_WAITING]:
                why = "too much else was to be looked at; go there again"
                self._fail(one.slide, self._square(one.slide, one.prompt), why)
            self._looks = self._looks[-MOST_WAITING:]
            self._wake()
            return self._told(slide, prompt)

    def ask(self, slide: str, prompt: Prompt, previous: str | None) -> Future[Answered]:
        """Have a prompt answered.

        Parameters
        ----------
        slide
            Id of the slide.
        prompt
            All of it, with what earlier questions had.
        previous
            Token of a candidate to go on from. It counts where the prompt is that of the candidate
            with more points at the end, which the network has seen; otherwise it is asked anew.

        Returns
        -------
        Future
            Of the answer; its error is a `WsiError`, ``bad-input`` for what has no answer.

        Raises
        ------
        Missing
            Where there is no such slide.
        WsiError
            ``busy`` where too many questions wait, or why there is no model.
        """
        self._shelf.entry(slide)
        with self._stir:
            if self._failure is not None:
                raise self._failure
            if len(self._asked) >= MOST_WAITING:
                raise WsiError("busy", "too many questions wait for the model; ask again later")
            kept = self._kept.get(previous) if previous else None
            if kept is not None and (kept.slide != slide or not goes_on(prompt, kept.found.prompt)):
                kept = None
            answer: Future[Answered] = Future()
            self._asked.append(Wish(slide, prompt, kept, answer))
            self._wake()
        return answer

    def kept(self, slide: str, token: str) -> Kept:
        """Return the candidate of a token.

        Raises
        ------
        WsiError
            ``bad-input`` where it is not kept any more.
        """
        with self._stir:
            found = self._kept.get(token)
        if found is None or found.slide != slide:
            raise WsiError("bad-input", "this answer is not kept any more; ask again")
        return found

    # What follows is called with the lock held.

    def _told(self, slide: str, prompt: Prompt) -> Look:
        if self._failure is not None:
            return Look("failed", message=self._failure.message)
        waiting = [one for one in (*self._looks, *self._asked) if one.slide == slide]
        since = min((one.since for one in waiting), default=time.monotonic())
        waited = time.monotonic() - since
        expected = statistics.median(self._took) if self._took else None
        if self._cache is None:
            return Look("waiting", None, waited, expected, "the model is being loaded")
        sight, now = self._sights.get(slide), self._now
        square = None if sight is None else sight.place(prompt)
        if (slide, square) in self._failed:
            return Look("failed", message=self._failed[slide, square])
        if sight is None or square is None:
            return Look("waiting", None, waited, expected)
        box = sight.box(square)
        if now is not None and (now.slide, now.square) == (slide, square) and now.state != "ready":
            return Look(now.state, box, time.monotonic() - now.since, expected)
        if self._cache.holds(sight.key(square)):
            return Look("ready", box, 0.0, expected)
        return Look("waiting", box, waited, expected)

    def _wake(self) -> None:
        self._stirred = time.monotonic()
        self._stir.notify()

    def _square(self, slide: str, prompt: Prompt) -> Square | None:
        """Return where a prompt is answered; None where it is not, or the slide not opened yet."""
        if slide not in self._sights:
            return None
        with suppress(WsiError):
            return self._sights[slide].place(prompt)
        return None

    def _is_same(self, wish: Wish, slide: str, prompt: Prompt) -> bool:
        if wish.slide != slide:
            return False
        if np.array_equal(wish.prompt.points, prompt.points):
            return True
        square = self._square(slide, prompt)
        return square is not None and square == self._square(slide, wish.prompt)

    def _forget_failures(self, slide: str, square: Square | None) -> None:
        for one in (square, None):
            self._failed.pop((slide, one), None)

    def _fail(self, slide: str, square: Square | None, why: str) -> None:
        self._failed[slide, square] = why
        _trim(self._failed, _MOST_FAILURES)

    # What the thread does.

    def _run(self) -> None:
        try:
            with refusals():
                self._begin()
        except WsiError as error:
            self._give_up(error)
            if self._tell is not None:
                self._tell(f"clicks are not answered: {error}")
            return
        while (wish := self._next()) is not None:
            self._grant(wish)
            with self._stir:
                self._now = None
        self._give_up(WsiError("busy", "wsi-view is being closed"))
        if self._prompter is not None:
            self._prompter[1].close()

    def _begin(self) -> None:
        model = self._load(self.settings)
        # Not before: it takes seconds to import.
        from wsi_sampath.inference.prompted.network import refuse_promptless
        from wsi_sampath.inference.prompting.embeddings import cache_of

        refuse_promptless(model)
        with self._stir:
            self._model, self._cache = model, cache_of(self.settings)

    def _give_up(self, error: WsiError) -> None:
        with self._stir:
            self._failure = error
            for wish in self._asked:
                wish.refuse(error)
            self._asked.clear()
            self._looks.clear()

    def _next(self) -> Wish | None:
        """Wait for a wish; None at the end."""
        with self._stir:
            while not self._is_closing:
                # An answer that nobody waits for any more is not worth its time.
                self._asked = [one for one in self._asked if not one.is_given_up]
                if self._asked:
                    self._now = self._asked.pop(self._best())
                elif self._looks:
                    self._now = self._looks.pop()
                elif (rest := self._rest()) == 0:
                    slide, square = self._beside.pop(0)
                    self._now = Wish(slide, Prompt(""), square=square)
                if self._now is not None:
                    self._now.since = time.monotonic()
                    return self._now
                self._stir.wait(rest)
        return None

    def _rest(self) -> float | None:
        """Return how long to wait before the surroundings may be looked at; None for ever.

        A look is not interrupted, and whoever clicks next has to wait for its end.
        """
        if not self._beside or statistics.median(self._took or [0.0]) > SHORT_S:
            return None
        return max(0.0, self._stirred + IDLE_S - time.monotonic())

    def _best(self) -> int:
        """Return which question comes first: the newest, of those that need no look if any."""
        order = range(len(self._asked) - 1, -1, -1)
        return next((one for one in order if self._is_seen(self._asked[one])), order[0])

    def _is_seen(self, wish: Wish) -> bool:
        square = self._square(wish.slide, wish.prompt)
        if square is None or self._cache is None:
            return False
        return self._cache.holds(self._sights[wish.slide].key(square))

    def _grant(self, wish: Wish) -> None:
        try:
            with refusals():
                prompter = self._opened(wish)
                if wish.square is None:
                    kept = wish.previous
                    wish.square = kept.found.square if kept else prompter.place(wish.prompt)
                self._look(wish, prompter)
                if wish.answer is not None and wish.answer.set_running_or_notify_cancel():
                    wish.answer.set_result(self._answer(wish, prompter))
        except (WsiError, Missing) as error:
            why = error if isinstance(error, WsiError) else WsiError("bad-input", str(error))
            with self._stir:
                is_blind = wish.slide not in self._sights or wish.square is not None
                if is_blind and wish.state != "ready":
                    self._fail(wish.slide, wish.square, why.message)
            wish.refuse(why)

    def _opened(self, wish: Wish) -> Prompter:
        if self._prompter is not None and self._prompter[0] == wish.slide:
            return self._prompter[1]
        from wsi_sampath.inference.prompting.prompter import Prompter

        wish.state = "reading"
        if self._prompter is not None:
            self._prompter[1].close()
            self._prompter = None
        with self._shelf.open(wish.slide) as shown:
            scale = {"slide_mpp": (shown.slide.mpp.x, shown.slide.mpp.y)}
        # A handle of its own, which the shelf does not close.
        settings = self.settings.model_copy(update=scale)
        prompter = Prompter(shown.path, self._model, settings=settings, cache=self._cache)
        self._prompter = (wish.slide, prompter)
        with self._stir:
            sight = Sight(prompter.slide.size, prompter.lattices, prompter.seen)
            self._sights[wish.slide] = sight
            _trim(self._sights, _MOST_SIGHTS)
        return prompter

    def _look(self, wish: Wish, prompter: Prompter) -> None:
        assert wish.square is not None
        began = time.monotonic()
        prompter.look(wish.square, partial(wish.read, wish.square, prompter))
        if wish.state == "encoding":
            self._took.append(time.monotonic() - began)
        wish.state = "ready"
        with self._stir:
            self._forget_failures(wish.slide, wish.square)

    def _answer(self, wish: Wish, prompter: Prompter) -> Answered:
        from wsi_sampath.inference.prompting.questions import Unanswerable

        previous, asked = wish.previous, len(wish.prompt.points)
        steps: tuple[tuple[int, int], ...] = ()
        found: list[Segmented] = []
        if previous is not None:
            try:
                found = prompter.candidates(wish.prompt, previous.found)
                steps = previous.steps
            except Unanswerable:
                # Its square does not show all of the points: another one may.
                previous = None
        if previous is None:
            found = prompter.candidates(wish.prompt)
        kept = {
            secrets.token_hex(8): Kept(wish.slide, one, (*steps, (asked, number)))
            for number, one in enumerate(found)
        }
        square = found[0].square
        with self._stir:
            self._kept |= kept
            _trim(self._kept, MOST_KEPT)
            sight = self._sights[wish.slide]
            self._beside = [(wish.slide, one) for one in sight.around(square)]
        return Answered({token: one.found for token, one in kept.items()}, sight.box(square))


def _trim(held: OrderedDict[Any, Any], most: int) -> None:
    while len(held) > most:
        held.popitem(last=False)
