"""How well models answer prompts that are drawn from labelled objects."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from wsi_sampath.data.objects import wanted_labels
from wsi_sampath.data.patches import Patch, PatchSet, open_patches
from wsi_sampath.errors import UsageError, WsiError
from wsi_sampath.evaluation.drawn_prompts import scattered_points, shaken_boxes
from wsi_sampath.evaluation.intervals import Floats
from wsi_sampath.evaluation.patches import chosen_patches
from wsi_sampath.evaluation.prompt_fields import Square, Squares
from wsi_sampath.evaluation.prompt_scores import PAPER, summarise_prompts
from wsi_sampath.evaluation.prompting import Answer, Prompting, asked_repeatedly
from wsi_sampath.evaluation.settings import PromptScoring
from wsi_sampath.inference.prompted.network import FieldNetwork
from wsi_sampath.models.network import Embedding, LoadedModel, PromptNetwork, Prompts
from wsi_sampath.models.zoo import load_model
from wsi_sampath.progress import counted

POINTS = (3, 5, 10)
CLICKS = 8
"""Answers to an object; the first to a point or a box, each other after a correction."""

_AT_ONCE = 16
_FROZEN = ", frozen SAM"


@dataclass(frozen=True)
class _Asked:
    """A network, or the frozen SAM within it, under the name of its row."""

    name: str
    network: FieldNetwork
    module: PromptNetwork
    views: int
    whole: bool

    def ask(
        self, embedding: Embedding, prompts: Prompts, *, side: int, several: bool
    ) -> tuple[Tensor, Tensor]:
        """Answer prompts in px of a square of `side` px."""
        frame = self.network.side * self.network.scale
        placed = prompts.scaled(frame / side).to(self.network.device)
        with self.network.running():
            part = embedding if self.whole else embedding[:1]
            logits, quality = self.module.masks(part, placed, multimask=several)
            return logits.float().cpu(), quality.float().cpu()


def score_prompts(
    data: Path,
    settings: PromptScoring,
    *,
    against: Sequence[str] = (),
    objects: Sequence[str] = (),
) -> dict[str, Any]:
    """Score the answers of models to prompts on one split of a folder of patches.

    Parameters
    ----------
    data
        The folder; a WSI-SAM needs one with a context.
    settings
        The first model, the split, the protocol.
    against
        Further models, asked for the same objects by the same prompts.
    objects
        Classes whose areas are objects; all if there are none.

    Returns
    -------
    dict
        Of `summarise_prompts`, where the scores come from, and ``paper``. Of a WSI-SAM the frozen
        SAM has a row of its own.

    Raises
    ------
    WsiError
        For data or models that cannot be used.
    """
    opened = open_patches(data)
    chosen = chosen_patches(opened, settings.split)
    models = _loaded([settings.model, *against], settings)
    return score_models(opened, chosen, models, settings, objects)


def score_models(
    opened: PatchSet,
    chosen: Sequence[Patch],
    models: Sequence[LoadedModel],
    settings: PromptScoring,
    objects: Sequence[str] = (),
) -> dict[str, Any]:
    """Score models that are loaded, of different sources; see `score_prompts`."""
    rows = [row for model in models for row in _rows(model, opened, settings)]
    squares = _squares(opened, settings, objects, models[0])
    protocol = _protocol(opened, settings)
    read = counted(iter(chosen), "patches", len(chosen))
    shown = (square for patch in read for square in squares.of(patch))
    ious, cases = _asked_all(rows, shown, settings.seed, clicks=protocol == "clicks")
    if not cases:
        raise UsageError("the split holds no object to ask for", subject=str(opened.root))
    scores = summarise_prompts(ious, cases, draws=settings.bootstrap, seed=settings.seed)
    return {
        "data": opened.root.resolve().name,
        "split": settings.split,
        "protocol": protocol,
        "object": "all of a patch together" if settings.paper_compatible else "each by itself",
        "square_px": squares.side if not opened.has_context else "the patch",
        "models": {
            one.source: {"weights_sha256": one.weights_sha256, "warnings": list(one.warnings)}
            for one in models
        },
        "patches": len(chosen),
        "objects": len(cases),
        "cases": len(set(cases)),
        **scores,
        **({} if protocol == "clicks" else {"paper": PAPER}),
    }


def _asked_all(
    rows: Sequence[_Asked], squares: Iterator[Square], seed: int, *, clicks: bool
) -> tuple[dict[str, dict[str, Floats]], list[str]]:
    """Return the IoU of every object by row and kind of prompt, and the objects' cases."""
    cases: list[str] = []
    found: dict[str, dict[str, list[Floats]]] = {row.name: {} for row in rows}
    for square in squares:
        cases += [square.case] * int(square.objects.max())
        for name, kind, ious in _answers(rows, square, seed, clicks=clicks):
            found[name].setdefault(kind, []).append(ious)
    joined = {
        name: {kind: np.concatenate(parts) for kind, parts in kinds.items()}
        for name, kinds in found.items()
    }
    return joined, cases


def _loaded(names: Sequence[str], settings: PromptScoring) -> list[LoadedModel]:
    if len(set(names)) < len(names):
        raise UsageError("a model is named twice")
    models = []
    for name in names:
        model = load_model(
            name,
            weights=settings.weights if name == settings.model else None,
            allow_random_weights=settings.allow_random_weights,
        )
        for warning in model.warnings:
            print(f"warning: {name}: {warning}", file=sys.stderr)
        models.append(model)
    return models


def _rows(model: LoadedModel, opened: PatchSet, settings: PromptScoring) -> Iterator[_Asked]:
    views = len(model.spec.views)
    if views > 1 and not opened.has_context:
        message = f"has no context, which {model.source} looks at; see: wsi-prepare slide --help"
        raise UsageError(message, subject=str(opened.root))
    network = FieldNetwork(model, device=settings.device, precision=settings.precision)
    yield _Asked(model.source, network, network.module, views, whole=True)
    if views > 1:
        frozen = cast(PromptNetwork, getattr(network.module, "sam"))  # noqa: B009
        yield _Asked(model.source + _FROZEN, network, frozen, views, whole=False)


def _protocol(opened: PatchSet, settings: PromptScoring) -> str:
    if settings.protocol == "auto":
        return "clicks" if opened.has_nuclei else "zero-shot"
    return settings.protocol


def _squares(
    opened: PatchSet, settings: PromptScoring, objects: Sequence[str], model: LoadedModel
) -> Squares:
    if opened.has_nuclei and objects:
        raise UsageError("--objects is for classes of pixels; nuclei are objects as they are")
    mpp = settings.mpp or opened.mpp or model.spec.mpp
    return Squares(
        opened,
        side=max(1, round(model.spec.tile * model.spec.mpp / mpp)),
        wanted=wanted_labels(opened.classes, objects),
        nuclei=opened.has_nuclei,
        together=settings.paper_compatible,
        least_px=settings.min_size_px,
    )


def _answers(
    rows: Sequence[_Asked], square: Square, seed: int, *, clicks: bool
) -> Iterator[tuple[str, str, Floats]]:
    """Yield the row, the kind of prompt, and the IoU of every object."""
    looked: dict[int, Embedding] = {}
    for row in rows:
        if id(row.network) not in looked:
            looked[id(row.network)] = _look(row, square)
        embedding = looked[id(row.network)]
        found: dict[str, list[Floats]] = {}
        for number, truth in enumerate(square.masks(_AT_ONCE)):
            generator = torch.Generator().manual_seed(_seed_of(seed, square.name, number))
            ask = _asker(row, embedding, truth.shape[-1])
            way = _by_clicks if clicks else _by_prompts
            for kind, answer in way(ask, truth, generator):
                found.setdefault(kind, []).append(_ious(answer, truth))
        for kind, parts in found.items():
            yield row.name, kind, np.concatenate(parts)


def _look(row: _Asked, square: Square) -> Embedding:
    views = [_resized(view, row.network.side) for view in square.views[: row.views]]
    field = row.network.look(*views)
    if field is None:
        message = f"the network {row.name} answers with numbers that are not finite"
        raise WsiError("bad-model", f"{message}; try --precision fp32")
    return field.embedding


def _asker(row: _Asked, embedding: Embedding, side: int) -> Callable[[Prompts, bool], Answer]:
    def ask(prompts: Prompts, several: bool) -> Answer:
        return row.ask(embedding, prompts, side=side, several=several)

    return ask


def _by_prompts(
    ask: Callable[[Prompts, bool], Answer], truth: Tensor, generator: torch.Generator
) -> Iterator[tuple[str, Answer]]:
    """Yield the kinds of the zero-shot protocol and their answers."""
    yield "box", ask(Prompts(boxes=shaken_boxes(truth, generator)), False)
    for count in POINTS:
        points = scattered_points(truth, count, generator)
        yield f"{count} points", ask(Prompts(points, torch.ones(points.shape[:2])), False)


def _by_clicks(
    ask: Callable[[Prompts, bool], Answer], truth: Tensor, generator: torch.Generator
) -> Iterator[tuple[str, Answer]]:
    """Yield how often an object was asked for, from a point and from a box, and the answers."""
    how = Prompting(objects=len(truth), rounds=CLICKS, mask_share=0, box_noise=0)
    for begin in ("point", "box"):
        answers = asked_repeatedly(ask, truth, how, generator, box_first=begin == "box")
        for number, answer in enumerate(answers, start=1):
            yield f"{begin}, {number}", answer


def _ious(answer: Answer, truth: Tensor) -> Floats:
    logits, quality = answer
    best = logits[torch.arange(len(logits)), quality.argmax(dim=1)][:, None]
    masks = functional.interpolate(best, truth.shape[-2:], mode="bilinear")[:, 0] > 0
    common = (masks & truth).sum(dim=(1, 2)).double()
    found: Floats = (common / (masks | truth).sum(dim=(1, 2))).numpy()
    return found


def _resized(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    if image.shape[:2] == (side, side):
        return image
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR))


def _seed_of(seed: int, name: str, number: int) -> int:
    """Return what all random choices for some objects come from, whatever the model."""
    state = np.random.SeedSequence([seed, number, zlib.crc32(name.encode())])
    return int(state.generate_state(1)[0])
