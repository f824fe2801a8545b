"""Nuclei that a PathoSAM finds in patches, against those that are labelled there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_sampath.data.patches import TYPES, Nuclei, Patch, PatchSet
from wsi_sampath.errors import UsageError
from wsi_sampath.evaluation.class_names import Matched, Pairs, match
from wsi_sampath.evaluation.instance_scores import summarise_classes, summarise_instances
from wsi_sampath.evaluation.instances import Tally, classes_of, tally, tally_classes
from wsi_sampath.evaluation.nucleus_predictor import NucleusPredictor, PatchNuclei
from wsi_sampath.evaluation.settings import PatchScoring
from wsi_sampath.models.network import LoadedModel
from wsi_sampath.progress import counted


@dataclass(frozen=True)
class _Counted:
    """What was found in one patch: over all nuclei, and by class where classes are scored."""

    all: Tally
    by_class: tuple[Tally, NDArray[np.int64]] | None


def score_nuclei(
    opened: PatchSet,
    chosen: Sequence[Patch],
    model: LoadedModel,
    settings: PatchScoring,
    renamed: Pairs = (),
) -> dict[str, Any]:
    """Score a PathoSAM on patches.

    Parameters
    ----------
    opened, chosen
        The folder, and its patches that are scored.
    model
        The model.
    settings
        How patches and model are brought together.
    renamed
        Classes of the model that the data name otherwise, as in `match`.

    Returns
    -------
    dict
        ``instances`` (see `summarise_instances`), ``instance_classes`` (see `summarise_classes`;
        None where model or data have no classes of nuclei, or not the same ones), ``scale``, and
        ``warnings``, what the user should know.

    Raises
    ------
    WsiError
        For data that cannot be used, names that do not match, or another kind of model.
    """
    if settings.stretch:
        raise UsageError("--stretch is for classes of pixels: nuclei have a size of their own")
    predictor = NucleusPredictor(
        model,
        mpp=settings.mpp or opened.mpp,
        device=settings.device,
        precision=settings.precision,
        batch_size=settings.batch_size,
    )
    matched, notes = _matched(opened, model, renamed)
    counts = list(_count(opened, chosen, predictor, matched))
    cases = [patch.case for patch in chosen]
    return {
        "scale": [predictor.how],
        "warnings": notes,
        **_scores(counts, cases, matched, draws=settings.bootstrap, seed=settings.seed),
    }


def _scores(
    counts: Sequence[_Counted],
    cases: Sequence[str],
    matched: Matched | None,
    *,
    draws: int,
    seed: int,
) -> dict[str, Any]:
    over_all = summarise_instances([one.all for one in counts], cases, draws=draws, seed=seed)
    if matched is None:
        return {"instances": over_all, "instance_classes": None}
    by_class = [one.by_class for one in counts if one.by_class is not None]
    tallies, tables = [one for one, _ in by_class], [table for _, table in by_class]
    classes = summarise_classes(tallies, tables, cases, matched.names, draws=draws, seed=seed)
    return {"instances": over_all, "instance_classes": classes}


def _matched(
    opened: PatchSet, model: LoadedModel, renamed: Pairs
) -> tuple[Matched | None, list[str]]:
    """Return how classes are matched, or None and why they are not scored."""
    ours, theirs = ([spec.name for spec in part] for part in (model.spec.classes, opened.classes))
    if len(ours) < 2 or TYPES not in opened.layers:
        if renamed:
            whose = "the model has" if len(ours) < 2 else "the data have"
            raise UsageError(f"--same: {whose} no classes of nuclei")
        return None, []
    try:
        return match(ours, theirs, renamed, str(opened.root)), []
    except UsageError as error:
        if renamed:
            raise
        return None, [f"classes of nuclei are not scored: {error.message}"]


def _count(
    opened: PatchSet,
    chosen: Sequence[Patch],
    predictor: NucleusPredictor,
    matched: Matched | None,
) -> Iterator[_Counted]:
    step = predictor.batch_size
    batches = (chosen[start : start + step] for start in range(0, len(chosen), step))

    def score(batch: Sequence[Patch]) -> Iterator[_Counted]:
        read = [opened.read_nuclei(patch) for patch in batch]
        for true, found in zip(read, predictor([one.image for one in read]), strict=True):
            yield _compare(true, found, matched)

    scored = chain.from_iterable(score(batch) for batch in batches)
    yield from counted(scored, "patches", len(chosen))


def _compare(true: Nuclei, found: PatchNuclei, matched: Matched | None) -> _Counted:
    if matched is None or true.types is None:
        return _Counted(tally(true.instances, found.labels), None)
    classes = (
        matched.of_data[classes_of(true.instances, true.types)],
        matched.of_model[found.classes],
    )
    by_class = tally_classes(true.instances, found.labels, *classes, len(matched.names))
    return _Counted(tally(true.instances, found.labels), by_class)
