"""How well objects of one label image were found in another: counts that add up, and scores.

A pair of a true and a found object is a match where their IoU is large enough. Above one half, no
object has two matches. The field asks for IoU >= threshold, and for one match of an object at most
(StarDist, elf, Cellpose); panoptic quality alone asks for IoU > 0.5. Thresholds are compared in
whole pixels, so that nothing depends on rounding.

Counts of images without objects are zeros, and every found object is counted, also in images where
none is true.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wsi_sampath.evaluation.overlap import Flags, Ints, Overlap, overlap

Floats = NDArray[np.float64]
Labels = NDArray[np.integer[Any]]

PERCENTS = tuple(range(50, 100, 5))
"""Thresholds of the IoU that the mean segmentation accuracy goes over, in percent."""


class Tally(NamedTuple):
    """What the scores are made of; all float64, of one shape (...) but for `hits`.

    Attributes
    ----------
    true, found
        Numbers of objects.
    hits
        (..., thresholds) matches with IoU of at least each of `PERCENTS`.
    hit_iou
        Sum of the IoU of the matches at one half.
    strict_hits, strict_iou
        Number of the matches above one half, and the sum of their IoU.
    aji_shared_px, aji_union_px
        Numerator and denominator of the aggregated Jaccard index.
    """

    true: Floats
    found: Floats
    hits: Floats
    hit_iou: Floats
    strict_hits: Floats
    strict_iou: Floats
    aji_shared_px: Floats
    aji_union_px: Floats


def tally(truth: Labels, found: Labels) -> Tally:
    """Count what was found in one image.

    Parameters
    ----------
    truth, found
        (height, width) integers of one shape, 0 for background; every other value is one object.

    Raises
    ------
    ValueError
        As `overlap` does.
    """
    return _tally(overlap(truth, found))


def tally_classes(
    truth: Labels, found: Labels, true_classes: Labels, found_classes: Labels, classes: int
) -> tuple[Tally, Ints]:
    """Count what was found of each class in one image.

    The objects of one class are compared with those found of that class, as in PanNuke, but for
    this: what is found of a class that the image does not have counts as false. A true object of
    class 0 is of an unknown one; neither it nor its match counts for any class.

    Parameters
    ----------
    truth, found
        As for `tally`.
    true_classes, found_classes
        The class of every id, 0 or 1..k, as long as the largest id + 1.
    classes
        Number of classes, k.

    Returns
    -------
    Tally
        Of shape (k,).
    ndarray
        (k + 1, k + 1) int64: true objects by their class and by that of their match at IoU >= 0.5;
        column 0 has those without a match, and row 0 the found objects without one.
    """
    both = overlap(truth, found)
    true_class = true_classes[both.true_ids].astype(np.int64)
    found_class = found_classes[both.found_ids].astype(np.int64)
    matched = _matches(both)
    pair_true, pair_found = both.pair_true[matched], both.pair_found[matched]
    known = np.ones(len(found_class), bool)
    known[pair_found[true_class[pair_true] == 0]] = False
    match_class = np.zeros(len(true_class), np.int64)
    match_class[pair_true] = found_class[pair_found]
    alone = known.copy()
    alone[pair_found] = False
    table = np.zeros((classes + 1, classes + 1), np.int64)
    np.add.at(table, (true_class, match_class), (true_class > 0).astype(np.int64))
    table[0] += np.bincount(found_class[alone], minlength=classes + 1)
    parts = [
        _tally(both.only(true_class == one, (found_class == one) & known))
        for one in range(1, classes + 1)
    ]
    return stacked(parts), table


def stacked(tallies: Iterable[Tally]) -> Tally:
    """Return tallies of one shape (...) as one of shape (tallies, ...)."""
    return Tally(*(np.stack(values) for values in zip(*tallies, strict=True)))


def scores(tallied: Tally) -> dict[str, Floats]:
    """Return all scores, each of the tally's shape (...); NaN where there is nothing to score.

    ``f1_50``, ``precision``, ``recall`` and ``mean_iou`` (of the matches) are at IoU >= 0.5.
    ``pq`` = ``dq`` x ``sq`` is panoptic quality (Kirillov et al. 2019). ``aji`` is the aggregated
    Jaccard index (Kumar et al. 2017). ``sa50`` and ``sa75`` are TP / (TP + FP + FN) at one
    threshold, and ``msa`` is the mean over `PERCENTS`.
    """
    both = tallied.true + tallied.found
    accuracy = _ratio(tallied.hits, both[..., None] - tallied.hits)
    hits = tallied.hits[..., 0]
    return {
        "f1_50": _ratio(2 * hits, both),
        "precision": _ratio(hits, tallied.found),
        "recall": _ratio(hits, tallied.true),
        "mean_iou": _ratio(tallied.hit_iou, hits),
        "aji": _ratio(tallied.aji_shared_px, tallied.aji_union_px),
        "pq": _ratio(2 * tallied.strict_iou, both),
        "dq": _ratio(2 * tallied.strict_hits, both),
        "sq": _ratio(tallied.strict_iou, tallied.strict_hits),
        "msa": accuracy.mean(axis=-1),
        "sa50": accuracy[..., PERCENTS.index(50)],
        "sa75": accuracy[..., PERCENTS.index(75)],
    }


def classes_of(labels: Labels, types: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the class of every id of a label image, 0 for none, as long as the largest id + 1.

    The class of an object is the one that most of its pixels have; 0 only where all have 0.

    Parameters
    ----------
    labels
        (height, width) integers, 0 for background.
    types
        (height, width) uint8, 0 or the class of a pixel.
    """
    both = overlap(labels, types)
    # By the pixels shared, so that the last one written for an id is the largest.
    order = np.argsort(both.shared_px, kind="stable")
    classes = np.zeros(int(labels.max(initial=0)) + 1, np.uint8)
    ids, of_pair = both.true_ids[both.pair_true], both.found_ids[both.pair_found]
    classes[ids[order]] = of_pair[order]
    return classes


def _tally(both: Overlap) -> Tally:
    matched = _matches(both)
    shared, union = both.shared_px[matched], both.union_px[matched]
    strict = 2 * shared > union
    iou = shared / union
    aji_shared, aji_union = _aggregated(both)
    values = (
        len(both.true_ids),
        len(both.found_ids),
        [(100 * shared >= percent * union).sum() for percent in PERCENTS],
        iou.sum(),
        strict.sum(),
        iou[strict].sum(),
        aji_shared,
        aji_union,
    )
    return Tally(*(np.asarray(value, np.float64) for value in values))


def _matches(both: Overlap) -> Ints:
    """Return the pairs with IoU >= 0.5, no object in two of them.

    Two pairs share an object only where it consists of two halves, and each of them is all of the
    other object: either may be taken, and no third pair has a part in it.
    """
    close = np.flatnonzero(2 * both.shared_px >= both.union_px)
    close = close[np.unique(both.pair_true[close], return_index=True)[1]]
    matched: Ints = close[np.unique(both.pair_found[close], return_index=True)[1]]
    return matched


def _aggregated(both: Overlap) -> tuple[int, int]:
    """Return the numerator and denominator of the aggregated Jaccard index, in pixels.

    As published, a found object may be the best for several true ones. Of equally good ones, the
    one that begins first in the image is taken.
    """
    order = np.lexsort((both.pair_found, -both.shared_px / both.union_px, both.pair_true))
    best = order[np.unique(both.pair_true[order], return_index=True)[1]]
    missed = _all_but(both.true_px, both.pair_true[best])
    unused = _all_but(both.found_px, both.pair_found[best])
    alone = both.true_px[missed].sum() + both.found_px[unused].sum()
    return int(both.shared_px[best].sum()), int(both.union_px[best].sum() + alone)


def _all_but(objects: Ints, taken: Ints) -> Flags:
    left = np.ones(len(objects), bool)
    left[taken] = False
    return left


def _ratio(part: Floats, whole: Floats) -> Floats:
    return part / np.where(whole > 0, whole, np.nan)
