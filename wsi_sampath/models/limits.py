"""Bounds of what a specification may say: far beyond any model there is, far below what hurts."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from wsi_sampath.plausible import PLAUSIBLE_MPP
from wsi_sampath.shown import shown

TILE_PX = (32, 8192)
MAX_CHANNELS = 16_384
MAX_DEPTH = 200
MAX_PATCH_PX = 1024
MAX_GRID = 512
"""Patches along a side of the tile."""
MAX_NAME = 200
MAX_TEXT = 10_000
MAX_HEADER_TEXT = 1 << 20
MAX_RATIO = 64.0
STD = (1e-3, 4.0)

_OPTION_NAMES = 64
_DEEP = ("depth", "layer", "block", "stage", "repeat")
_OURS = (
    "in_chans",
    "num_classes",
    "features_only",
    "feature_cfg",
    "out_indices",
    "scriptable",
    "exportable",
    "no_jit",
)
_FETCHES = ("pretrained", "checkpoint", "cache_dir", "file", "url", "hf_hub", "source")


def _number(value: object) -> object:
    """Refuse true and false, which YAML also makes of yes and on, as numbers."""
    if isinstance(value, bool):
        raise ValueError("is not a number")
    return value


def _printable(text: str) -> str:
    if any(shown(one) != one for one in text if one not in "\n\t"):
        raise ValueError("holds control characters")
    return text


def _one_line(text: str) -> str:
    if "\n" in text or "\t" in text or text != text.strip():
        raise ValueError("must be one line without spaces around it")
    return text


def _mpp(value: float) -> float:
    low, high = PLAUSIBLE_MPP
    if low <= value <= high:
        return value
    raise ValueError(
        f"{value:g} um per pixel is outside {low:g} to {high:g} (20x is about 0.5, 40x about 0.25)"
    )


def _mean(value: tuple[float, float, float]) -> tuple[float, float, float]:
    if any(abs(one) > 1 for one in value):
        raise ValueError("is of RGB in 0..1; divide values of 0..255 by 255")
    return value


def _std(value: tuple[float, float, float]) -> tuple[float, float, float]:
    low, high = STD
    if not all(low <= one <= high for one in value):
        raise ValueError(f"is of RGB in 0..1, {low:g} to {high:g}; divide values of 0..255 by 255")
    return value


Number = Annotated[float, BeforeValidator(_number)]
Positive = Annotated[int, BeforeValidator(_number), Field(gt=0)]
Channels = Annotated[Positive, Field(le=MAX_CHANNELS)]
Depth = Annotated[Positive, Field(le=MAX_DEPTH)]
PatchSide = Annotated[Positive, Field(le=MAX_PATCH_PX)]
Side = Annotated[Positive, Field(ge=TILE_PX[0], le=TILE_PX[1])]
Ratio = Annotated[Number, Field(gt=0, le=MAX_RATIO)]
Mpp = Annotated[Number, AfterValidator(_mpp)]
Values = tuple[Number, Number, Number]
Triple = Annotated[Values, AfterValidator(_mean)]
Std = Annotated[Values, AfterValidator(_std)]
Text = Annotated[str, Field(max_length=MAX_TEXT), AfterValidator(_printable)]
Name = Annotated[
    str,
    Field(min_length=1, max_length=MAX_NAME),
    AfterValidator(_printable),
    AfterValidator(_one_line),
]


def wrong_option(name: str, value: object) -> str:
    """Say what is wrong with an option for timm; "" if nothing is.

    Weights come from the model file alone, so that options which name files or fetch some are
    refused, as are those that this package sets itself.
    """
    if not name.isidentifier() or len(name) > _OPTION_NAMES:
        return "holds a name that is not an option's"
    if name in _OURS or any(part in name for part in _FETCHES):
        return f"{name} cannot be chosen: weights come from the model file alone"
    return "" if _is_sane(name, value) else f"{name} is absurdly large"


def _is_sane(name: str, value: object) -> bool:
    if isinstance(value, tuple):
        return len(value) <= _OPTION_NAMES and all(_is_sane(name, one) for one in value)
    if isinstance(value, str):
        return len(value) <= MAX_NAME
    if isinstance(value, float):
        return math.isfinite(value) and abs(value) <= MAX_CHANNELS
    most = MAX_DEPTH if any(part in name for part in _DEEP) else MAX_CHANNELS
    return isinstance(value, int) and abs(value) <= most


def unique_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a JSON object for `json.loads`, which by itself takes the last of equal keys.

    Raises
    ------
    ValueError
        Naming a key that is given twice.
    """
    values: dict[str, Any] = {}
    for key, value in pairs:
        if key in values:
            raise ValueError(f"gives the key '{key[:MAX_NAME]}' twice")
        values[key] = value
    return values
