"""The `Prompter`: point at things on a slide, and get their masks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import cached_property, partial
from types import TracebackType
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsi_sampath.inference.durable.identity import specification_digest
from wsi_sampath.inference.prompted.masks import Edges, cut_out
from wsi_sampath.inference.prompted.network import Field, FieldNetwork
from wsi_sampath.inference.prompting.answers import ranked, without_specks
from wsi_sampath.inference.prompting.embeddings import EmbeddingCache, Seen, cache_of, key_of
from wsi_sampath.inference.prompting.lattice import (
    Lattice,
    Square,
    coarser,
    concentric,
    plan_lattices,
)
from wsi_sampath.inference.prompting.questions import (
    Unanswerable,
    are_within,
    in_frame,
    is_single_point,
    place,
)
from wsi_sampath.inference.prompting.segmented import Segmented
from wsi_sampath.inference.prompting.settings import PromptSettings
from wsi_sampath.inference.segmenter import load_from_settings
from wsi_sampath.models.network import Embedding, LoadedModel
from wsi_sampath.prompt_files.prompt import Prompt
from wsi_sampath.slides.grid import Box
from wsi_sampath.slides.overview import read_in_parts
from wsi_sampath.slides.readers.base import TileError
from wsi_sampath.slides.slide import Slide

Views = tuple[NDArray[np.uint8], ...]
_NOTHING = "the network sees nothing there"


class Prompter:
    """A slide and a network that looks at it where someone points.

    What is answered depends on the prompt, the slide and the model: not on other prompts, their
    order, or what was looked at before. Each prompt is asked by itself, for a network's last digits
    may depend on what shares a batch.

    Parameters
    ----------
    slide
        An open slide, which stays open, or the path of one, with the mpp and reader of `settings`.
    model
        A loaded model that answers prompts; None loads the one that `settings` name.
    settings
        How; the defaults if None.
    cache
        Where embeddings are kept; one of its own, as the settings have it, if None.

    Raises
    ------
    WsiError
        ``bad-model`` or wrong usage for a model that answers no prompts, and what opening a slide
        raises.

    Examples
    --------
    >>> with Prompter("slide.svs") as prompter:                            # doctest: +SKIP
    ...     found = prompter.ask(click(5120, 3300))
    ...     better = prompter.correct(found, points=[[5140, 3300]], labels=[0])
    """

    def __init__(
        self,
        slide: Slide | str | os.PathLike[str],
        model: LoadedModel | None = None,
        *,
        settings: PromptSettings | None = None,
        cache: EmbeddingCache | None = None,
    ) -> None:
        self.settings = settings or PromptSettings()
        self.model = model or load_from_settings(self.settings)
        self._network = FieldNetwork(
            self.model, device=self.settings.device, precision=self.settings.precision
        )
        self._owns_slide = not isinstance(slide, Slide)
        self.slide = slide if isinstance(slide, Slide) else _opened(slide, self.settings)
        self.cache = cache or cache_of(self.settings)
        mpp = self.settings.mpp or self.model.spec.mpp
        self.lattices = plan_lattices(
            self.slide.levels,
            (self.slide.mpp.x, self.slide.mpp.y),
            model_mpp=mpp,
            side=self.model.spec.tile,
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
        """Close the slide, if it was opened here."""
        if self._owns_slide:
            self.slide.close()

    def place(self, prompt: Prompt) -> Square:
        """Return where a prompt is answered.

        Raises
        ------
        Unanswerable
            For a prompt outside of the slide, of no area, or of nothing but points beside.
        """
        return place(prompt, self.slide.size, self.lattices)

    def ask(self, prompt: Prompt) -> Segmented:
        """Answer one prompt.

        Raises
        ------
        Unanswerable
            With the reason, where there is no answer.
        """
        square = self.place(prompt)
        return self._answer(prompt, square, self._field(square), None)

    def correct(
        self, answer: Segmented, points: NDArray[np.float64], labels: NDArray[np.int64]
    ) -> Segmented:
        """Answer the same prompt with more points, going on from an earlier answer.

        Parameters
        ----------
        answer
            The earlier answer.
        points, labels
            (n, 2) in level-0 px and (n,): 1 for what was missed, 0 for what was too much.

        Raises
        ------
        Unanswerable
            As in `ask`, and for points that the network has not seen: the square of the answer
            stays, so that what goes beyond it is to be asked for anew, by a box or more points.
        ValueError
            For labels that are not 0 or 1, one for each point.
        """
        before = answer.prompt
        self._check_seen(answer.square, np.reshape(points, (-1, 2)), np.ravel(labels))
        more = replace(
            before,
            points=np.concatenate([before.points, np.reshape(points, (-1, 2))]),
            labels=np.concatenate([before.labels, np.ravel(labels)]),
        )
        return self._answer(more, answer.square, self._field(answer.square), answer.logits)

    def candidates(self, prompt: Prompt, before: Segmented | None = None) -> list[Segmented]:
        """Answer one prompt with all that it may mean, the best first.

        The first is what `ask` answers, or `correct` where it goes on from an earlier answer. There
        are more for a single point, which leaves open what of several nested things is meant, and
        wherever `pick` is not ``best``.

        Parameters
        ----------
        prompt
            What was drawn.
        before
            An answer to go on from: `prompt` is then that one's with more points at the end.

        Raises
        ------
        Unanswerable
            As in `ask`, and as in `correct`.
        """
        square = self.place(prompt) if before is None else before.square
        if before is not None:
            known = len(before.prompt.points)
            self._check_seen(square, prompt.points[known:], prompt.labels[known:])
        logits = None if before is None else before.logits
        found = []
        for candidate in self._answers(prompt, square, self._field(square), logits):
            with suppress(Unanswerable):
                found.append(candidate())
        if not found:
            raise Unanswerable(_NOTHING)
        return found

    def answers(self, prompts: Sequence[Prompt]) -> Iterator[tuple[int, Segmented | Unanswerable]]:
        """Answer many prompts, square by square.

        Yields
        ------
        tuple
            The index of a prompt and its answer. Prompts without one come first; of the others,
            those of one square follow each other.
        """
        wanted: dict[Square, list[int]] = {}
        for index, prompt in enumerate(prompts):
            try:
                wanted.setdefault(self.place(prompt), []).append(index)
            except Unanswerable as error:
                yield index, error
        for square, field in self._fields(sorted(wanted)):
            for index in wanted[square]:
                yield index, self._answered(prompts[index], square, field)

    def squares_of(self, region: tuple[float, float, float, float] | None) -> list[Square]:
        """Return the squares at the model's mpp that answer for a region; none beside the slide.

        Parameters
        ----------
        region
            x, y, width and height in level-0 px; None for the whole slide.
        """
        finest = self.lattices[0]
        x, y, width, height = region or (0, 0, *self.slide.size)
        corners = np.array([[x, y], [x + width, y + height]], float).clip(0, self.slide.size)
        if not (corners[0] < corners[1]).all():
            return []
        low, high = finest.to_plane(corners)
        (left, top), (right, bottom) = np.array([np.floor(low), np.ceil(high)], int).tolist()
        return list(finest.covering(Box(left, top, right - left, bottom - top)))

    def precompute(self, squares: Sequence[Square]) -> Iterator[bool]:
        """Look at squares, so that prompts in them need not wait.

        Yields
        ------
        bool
            For each of them, whether it could be looked at.
        """
        for _, field in self._fields(squares):
            yield not isinstance(field, Unanswerable)

    def read(self, square: Square) -> Views:
        """Return what the network looks at in a square, one picture for each of its views.

        Raises
        ------
        TileError
            Where the slide cannot be decoded.
        """
        lattice, side = self._lattice(square), self._network.side
        views = []
        for times in self.model.spec.views:
            y, x = concentric(square, side, int(times))
            plane = coarser(lattice.plane, self.slide.levels, int(times))
            views.append(read_in_parts(self.slide.read_sampled, plane, (x, y, side, side)))
        return tuple(views)

    def look(self, square: Square, read: Callable[[], Views] | None = None) -> None:
        """Look at a square, so that prompts in it need not wait.

        Parameters
        ----------
        square
            Where.
        read
            Called, where the square is not kept, for what `read` returns; None for `read` itself.

        Raises
        ------
        Unanswerable
            With the reason, where it cannot be looked at.
        """
        self._field(square, read)

    def _fields(self, squares: Sequence[Square]) -> Iterator[tuple[Square, Field | Unanswerable]]:
        """Yield squares as the network sees them; the next one is read meanwhile."""
        with ThreadPoolExecutor(1) as reader:
            read: Future[Views] | None = None
            for index, square in enumerate(squares):
                views, read = read, None
                if index + 1 < len(squares) and not self.cache.holds(self.key(squares[index + 1])):
                    read = reader.submit(self.read, squares[index + 1])
                try:
                    yield square, self._field(square, None if views is None else views.result)
                except Unanswerable as error:
                    yield square, error

    def _field(self, square: Square, read: Callable[[], Views] | None = None) -> Field:
        make = partial(self._look, read or partial(self.read, square))
        embedding = self.cache.get(self.key(square), self._network.device, make)
        return Field(self._network, embedding)

    def _look(self, read: Callable[[], Views]) -> Embedding:
        try:
            seen = read()
        except TileError as error:
            raise Unanswerable(f"the slide cannot be decoded there: {error}") from None
        field = self._network.look(*seen)
        if field is None:
            raise Unanswerable("the network says nothing finite there")
        return field.embedding

    def _answered(
        self, prompt: Prompt, square: Square, field: Field | Unanswerable
    ) -> Segmented | Unanswerable:
        try:
            if isinstance(field, Unanswerable):
                raise field
            return self._answer(prompt, square, field, None)
        except Unanswerable as error:
            return error

    def _answer(
        self, prompt: Prompt, square: Square, field: Field, before: Tensor | None
    ) -> Segmented:
        return self._answers(prompt, square, field, before)[0]()

    def _answers(
        self, prompt: Prompt, square: Square, field: Field, before: Tensor | None
    ) -> list[Callable[[], Segmented]]:
        """Return what makes each candidate, the best first."""
        lattice, spec = self._lattice(square), self.model.spec
        asked = in_frame(prompt, square, lattice, frame=spec.frame, mask_side=spec.mask_side)
        if before is not None:
            asked = replace(asked, masks=before)
        several = is_single_point(prompt) or self.settings.pick != "best"
        logits, quality = field.ask_in_frame(asked, multimask=several and before is None)
        if not bool(torch.isfinite(logits).all() and torch.isfinite(quality).all()):
            raise Unanswerable("the network answers with numbers that are not finite")
        return [
            partial(self._candidate, prompt, square, field, logits[:, [index]], quality[0, index])
            for index in ranked(logits[0], quality[0], self.settings.pick)
        ]

    def _candidate(
        self, prompt: Prompt, square: Square, field: Field, logits: Tensor, quality: Tensor
    ) -> Segmented:
        lattice, points = self._lattice(square), prompt.points
        pixels = (field.enlarge(logits[:, 0])[0] > 0).cpu().numpy()
        on, beside = (lattice.pixels(square, points[prompt.labels == one]) for one in (1, 0))
        pixels = without_specks(pixels, on, beside, self.settings.smallest_part)
        if not pixels.any():
            raise Unanswerable(_NOTHING)
        found = cut_out(pixels)
        top, bottom, left, right = lattice.cut_edges(square)
        edges = Edges(top=top, bottom=bottom, left=left, right=right)
        return Segmented(
            prompt=prompt,
            square=square,
            mask=found.moved(square.y, square.x),
            quality=float(quality),
            mpp=(lattice.plane.mpp_x, lattice.plane.mpp_y),
            zoom=(lattice.plane.zoom_x, lattice.plane.zoom_y),
            is_cut=edges.cut(found, field.size),
            logits=logits.float().cpu(),
        )

    def _check_seen(
        self, square: Square, points: NDArray[np.float64], labels: NDArray[np.int64]
    ) -> None:
        if len(labels) != len(points) or not np.isin(labels, (0, 1)).all():
            raise ValueError("points to correct by need a label each: 1 on the object, 0 beside it")
        lattice = self._lattice(square)
        corners = square.x, square.y, square.x + lattice.side, square.y + lattice.side
        is_on_slide = are_within(points, (0, 0, *self.slide.size))
        if not (is_on_slide & are_within(lattice.to_plane(points), corners)).all():
            raise Unanswerable("has points beyond what was seen; ask anew with a box around it all")

    def _lattice(self, square: Square) -> Lattice:
        return self.lattices[square.factor.bit_length() - 1]

    def key(self, square: Square) -> str:
        """Return by what a square is kept in the cache."""
        return key_of(self.seen, factor=square.factor, y=square.y, x=square.x)

    @cached_property
    def seen(self) -> Seen:
        """What every embedding depends on, beside its square."""
        slide, network, plane = self.slide, self._network, self.lattices[0].plane
        zoom_x, zoom_y = plane.zoom_x, plane.zoom_y
        return Seen(
            slide=f"{slide.fingerprint()} {slide.reader.name} {zoom_x} {zoom_y}",
            model=f"{self.model.weights_sha256} {specification_digest(self.model.spec)}",
            precision=f"{network.precision} {network.device.type} {torch.__version__}",
        )


def _opened(slide: str | os.PathLike[str], settings: PromptSettings) -> Slide:
    return Slide.open(slide, slide_mpp=settings.slide_mpp, reader=settings.reader)
