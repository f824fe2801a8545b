"""Masks as annotations of QuPath, with what their prompts said and how they were found."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely

from wsi_sampath.classes import color_of
from wsi_sampath.outputs.qupath.geojson import AREA, geometry_texts
from wsi_sampath.outputs.qupath.slide_shapes import LEAST_AREA_PX, PlaneToSlide, mended_shape
from wsi_sampath.prompt_files.answer import Answer
from wsi_sampath.prompt_files.prompt import Prompt, made_id
from wsi_sampath.shown import json_line

SHORT_SHA = 12
"""Letters of the digest of weights that stand in files."""
DECIMALS = 4
"""Of measurements, areas apart."""


@dataclass(frozen=True)
class MaskRun:
    """What the masks of a file have in common.

    Attributes
    ----------
    run
        Id of the run, in hexadecimal: one for prompts, slide, model and settings.
    model
        Name of the model; empty for what was drawn by hand.
    weights_sha256
        Of its weights; empty as well.
    slide_size
        Width and height of level 0.
    mpp
        Microns in a level-0 pixel along x and along y.
    bounds_offset
        Subtracted from coordinates: QuPath counts from the corner of the slide's bounds.
    """

    run: str
    model: str
    weights_sha256: str
    slide_size: tuple[int, int]
    mpp: tuple[float, float]
    bounds_offset: tuple[float, float] = (0.0, 0.0)

    @property
    def short_sha(self) -> str:
        """The beginning of the weights' digest, as masks have it."""
        return self.weights_sha256[:SHORT_SHA]


def mask_features(prompt: Prompt, answer: Answer, run: MaskRun) -> list[str]:
    """Return a feature for each mask of an answer, as compact JSON.

    Parameters
    ----------
    prompt
        What was asked.
    answer
        Its masks. The first bears the id of the prompt, others one made of it.
    run
        How it was answered.

    Returns
    -------
    list of str
        None for a mask of which nothing is left within the slide.
    """
    return list(_features(prompt, answer, run))


def _features(prompt: Prompt, answer: Answer, run: MaskRun) -> Iterator[str]:
    for number, mask in enumerate(answer.masks):
        shape = on_slide(mask.outline, run.slide_size, run.bounds_offset)
        if shape is None:
            continue
        area = float(shapely.area(shape)) * run.mpp[0] * run.mpp[1]
        numbers = {"quality": mask.quality, "mpp": answer.mpp}
        if len(answer.masks) > 1:
            numbers["candidate"] = number + 1
        measured = {
            AREA: round(area, 2),
            **{name: round(n, DECIMALS) for name, n in numbers.items()},
        }
        metadata = _metadata(answer, run)
        properties = {
            **_properties(prompt),
            "measurements": {name: n for name, n in measured.items() if math.isfinite(n)},
            **({"metadata": metadata} if metadata else {}),
        }
        geometry = geometry_texts(np.array([shape], object))[0]
        yield (
            f'{{"type":"Feature","id":{json_line(_id(prompt, number))},"geometry":{geometry},'
            f'"properties":{json_line(properties, compact=True)}}}'
        )


def on_slide(
    outline: shapely.Geometry,
    slide_size: tuple[int, int],
    bounds_offset: tuple[float, float] = (0.0, 0.0),
) -> shapely.Geometry | None:
    """Return an outline as QuPath takes it.

    Parameters
    ----------
    outline
        In level-0 pixels.
    slide_size, bounds_offset
        As `MaskRun` has them.

    Returns
    -------
    Polygon or MultiPolygon
        Cut to the slide, in pixels counted from the offset, with 2 decimals, valid. None where
        nothing is left of it.
    """
    if not shapely.is_valid(outline):
        outline = shapely.make_valid(outline)
    (width, height), (left, top) = slide_size, bounds_offset
    x0, y0, x1, y1 = shapely.bounds(outline)
    if x0 < 0 or y0 < 0 or x1 > width or y1 > height:
        outline = shapely.intersection(outline, shapely.box(0, 0, width, height))
    moving = PlaneToSlide(1, 1, -left, -top, 1, 1)
    shape = shapely.transform(outline, moving.points_to_slide)
    is_polygonal = shape.geom_type in ("Polygon", "MultiPolygon")
    if is_polygonal and shapely.is_valid(shape) and shapely.area(shape) >= LEAST_AREA_PX:
        return shape
    return mended_shape(shape)


def _properties(prompt: Prompt) -> dict[str, Any]:
    properties: dict[str, Any] = {"objectType": "annotation"}
    if prompt.name:
        properties["name"] = prompt.name
    if prompt.color:
        properties["color"] = _channels(prompt.color)
    if prompt.class_name:
        color = _channels(prompt.class_color or color_of(prompt.class_name))
        properties["classification"] = {"name": prompt.class_name, "color": color}
    return properties


def _metadata(answer: Answer, run: MaskRun) -> dict[str, str]:
    """Return what is kept as text: QuPath has no other place for it."""
    metadata = {"model": run.model, "weights": run.short_sha, "note": answer.note}
    return {name: text for name, text in metadata.items() if text}


def _channels(color: str) -> list[int]:
    return list(bytes.fromhex(color[1:]))


def _id(prompt: Prompt, number: int) -> str:
    if number == 0:
        return prompt.id
    return made_id(prompt.id, f"candidate {number + 1}")
