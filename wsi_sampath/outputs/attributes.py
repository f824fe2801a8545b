"""The ``wsi_sampath`` attribute of a result: read whatever lies there, and checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

_MOST_BYTES = 64 << 20
_Finite = Annotated[float, Field(allow_inf_nan=False)]
_NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Size = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
_Count = Annotated[int, Field(ge=0)]
_ImagePath = Annotated[str, Field(pattern=r"^(labels/[^/]+)?$")]


def read_attributes(path: Path) -> dict[str, Any] | None:
    """Read the ``wsi_sampath`` attribute of a zarr of ours; None where there is none."""
    for name in (".zattrs", "zarr.json"):
        content = _read_json(path / name)
        if name == "zarr.json" and isinstance(content, dict):
            content = content.get("attributes", content)
        ours = content.get("wsi_sampath") if isinstance(content, dict) else None
        if isinstance(ours, dict):
            return ours
    return None


def _read_json(path: Path) -> Any:
    try:
        if not path.is_file() or path.stat().st_size > _MOST_BYTES:
            return None
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def damage_of(attributes: dict[str, Any], *, of_run: bool = False) -> str | None:
    """Tell what is missing in an attribute, or not of its kind; None where all is well.

    Parameters
    ----------
    attributes
        As `read_attributes` returns it.
    of_run
        Whether what is told of a run's course (rates, decoding, memory) counts too.
    """
    try:
        (_Run if of_run else _Attributes).model_validate(attributes)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        return f"{where}: {first['msg']}"
    names = attributes["area_mm2"]
    if attributes["complete"] and not names:
        return "area_mm2: it has no class"
    return None


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")


class _Model(_Part):
    name: str
    sha256: str


class _Slide(_Part):
    name: str
    fingerprint: str


class _Mpp(_Part):
    x: _Size
    y: _Size
    source: str
    output: Annotated[list[_Size], Field(min_length=2, max_length=2)]


class _Failure(_Part):
    box: Annotated[list[int], Field(min_length=4, max_length=4)]
    reason: str


class _Tiles(_Part):
    analysed: _Count
    skipped: _Count
    failed: _Count
    failures: list[_Failure]


class _Coverage(_Part):
    slide_mm2: _Size
    tissue_mm2: _NotNegative
    analysed_mm2: _NotNegative


class _Content(_Part):
    bytes: _Count
    digest: str


class _Quality(_Part):
    places: _Count
    unstained: _Count
    unread: _Count
    judged: _Count | None
    blurred: _Share | None
    softness_um: _NotNegative | None
    pen: _Share | None
    tissue_beside_pen: _Share | None
    saturation: _Share | None
    clipped: _Share | None
    green_most: _Share | None
    brown: _Share | None
    looks_like: str | None
    doubts: list[str]


class _Attributes(_Part):
    """What every reader of a result relies on."""

    version: str
    model: _Model
    slide: _Slide
    settings: dict[str, Any]
    reader: str
    slide_size: Annotated[list[_Size], Field(min_length=2, max_length=2)]
    bounds_offset: Annotated[list[_Finite], Field(min_length=2, max_length=2)]
    mpp: _Mpp
    region: Annotated[list[_Finite], Field(min_length=4, max_length=4)] | None = None
    tiles: _Tiles
    area_mm2: dict[str, _NotNegative]
    coverage: _Coverage
    seconds: dict[str, _NotNegative]
    quality: _Quality | None = None
    warnings: list[str] = []
    geojson: str | None = None
    geojson_content: _Content | None = None
    nuclei_table: Annotated[str, Field(pattern=r"^[^/\\]+\.nuclei\.parquet$")] | None = None
    nuclei_content: _Content | None = None
    nuclei: dict[str, _Count] | None = None
    run_id: str = ""
    chunks: _Count | None = None
    images: list[_ImagePath] = []
    complete: bool


class _Run(_Attributes):
    """What a run prints of itself, too."""

    device: str
    polygons: _Count | None
    tiles_per_s: _NotNegative
    mm2_per_s: _NotNegative
    decoded_px: _Count | None
    needed_px: _Count | None
    peak_memory_mb: _NotNegative
    gpu_memory_mb: _NotNegative | None
