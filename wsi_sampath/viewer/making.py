"""What a network found, made into objects and into what the page shows."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely

from wsi_sampath.errors import WsiError
from wsi_sampath.outputs.qupath.geojson import geometry_texts
from wsi_sampath.prompt_files.mask_features import DECIMALS, SHORT_SHA
from wsi_sampath.prompt_files.prompt import Prompt
from wsi_sampath.viewer.drawn import AskedBy, Drawn, Frame, ToldGeometry, fitted
from wsi_sampath.viewer.wishes import Answered, Kept

_AREA_DECIMALS = 2


@dataclass(frozen=True)
class Maker:
    """The network that answers.

    Attributes
    ----------
    model
        Its name.
    weights_sha256
        Of its weights.
    """

    model: str
    weights_sha256: str

    @property
    def weights(self) -> str:
        """The beginning of the weights' digest, as objects have it."""
        return self.weights_sha256[:SHORT_SHA]

    def accepted(self, kept: Kept, frame: Frame) -> Drawn:
        """Return the object that a candidate becomes, without a class.

        Raises
        ------
        WsiError
            ``bad-input`` where nothing of it lies on the slide.
        """
        found = kept.found
        return Drawn(
            str(uuid.uuid4()),
            _shape(found.outline(), frame),
            quality=round(found.quality, DECIMALS),
            model=self.model,
            weights=self.weights,
            mpp=round(float(np.mean(found.mpp)), DECIMALS),
            prompt=_asked_by(found.prompt, kept.steps),
        )


def answer_json(answered: Answered, frame: Frame) -> dict[str, Any]:
    """Return an answer as the page shows it.

    Raises
    ------
    WsiError
        ``bad-input`` where nothing of it lies on the slide.
    """
    candidates, reason = [], None
    for token, found in answered.candidates.items():
        try:
            shape = _shape(found.outline(), frame)
        except WsiError as error:
            reason = error
            continue
        candidates.append(
            {
                "geometry": _geometry(shape),
                "quality": round(found.quality, DECIMALS),
                "area_um2": round(frame.area_um2(shape), _AREA_DECIMALS),
                "cut": found.is_cut,
                "token": token,
                "mpp": round(float(np.mean(found.mpp)), DECIMALS),
            }
        )
    if reason is not None and not candidates:
        raise reason
    first = candidates[0]
    told = {key: first[key] for key in ("mpp", "cut", "token")}
    return {"candidates": candidates, **told, "box": list(answered.box)}


def _shape(outline: shapely.Geometry, frame: Frame) -> shapely.Geometry:
    parts = shapely.get_parts(outline)
    return fitted(shapely.MultiPolygon(list(parts)), frame.size)


def _geometry(shape: shapely.Geometry) -> dict[str, Any]:
    geometry: dict[str, Any] = json.loads(geometry_texts(np.array([shape], object))[0])
    return geometry


def _asked_by(prompt: Prompt, steps: tuple[tuple[int, int], ...]) -> AskedBy:
    signs = zip(prompt.points.tolist(), prompt.labels.tolist(), strict=True)
    outline = None if prompt.outline is None else ToldGeometry(**_geometry(prompt.outline))
    points = tuple((x, y, label) for (x, y), label in signs)
    return AskedBy(points=points, box=prompt.box, outline=outline, steps=steps)
