"""A model on labelled patches."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_sampath.data.patches import SPLITS, Patch, PatchSet, open_patches
from wsi_sampath.errors import UsageError
from wsi_sampath.evaluation.class_names import Matched, Pairs, match
from wsi_sampath.evaluation.intervals import mean_of_known
from wsi_sampath.evaluation.metrics import Counts, confusion
from wsi_sampath.evaluation.nuclei import score_nuclei
from wsi_sampath.evaluation.patch_predictor import PatchPredictor
from wsi_sampath.evaluation.scores import overlaps, summarise
from wsi_sampath.evaluation.settings import PatchScoring
from wsi_sampath.evaluation.worst import Labelled, Poor, check_pictures, lowest, write_pictures
from wsi_sampath.models.network import LoadedModel
from wsi_sampath.models.patho_sam.spec import PathoSamSpec
from wsi_sampath.models.zoo import load_model
from wsi_sampath.progress import counted


def score_patches(data: Path, settings: PatchScoring, renamed: Pairs = ()) -> dict[str, Any]:
    """Score a model on one split of a folder of patches.

    Parameters
    ----------
    data
        The folder.
    settings
        The model, the split, and how they are brought together.
    renamed
        Classes of the model that the data name otherwise, as in `match`.

    Returns
    -------
    dict
        Scores (see `summarise`, or `score_nuclei` of a PathoSAM) and where they come from.

    Raises
    ------
    WsiError
        For data or models that cannot be used.
    """
    if settings.pictures is not None:
        check_pictures(settings.pictures)
    opened = open_patches(data)
    chosen = chosen_patches(opened, settings.split)
    loaded = load_model(
        settings.model,
        weights=settings.weights,
        allow_random_weights=settings.allow_random_weights,
    )
    score = score_nuclei if isinstance(loaded.spec, PathoSamSpec) else _score_pixels
    scores = score(opened, chosen, loaded, settings, renamed)
    warnings = [*loaded.warnings, *scores.pop("warnings")]
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return {
        "data": data.resolve().name,
        "split": settings.split,
        "model": loaded.source,
        "weights_sha256": loaded.weights_sha256,
        "warnings": warnings,
        "patches": len(chosen),
        "cases": len({patch.case for patch in chosen}),
        **scores,
    }


def _score_pixels(
    opened: PatchSet,
    chosen: Sequence[Patch],
    model: LoadedModel,
    settings: PatchScoring,
    renamed: Pairs,
) -> dict[str, Any]:
    # Of data without classes of pixels this says so, before their names are compared.
    opened.read(chosen[0])
    ours, theirs = ([spec.name for spec in part] for part in (model.spec.classes, opened.classes))
    matched = match(ours, theirs, renamed, str(opened.root))
    predictor = PatchPredictor(
        model,
        mpp=settings.mpp or opened.mpp,
        stretch=settings.stretch,
        device=settings.device,
        precision=settings.precision,
        batch_size=settings.batch_size,
    )
    hows: set[str] = set()
    counts = list(_count(opened, chosen, predictor, matched, hows))
    cases = [patch.case for patch in chosen]
    draws, seed = settings.bootstrap, settings.seed
    scores = summarise(counts, cases, matched.names, draws=draws, seed=seed)
    if settings.pictures is not None:
        legend = matched.legend(opened.classes)
        dice = overlaps(np.stack(counts))[0]
        worst = lowest(mean_of_known(dice), settings.worst)
        poor = (_poor(opened, chosen[one], predictor, matched, dice[one]) for one in worst)
        scores["worst"] = write_pictures(settings.pictures, poor, legend)
    return {"scale": sorted(hows), "warnings": [], **scores}


def _poor(
    opened: PatchSet,
    patch: Patch,
    predictor: PatchPredictor,
    matched: Matched,
    dice: NDArray[np.float64],
) -> Poor:
    image, mask = opened.read(patch)
    (labels,) = predictor([image])
    colors = [spec.color for spec in matched.legend(opened.classes)]
    parts = zip(matched.names, dice, strict=True)
    told = ", ".join(f"{name} {one:.2f}" for name, one in parts if not np.isnan(one))
    score = float(mean_of_known(dice))
    return Poor(
        patch,
        score,
        f"mean Dice {score:.2f} ({told})",
        image,
        Labelled(matched.of_data[mask], colors),
        Labelled(matched.of_model[labels], colors),
    )


def chosen_patches(opened: PatchSet, split: str) -> tuple[Patch, ...]:
    """Return the patches of a split that is not empty.

    Raises
    ------
    UsageError
        For an unknown split, or an empty one.
    """
    known = {name: name for name in SPLITS}
    if split not in known:
        raise UsageError(f"--split {split!r} is not one of {', '.join(SPLITS)}")
    chosen = opened.split(known[split])
    if not chosen:
        sizes = ", ".join(f"{len(opened.split(name))} {name}" for name in SPLITS)
        message = f"the {split} split is empty ({sizes}); --split takes another"
        raise UsageError(message, subject=str(opened.root))
    return chosen


def _count(
    opened: PatchSet,
    chosen: Sequence[Patch],
    predictor: PatchPredictor,
    matched: Matched,
    hows: set[str],
) -> Iterator[Counts]:
    step = predictor.batch_size
    batches = (chosen[start : start + step] for start in range(0, len(chosen), step))

    def score(batch: Sequence[Patch]) -> Iterator[Counts]:
        pairs = [opened.read(patch) for patch in batch]
        hows.update(predictor.how(mask.shape) for _, mask in pairs)
        found = predictor([image for image, _ in pairs])
        for (_, mask), labels in zip(pairs, found, strict=True):
            truth, predicted = matched.of_data[mask], matched.of_model[labels]
            yield confusion(truth, predicted, len(matched.names))

    scored = chain.from_iterable(score(batch) for batch in batches)
    yield from counted(scored, "patches", len(chosen))
