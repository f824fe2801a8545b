"""What is wished of the network, and where on a slide it is answered."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future, InvalidStateError
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from wsi_sampath.errors import WsiError
from wsi_sampath.inference.prompting.lattice import Lattice, Square
from wsi_sampath.prompt_files.prompt import Prompt
from wsi_sampath.slides.grid import Box
from wsi_sampath.viewer.shelf import Missing

if TYPE_CHECKING:
    from wsi_sampath.inference.prompting.embeddings import Seen
    from wsi_sampath.inference.prompting.prompter import Prompter, Views
    from wsi_sampath.inference.prompting.segmented import Segmented

State = Literal["ready", "reading", "encoding", "waiting", "failed"]
Corners = tuple[float, float, float, float]


@dataclass(frozen=True)
class Look:
    """How far the network is with a place.

    Attributes
    ----------
    state
        ``waiting`` for its turn, or for someone to ask for it.
    box
        x, y, width and height of the square that answers there, level-0 px; None as long as the
        model is not loaded or the slide not opened.
    seconds
        Since it was asked for, or since it began.
    expected_seconds
        How long a look took of late; None before the first.
    message
        A sentence, why it waits or failed; may be empty.
    """

    state: State
    box: Corners | None = None
    seconds: float = 0.0
    expected_seconds: float | None = None
    message: str = ""


@dataclass(frozen=True)
class Kept:
    """A candidate that a later question may go on from.

    Attributes
    ----------
    slide
        Its slide's id.
    found
        The candidate.
    steps
        See `AskedBy`.
    """

    slide: str
    found: Segmented
    steps: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Answered:
    """What a question was answered.

    Attributes
    ----------
    candidates
        The best first, one at least, by the token that names each later on.
    box
        x, y, width and height of the square that was looked at, level-0 px.
    """

    candidates: dict[str, Segmented]
    box: Corners


@dataclass(frozen=True)
class Sight:
    """What is to be known of a slide to say where a prompt is answered.

    Attributes
    ----------
    size
        Width and height of level 0, px.
    lattices
        From fine to coarse.
    seen
        What every embedding of the slide depends on.
    """

    size: tuple[int, int]
    lattices: tuple[Lattice, ...]
    seen: Seen

    def place(self, prompt: Prompt) -> Square:
        """Return where a prompt is answered; raises what `Prompter.place` does, as a `WsiError`."""
        from wsi_sampath.inference.prompting.questions import place

        with refusals():
            return place(prompt, self.size, self.lattices)

    def key(self, square: Square) -> str:
        """Return by what a square is kept in the cache."""
        from wsi_sampath.inference.prompting.embeddings import key_of

        return key_of(self.seen, factor=square.factor, y=square.y, x=square.x)

    def lattice(self, square: Square) -> Lattice:
        """Return the lattice of a square."""
        return next(one for one in self.lattices if one.factor == square.factor)

    def box(self, square: Square) -> Corners:
        """Return x, y, width and height of a square, cut to the slide, in level-0 px."""
        plane, side = self.lattice(square).plane, self.lattice(square).side
        x, y = square.x * plane.zoom_x, square.y * plane.zoom_y
        width, height = self.size
        return x, y, min(side * plane.zoom_x, width - x), min(side * plane.zoom_y, height - y)

    def around(self, square: Square) -> list[Square]:
        """Return the squares beside one, the nearest first."""
        lattice = self.lattice(square)
        box = Box(square.x, square.y, lattice.side, lattice.side)
        beside = [one for one in lattice.covering(box) if one != square]
        return sorted(beside, key=lambda one: abs(one.x - square.x) + abs(one.y - square.y))


@dataclass(eq=False)
class Wish:
    """Somebody's wish: to look at where a prompt is answered, and to answer it if so asked.

    Attributes
    ----------
    slide
        Its id.
    prompt
        What asks.
    previous
        What to go on from.
    answer
        Where the answer goes; None to look only.
    square
        Where it is answered, once this is known.
    state
        How far it is.
    since
        When it was made, or when it was begun, on the monotonic clock.
    """

    slide: str
    prompt: Prompt
    previous: Kept | None = None
    answer: Future[Answered] | None = None
    square: Square | None = None
    state: State = "waiting"
    since: float = field(default_factory=time.monotonic)

    @property
    def is_given_up(self) -> bool:
        """Whether nobody waits for the answer any more."""
        return self.answer is not None and self.answer.cancelled()

    def read(self, square: Square, prompter: Prompter) -> Views:
        """Read what a network is to look at, and say so before and after."""
        self.state = "reading"
        views = prompter.read(square)
        self.state = "encoding"
        return views

    def refuse(self, error: WsiError) -> None:
        """Answer with an error, if an answer is waited for."""
        if self.answer is not None:
            with suppress(InvalidStateError):
                self.answer.set_exception(error)


def goes_on(prompt: Prompt, before: Prompt) -> bool:
    """Return whether a prompt is an earlier one with more points at the end."""
    known = len(before.points)
    return (
        known < len(prompt.points)
        and bool((prompt.points[:known] == before.points).all())
        and bool((prompt.labels[:known] == before.labels).all())
        and (prompt.box, prompt.outline) == (before.box, before.outline)
    )


@contextmanager
def refusals() -> Iterator[None]:
    """Raise whatever goes wrong as a `WsiError`: the thread must not end by one prompt."""
    try:
        yield
    except (WsiError, Missing):
        raise
    except MemoryError:
        raise WsiError("out-of-memory", "the machine ran out of memory; try again") from None
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise WsiError("unreadable", f"a file cannot be read: {why}") from None
    except ValueError as error:
        raise WsiError("bad-input", str(error)) from None
    except Exception as error:
        raise WsiError("internal", f"the model failed ({type(error).__name__})") from error
