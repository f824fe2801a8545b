"""How good nuclei-mini is: every nucleus of a field, and one click on each of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.nuclei_mini.classical import classical_nuclei
from pipelines.nuclei_mini.data import MPP, Field
from wsi_sampath.evaluation.instance_scores import summarise_instances
from wsi_sampath.evaluation.instances import tally
from wsi_sampath.evaluation.nucleus_predictor import NucleusPredictor
from wsi_sampath.models.network import LoadedModel, Prompts
from wsi_sampath.models.parts.encoders import resized
from wsi_sampath.models.patho_sam.network import PathoSam
from wsi_sampath.slides.grid import tile_starts
from wsi_sampath.training.augment import Rgb

Labels = NDArray[np.int32]
Find = Callable[[Sequence[Rgb]], list[Labels]]
Scores = dict[str, Any]

_KEPT = ("true", "found", "f1_50", "precision", "recall", "mean_iou", "aji", "pq", "msa")
_LEAST_CLICKED_PX = 40
_DIGITS = 4


def loaded(model: PathoSam) -> LoadedModel:
    """Return a trained network as what the evaluation takes."""
    return LoadedModel(model.eval(), model.spec, "", model.spec.name)


def by_network(model: LoadedModel) -> Find:
    """Return what finds nuclei as ``wsi-evaluate`` does, with its defaults."""
    predict = NucleusPredictor(model, device="cpu", precision="fp32", batch_size=1)
    return lambda images: [found.labels for found in predict(images)]


def by_classics(images: Sequence[Rgb]) -> list[Labels]:
    """Find nuclei without a network."""
    return [classical_nuclei(image, MPP) for image in images]


def judge(find: Find, fields: Sequence[Field]) -> Scores:
    """Return the scores over all nuclei of some fields, with intervals by patient."""
    tallies = [tally(field.targets.instances, find([field.image])[0]) for field in fields]
    scores = summarise_instances(tallies, [field.patient for field in fields])
    names = [name for key in _KEPT for name in (key, f"{key}_ci") if name in scores]
    kept = {name: _rounded(scores[name]) for name in names}
    return {"fields": len(fields), "patients": len({field.patient for field in fields}), **kept}


def judge_clicks(model: PathoSam, fields: Sequence[Field]) -> Scores:
    """Return the mean IoU of what one click on the middle of every nucleus gives.

    Of the three answers to a click, the one counts that the network itself thinks best. Nuclei that
    the edge of their field cuts, or whose middle is outside of them, are not clicked.
    """
    ious = [iou for field in fields for iou in _clicked(model, field)]
    return {"clicks": len(ious), "mean_iou": _rounded(float(np.mean(ious)))}


@torch.inference_mode()
def _clicked(model: PathoSam, field: Field) -> list[float]:
    tile = model.spec.tile
    image, labels = _at_least(tile, field.image), _at_least(tile, field.targets.instances)
    starts = [tile_starts(0, size, tile, tile // 2) for size in labels.shape]
    corners = list(product(*starts))
    middles = np.array(corners) + tile / 2
    by_tile: dict[int, list[tuple[int, int, int]]] = {}
    for number, y, x in _middles(field.targets.instances):
        nearest = int(np.hypot(*(middles - (y, x)).T).argmin())
        by_tile.setdefault(nearest, []).append((number, y, x))
    ious = []
    for place, nuclei in by_tile.items():
        top, left = corners[place]
        box = np.s_[top : top + tile, left : left + tile]
        masks = _answers(model, image[box], [(y - top, x - left) for _, y, x in nuclei])
        for (number, _, _), mask in zip(nuclei, masks, strict=True):
            truth = labels[box] == number
            ious.append(float((mask & truth).sum() / (mask | truth).sum()))
    return ious


def _middles(instances: Labels) -> list[tuple[int, int, int]]:
    """Return number, y and x of every nucleus that is clicked."""
    rim = np.ones(instances.shape, bool)
    rim[1:-1, 1:-1] = False
    cut = set(np.unique(instances[rim]).tolist())
    found = []
    for number in set(np.unique(instances).tolist()) - cut - {0}:
        ys, xs = np.nonzero(instances == number)
        y, x = round(float(ys.mean())), round(float(xs.mean()))
        if len(ys) >= _LEAST_CLICKED_PX and instances[y, x] == number:
            found.append((number, y, x))
    return found


def _answers(model: PathoSam, image: Rgb, clicks: Sequence[tuple[int, int]]) -> NDArray[np.bool_]:
    """Return one mask for each click (y, x) on a tile."""
    scale = model.spec.frame / model.spec.tile
    pixels = model.preprocess(torch.from_numpy(np.ascontiguousarray(image))[None])
    embedding = model.sam.embed([resized(pixels, model.spec.frame)])
    points = torch.tensor(clicks, dtype=torch.float32).flip(1)[:, None] * scale
    prompts = Prompts(points, torch.ones(points.shape[:2]))
    logits, iou = model.sam.masks(embedding, prompts)
    best: Tensor = logits[torch.arange(len(logits)), iou.argmax(dim=1)][:, None]
    masks: NDArray[np.bool_] = (resized(best, model.spec.tile)[:, 0] > 0).numpy()
    return masks


def _at_least(side: int, plane: NDArray[Any]) -> NDArray[Any]:
    """Return an image mirrored, or labels with background, at bottom and right up to `side`."""
    lacking = [(0, max(0, side - size)) for size in plane.shape[:2]]
    if plane.ndim == 3:
        return np.pad(plane, [*lacking, (0, 0)], mode="symmetric")
    return np.pad(plane, lacking)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, _DIGITS)
    return [_rounded(one) for one in value] if isinstance(value, list) else value
