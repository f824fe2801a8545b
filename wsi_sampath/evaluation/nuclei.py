"""Nuclei that a PathoSAM finds in patches, against those that are labelled there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_sampath.classes import ClassSpec
from wsi_sampath.data.patches import TYPES, Nuclei, Patch, PatchSet
from wsi_sampath.errors import UsageError
from wsi_sampath.evaluation.class_names import Matched, Pairs, match
from wsi_sampath.evaluation.confusions import named_confusion
from wsi_sampath.evaluation.instance_scores import summarise_classes, summarise_instances
from wsi_sampath.evaluation.instances import (
    Tally,
    classes_of,
    scores,
    stacked,
    tally,
    tally_classes,
)
from wsi_sampath.evaluation.nucleus_predictor import NucleusPredictor, PatchNuclei
from wsi_sampath.evaluation.settings import PatchScoring
from wsi_sampath.evaluation.worst import Labelled, Poor, lowest, write_pictures
from wsi_sampath.models.network import LoadedModel
from wsi_sampath.progress import counted

_NUCLEUS = ClassSpec(name="nucleus", color="#00a0ff")
_UNKNOWN = "#808080"
"""The colour of a nucleus whose class is not known."""


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
        None where model or data have no classes of nuclei, or not the same ones; else with a
        ``confusion``, see `named_confusion`), ``worst`` (see `write_pictures`), ``scale``, and
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
    result = _scores(counts, cases, matched, draws=settings.bootstrap, seed=settings.seed)
    if settings.pictures is not None:
        legend = [_NUCLEUS] if matched is None else matched.legend(opened.classes)
        single = scores(stacked([one.all for one in counts]))
        worst = lowest(single["pq"], settings.worst)
        told = {name: values.tolist() for name, values in single.items()}
        poor = (
            _poor(opened, chosen[one], predictor, matched, {name: told[name][one] for name in told})
            for one in worst
        )
        result["worst"] = write_pictures(settings.pictures, poor, legend)
    return {"scale": [predictor.how], "warnings": notes, **result}


def _poor(
    opened: PatchSet,
    patch: Patch,
    predictor: NucleusPredictor,
    matched: Matched | None,
    score: Mapping[str, float],
) -> Poor:
    true = opened.read_nuclei(patch)
    (found,) = predictor([true.image])
    of_true = of_found = None
    if matched is not None and true.types is not None:
        of_true = matched.of_data[classes_of(true.instances, true.types)]
        of_found = matched.of_model[found.classes]
    colors = [] if matched is None else [spec.color for spec in matched.legend(opened.classes)]
    return Poor(
        patch,
        score["pq"],
        f"PQ {score['pq']:.2f} (F1 {score['f1_50']:.2f}, AJI {score['aji']:.2f})",
        true.image,
        _drawn(true.instances, of_true, colors),
        _drawn(found.labels, of_found, colors),
    )


def _drawn(
    instances: NDArray[Any], classes: NDArray[np.uint8] | None, colors: Sequence[str]
) -> Labelled:
    """Return nuclei numbered in turn, each in the colour of its class, if that is known."""
    ids, labels = np.unique(instances, return_inverse=True)
    if ids[0]:
        # No background: the first nucleus is 1 all the same.
        ids, labels = np.concatenate([[0], ids]), labels + 1
    table = [_UNKNOWN, *colors]
    of_ids = [None if classes is None else int(classes[one]) for one in ids[1:]]
    chosen = [_NUCLEUS.color if one is None else table[one] for one in of_ids]
    return Labelled(labels.reshape(instances.shape), chosen)


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
    table = named_confusion(np.sum(tables, axis=0), matched.names, "nuclei")
    return {"instances": over_all, "instance_classes": classes, "confusion": table}


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
