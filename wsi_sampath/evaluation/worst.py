"""Pictures of the patches that a model does worst on: image, truth and prediction, side by side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from wsi_sampath.classes import ClassSpec
from wsi_sampath.data.patches import Patch
from wsi_sampath.errors import UsageError
from wsi_sampath.files import replacing
from wsi_sampath.outputs.report.overlay import draw_panels

_OURS = {"Software": "wsi-evaluate"}
_NAMES = "worst_*.png"


@dataclass(frozen=True)
class Labelled:
    """Labels of one patch, and their colours.

    Attributes
    ----------
    labels
        (height, width) integers: 0, or 1..n.
    colors
        "#rrggbb" of the labels 1..n.
    """

    labels: NDArray[Any]
    colors: Sequence[str]


@dataclass(frozen=True)
class Poor:
    """A patch that a model does poorly on.

    Attributes
    ----------
    patch, score, told
        The patch, its score, and its scores in words.
    image
        uint8 (height, width, 3).
    truth, found
        What is labelled there, and what the model finds.
    """

    patch: Patch
    score: float
    told: str
    image: NDArray[np.uint8]
    truth: Labelled
    found: Labelled


def lowest(scores: NDArray[np.float64], count: int) -> list[int]:
    """Return the indices of the lowest scores, lowest first; NaN, of nothing to score, is none.

    Examples
    --------
    >>> lowest(np.array([0.5, np.nan, 0.2, 0.9]), 2)
    [2, 0]
    """
    order = np.argsort(scores, kind="stable")
    return [int(index) for index in order[:count] if not np.isnan(scores[index])]


def check_pictures(folder: Path) -> None:
    """Refuse a folder where pictures of that name are not ours.

    Raises
    ------
    UsageError
        Naming the first of them, or what is not a folder.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError("is not a folder: --pictures takes the name of one", subject=str(folder))
    foreign = next((path for path in sorted(folder.glob(_NAMES)) if not _is_ours(path)), None)
    if foreign is not None:
        message = "is not a picture of wsi-evaluate and would be replaced; take another --pictures"
        raise UsageError(message, subject=str(foreign))


def write_pictures(
    folder: Path, poor: Iterable[Poor], legend: Sequence[ClassSpec]
) -> list[dict[str, Any]]:
    """Write one PNG a patch in place of those of an earlier evaluation; return what they show.

    Parameters
    ----------
    folder
        Checked by `check_pictures`.
    poor
        The worst first.
    legend
        Names and colours of the classes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob(_NAMES):
        path.unlink()
    shown = []
    for number, one in enumerate(poor, start=1):
        name = f"worst_{number:02d}_{one.patch.img_id.replace('/', '_')}.png"
        _write(folder / name, number, one, legend)
        told = {"patch": one.patch.img_id, "case": one.patch.case, "score": one.score}
        shown.append({**told, "picture": name})
    return shown


def _write(path: Path, number: int, one: Poor, legend: Sequence[ClassSpec]) -> None:
    case = "" if one.patch.case == one.patch.img_id else f" ({one.patch.case})"
    sheet = draw_panels(
        one.image,
        {
            "image": None,
            "truth": (one.truth.labels, one.truth.colors),
            "prediction": (one.found.labels, one.found.colors),
        },
        title=f"{number}. {one.patch.img_id}{case}: {one.told}",
        class_names=[spec.name for spec in legend],
        class_colors=[spec.color for spec in legend],
    )
    marks = PngInfo()
    for key, value in _OURS.items():
        marks.add_text(key, value)
    with replacing(path) as growing:
        sheet.save(growing, format="PNG", pnginfo=marks)


def _is_ours(path: Path) -> bool:
    try:
        with Image.open(path) as picture:
            return picture.info.items() >= _OURS.items()
    except (OSError, UnidentifiedImageError):
        return False
