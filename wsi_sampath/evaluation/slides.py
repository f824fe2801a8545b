"""A finished slide scored against annotations of it, block by block."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wsi_sampath.classes import name_key
from wsi_sampath.errors import UsageError, WsiError
from wsi_sampath.evaluation.class_names import Pairs, check_known, labels_by_name
from wsi_sampath.evaluation.metrics import Counts, confusion
from wsi_sampath.evaluation.scores import summarise
from wsi_sampath.outputs.result import Result, open_result
from wsi_sampath.progress import counted
from wsi_sampath.slides.grid import Box
from wsi_sampath.slides.regions.annotations import Annotations, LabelPainter, read_annotations
from wsi_sampath.slides.regions.drawn import outside_notes
from wsi_sampath.slides.regions.rasterise import Placement

_BLOCK = 1024, 4096
"""Rows and columns that are scored at once: whole chunks, so that each is read once."""


def score_slide(
    zarr: Path, drawn: Path, renamed: Pairs, left_out: Collection[str]
) -> tuple[dict[str, Any], list[str]]:
    """Score the class map of a slide, at its finest level, where annotations are.

    Parameters
    ----------
    zarr, drawn
        A result, and QuPath's GeoJSON of the same slide.
    renamed
        Pairs of a class of the result and an annotation name that means it.
    left_out
        Annotation names whose areas are not scored.

    Returns
    -------
    dict, list of str
        Scores (see `summarise`) and where they come from; what the user should know.

    Raises
    ------
    WsiError
        ``bad-input`` for files that cannot be used, or annotations outside the slide.
    """
    result, annotations = open_result(zarr), read_annotations(drawn)
    names = [spec.name for spec in result.classes]
    painter = LabelPainter(
        annotations.painted(left_out),
        _labels(annotations, names, renamed, left_out, str(drawn)),
        _placement(result),
    )
    counts = _count(result, painter)
    pixels = int(counts.sum())
    if not pixels:
        message = "covers no pixel of the result; is it of the same slide?"
        raise WsiError("bad-input", message, subject=str(drawn))
    level = result.levels[0]
    case = result.attributes["slide"]["name"]
    scores = {
        "data": case,
        "annotations": drawn.name,
        "model": result.attributes["model"]["name"],
        "weights_sha256": result.attributes["model"]["sha256"],
        "um_per_pixel": [level.um_x, level.um_y],
        "annotated_mm2": pixels * level.um_x * level.um_y / 1e6,
        "not_analysed": int(counts[:, 0].sum()) / pixels,
        **summarise([counts], [case], names, draws=0),
    }
    beside = outside_notes(annotations.areas, _slide_size(result), _offset(result))
    return scores, [*annotations.notes(), *beside]


def _slide_size(result: Result) -> tuple[int, int]:
    level, place = result.levels[0], _placement(result)
    return round(level.width * place.zoom_x), round(level.height * place.zoom_y)


def _offset(result: Result) -> tuple[float, float]:
    x, y = result.attributes["bounds_offset"]
    return x, y


def _placement(result: Result) -> Placement:
    level, mpp = result.levels[0], result.attributes["mpp"]
    return Placement(level.um_x / mpp["x"], level.um_y / mpp["y"], *_offset(result))


def _labels(
    annotations: Annotations,
    names: Sequence[str],
    renamed: Pairs,
    left_out: Collection[str],
    subject: str,
) -> dict[str, int]:
    """Return the class of the result for every annotation name; 0 where it is not scored."""
    drawn, value = [*annotations.colors()], labels_by_name(names, "the result has", subject)
    # Names that QuPath itself ignores may be left out as well.
    areas = [*dict.fromkeys(area.name for area in annotations.areas)]
    check_known([ours for ours, _ in renamed], names, "--same: the result has")
    check_known([theirs for _, theirs in renamed], drawn, "--same: the annotations have")
    check_known(left_out, areas, "--leave-out: the annotations have")
    meant = {(name_key(theirs), value[name_key(ours)]) for ours, theirs in renamed}
    known = value | _said(meant | {(name_key(name), 0) for name in left_out})
    unknown = sorted(name for name in drawn if name_key(name) not in known)
    if unknown:
        raise UsageError(
            f"the result has {', '.join(names)}, the annotations {', '.join(drawn)}: "
            f"say what {unknown[0]!r} is by --same MODEL=ANNOTATION, or --leave-out ANNOTATION",
            subject=subject,
        )
    return {name: known[name_key(name)] for name in drawn}


def _said(meant: set[tuple[str, int]]) -> dict[str, int]:
    """Return the label of every name; a name with several is refused."""
    names = sorted(name for name, _ in meant)
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise UsageError(f"--same and --leave-out give annotations of {twice[0]!r} two meanings")
    return dict(meant)


def _count(result: Result, painter: LabelPainter) -> Counts:
    level, classes = result.levels[0], len(result.classes)
    boxes = list(_blocks(painter.bounds(), level.height, level.width))
    total = np.zeros((classes, classes + 1), np.int64)
    for box in counted(boxes, "blocks", len(boxes)):
        truth = painter.paint(box)
        if truth.any():
            found = result.window("classes", 0, (box.x, box.y, box.width, box.height))
            total += confusion(truth, found.view(np.uint8), classes)
    return total


def _blocks(around: Box, height: int, width: int) -> Iterator[Box]:
    """Cut the part of `around` that is on the plane into blocks, between chunks."""
    for top, bottom in _spans(around.y, around.height, height, _BLOCK[0]):
        for left, right in _spans(around.x, around.width, width, _BLOCK[1]):
            yield Box(left, top, right - left, bottom - top)


def _spans(start: int, length: int, limit: int, step: int) -> Iterator[tuple[int, int]]:
    low, high = max(start, 0), min(start + length, limit)
    if low < high:
        for at in range(low - low % step, high, step):
            yield max(at, low), min(at + step, high)
