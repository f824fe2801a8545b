"""Where weights come from, and what a user of the model must be told because of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from wsi_sampath.models.parse import AnySpec, spec_from_json
from wsi_sampath.models.spec import IMAGENET_MEAN, ModelSpec
from wsi_sampath.shown import shown

Spec = TypeVar("Spec", bound=ModelSpec)

UNTRAINED = "untrained"
STEPS = "steps_since_random"
VALIDATED = "validated"
"""Keys of the provenance in a checkpoint's header."""

RANDOM_WEIGHTS = (
    "the weights of the model are random: it was never trained, and its map means nothing"
)
ENOUGH_STEPS = 1000
"""Of the optimiser, after which a model that began at random gets no warning any more."""
CLAIMS = ("description", "licence", "training_data")
_SHOWN = 200
_COARSE_MPP = 10.0


def provenance_of_start(random_parts: str) -> str:
    """Return the provenance of a model that is put together but not trained, as JSON."""
    return json.dumps({UNTRAINED: random_parts}, ensure_ascii=False)


def steps_since_random(provenance: Mapping[str, Any]) -> int | None:
    """Return how many steps ago the weights were random; None if that is not known."""
    steps = provenance.get(STEPS)
    training = provenance.get("training")
    if steps is None and isinstance(training, dict) and training.get("start") == "random":
        # Written before the steps were added up.
        steps = provenance.get("steps")
    return steps if type(steps) is int and steps >= 0 else None


def warnings_of(spec: ModelSpec, provenance: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what must be said with every result of a model.

    Parameters
    ----------
    spec
        The model.
    provenance
        From its file's header; {} where there is none.
    """
    return (*_of_training(provenance), *doubts(spec))


def _of_training(provenance: Mapping[str, Any]) -> Iterable[str]:
    untrained = provenance.get(UNTRAINED)
    if untrained:
        said = shown(untrained)[:_SHOWN]
        yield f"the model was never trained ({said} random): its map means nothing"
    steps = steps_since_random(provenance)
    if steps is not None and steps < ENOUGH_STEPS:
        yield f"the model was trained from random weights in {steps} steps only; check its maps"
    if provenance.get(VALIDATED) is False:
        yield "the model was trained without patches to validate on; check its maps"


def doubts(spec: ModelSpec) -> Iterable[str]:
    """Tell what in a specification is allowed but most often a mistake."""
    for name, mean in spec.means.items():
        if tuple(mean) == IMAGENET_MEAN[::-1]:
            yield f"{name} of the model is ImageNet's in the order blue, green, red; images are RGB"
    if spec.mpp >= _COARSE_MPP:
        yield (
            f"the model reads slides at {spec.mpp:g} um per pixel; if {spec.mpp:g}x is meant, "
            "its mpp is about 10 divided by that"
        )


def with_claims(spec: ModelSpec, description: str | None, licence: str | None) -> AnySpec:
    """Return a specification with another description and licence, where these are given.

    Raises
    ------
    WsiError
        ``bad-model`` for texts that a specification cannot hold.
    """
    given = {"description": description, "licence": licence}
    changes = {name: text for name, text in given.items() if text is not None}
    return spec_from_json(json.dumps(spec.model_dump(mode="json") | changes))


def without_claims_of(spec: Spec, others: Iterable[ModelSpec]) -> Spec:
    """Return a specification that claims nothing in the words of another model.

    Parameters
    ----------
    spec
        Perhaps copied from one of `others`, but for weights that are not theirs.
    others
        Models whose description, licence and training data are about their own weights.
    """
    known = [[getattr(other, name) for other in others] for name in CLAIMS]
    borrowed = {
        name: ""
        for name, words in zip(CLAIMS, known, strict=True)
        if getattr(spec, name) and getattr(spec, name) in words
    }
    return spec.model_copy(update=borrowed) if borrowed else spec
