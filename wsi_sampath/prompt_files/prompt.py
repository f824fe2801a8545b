"""A prompt on a slide: what somebody clicked or drew to ask for one object."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field

import numpy as np
import shapely
from numpy.typing import NDArray

from wsi_sampath.shown import shortened, shown

Points = NDArray[np.float64]
Labels = NDArray[np.int64]
Corners = tuple[float, float, float, float]


_MADE = uuid.UUID("6f0f3b06-6a3e-5b0f-9d3a-0d6b6a2f7c11")


def made_id(*parts: str) -> str:
    """Return a UUID made of texts: of the same the same."""
    # Escaped, for half a surrogate pair has no bytes.
    return str(uuid.uuid5(_MADE, json.dumps(parts)))


def _no_points() -> Points:
    return np.zeros((0, 2))


def _no_labels() -> Labels:
    return np.zeros(0, np.int64)


@dataclass(frozen=True, eq=False)
class Prompt:
    """What asks for one object, in level-0 pixels of the slide.

    A pixel's corner is a whole number, as in QuPath; the slide's bounds offset is in already. There
    is always a box, or a point of label 1.

    Attributes
    ----------
    id
        As in the file; made of its content where the file has none, a UUID then.
    name
        Empty where it has none.
    class_name
        In the form of `drawn_class_name`; empty where it has none.
    class_color, color
        "#rrggbb" of the class, and of the object itself; None where the file has none.
    points
        (n, 2), x and y; not to be written to.
    labels
        (n,) 1 on the object, 0 beside it; not to be written to.
    box
        x0, y0, x1, y1, within the slide.
    outline
        Valid Polygon or MultiPolygon within the slide: a rough outline, to be refined. `box` is
        then around it.
    where
        Its place in the file: ``object 3``, ``line 7``.
    """

    id: str
    name: str = ""
    class_name: str = ""
    class_color: str | None = None
    color: str | None = None
    points: Points = field(default_factory=_no_points)
    labels: Labels = field(default_factory=_no_labels)
    box: Corners | None = None
    outline: shapely.Geometry | None = None
    where: str = ""

    @property
    def bounds(self) -> Corners:
        """The box around what lies on the object: its box and its points of label 1."""
        boxes = [] if self.box is None else [np.array(self.box)]
        inside = self.points[self.labels == 1]
        if len(inside):
            boxes.append(np.concatenate([inside.min(axis=0), inside.max(axis=0)]))
        corners = np.array(boxes)
        low, high = corners[:, :2].min(axis=0), corners[:, 2:].max(axis=0)
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])


@dataclass(frozen=True)
class Refused:
    """Something in a file of prompts that cannot be used.

    Attributes
    ----------
    where
        Its place in the file: ``object 3``, ``line 7``.
    reason
        One sentence without its end.
    id, name
        Empty where it has none.
    """

    where: str
    reason: str
    id: str = ""
    name: str = ""

    def line(self) -> str:
        """Return it as one line for the user."""
        named = [f"'{shortened(self.name)}'"] if self.name else []
        named += [f"id {shortened(self.id)}"] if self.id else []
        which = f" ({', '.join(named)})" if named else ""
        return shown(f"{self.where}{which}: {self.reason}")


@dataclass(frozen=True)
class PromptFile:
    """What a file of prompts holds, in its order.

    Attributes
    ----------
    prompts
        One at least.
    refused
        What cannot be used, and why.
    notes
        Further sentences for the user about the file.
    """

    prompts: tuple[Prompt, ...]
    refused: tuple[Refused, ...] = ()
    notes: tuple[str, ...] = ()
