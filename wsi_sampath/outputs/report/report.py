"""``NAME.html``: one page on what was found, how, and with which doubts."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsi_sampath.files import replacing
from wsi_sampath.outputs.report.backdrop import LONGEST_SIDE_PX, Backdrop
from wsi_sampath.outputs.report.nuclei import (
    Field,
    draw_field,
    rows_of_classes,
    size_bins,
    width_um,
)
from wsi_sampath.outputs.report.overlay import draw_overlay
from wsi_sampath.outputs.report.region import REGION, region_shown
from wsi_sampath.outputs.result import Result
from wsi_sampath.pages import Filters, link, render_template

_JPEG_QUALITY = 88
_LISTED_FAILURES = 20
_BAR = "#7a8794"
_LONGEST_BAR = 75.0
"""Percent of the width, which leaves room for the number beside it."""


def write_report(
    result: Result,
    target: Path,
    *,
    zarr_name: str,
    backdrop: Backdrop | None = None,
    fields: Sequence[Field] = (),
) -> None:
    """Write the report of a result; the file appears at once, complete.

    Parameters
    ----------
    result
        A complete result, already in its place or not.
    target
        The HTML file, self-contained.
    zarr_name
        Name of the zarr beside the report.
    backdrop
        The slide; None shows the class map on white.
    fields
        Parts of the slide to show with their nuclei.

    Raises
    ------
    OSError
        Where it can't be written.
    """
    text = render_report(result, zarr_name=zarr_name, backdrop=backdrop, fields=fields)
    with replacing(target) as growing:
        growing.write_text(text, encoding="utf-8")


def render_report(
    result: Result,
    *,
    zarr_name: str,
    backdrop: Backdrop | None = None,
    fields: Sequence[Field] = (),
) -> str:
    """Return the report as HTML; see `write_report`."""
    run = result.attributes
    overlay, picture = _pictures(result, backdrop or blank_backdrop(result))
    failures = run["tiles"]["failures"]
    values = {
        "run": run,
        "zarr_name": zarr_name,
        "overlay": overlay,
        "picture": picture if backdrop is not None else None,
        "classes": result.areas(),
        "region_color": "#{:02x}{:02x}{:02x}".format(*REGION),
        "area_chart": _area_chart(result),
        "time_chart": _time_chart(run["seconds"]),
        "extent": _extent(run),
        "failures": failures[:_LISTED_FAILURES],
        "unlisted": run["tiles"]["failed"] - min(len(failures), _LISTED_FAILURES),
        "settings": {k: v for k, v in run["settings"].items() if v is not None},
        "nuclei": _nuclei(result, fields) if "nuclei" in run else None,
    }
    filters: Filters = {"number": number, "plain": plain, "urlencode": link}
    return render_template("wsi_sampath.outputs.report", "report.html.j2", values, filters=filters)


def blank_backdrop(result: Result) -> Backdrop:
    """Return white paper the size of the class map."""
    finest = result.levels[0]
    extent = max(finest.height * finest.um_y, finest.width * finest.um_x)
    level = result.levels[result.level_near(extent / LONGEST_SIDE_PX)]
    paper = np.full((level.height, level.width, 3), 255, np.uint8)
    return Backdrop(paper, level.um_x, level.um_y)


def sample_labels(result: Result, backdrop: Backdrop) -> NDArray[np.uint8]:
    """Return the class map at the pixel centres of a backdrop, uint8 (h, w)."""
    number_ = result.level_near(min(backdrop.um_x, backdrop.um_y))
    level = result.levels[number_]
    height, width = backdrop.rgb.shape[:2]
    rows = ((np.arange(height) + 0.5) * backdrop.um_y / level.um_y).astype(int)
    columns = ((np.arange(width) + 0.5) * backdrop.um_x / level.um_x).astype(int)
    # Without dask: it takes long to import, and would send the work to a cluster we may be part of.
    labels = result.window("classes", number_, (0, 0, level.width, level.height))
    sampled = np.zeros((height, width), np.uint8)
    inside = np.ix_(rows < level.height, columns < level.width)
    sampled[inside] = labels[np.ix_(rows[rows < level.height], columns[columns < level.width])]
    return sampled


def number(value: float) -> str:
    """Write a number with three significant digits, without exponents."""
    if value == 0 or not np.isfinite(value):
        return "0" if value == 0 else "–"
    digits = int(np.clip(2 - np.floor(np.log10(abs(value))), 0, 6))
    return f"{value:,.{digits}f}"


def plain(value: Any) -> str:
    """Return a setting as a person would write it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(plain, value))
    return str(value)


def _pictures(result: Result, backdrop: Backdrop) -> tuple[str, str]:
    colors = [one.color for one in result.classes]
    labels = sample_labels(result, backdrop)
    overlay, picture = (
        draw_overlay(
            backdrop.rgb,
            shown,
            class_colors=colors,
            um_per_px=backdrop.um_x,
            region=region_shown(result.attributes),
        )
        for shown in (labels, np.zeros_like(labels))
    )
    return _jpeg(overlay), _jpeg(picture)


def _extent(run: dict[str, Any]) -> list[tuple[str, float, str]]:
    """Rows of the coverage table: what, mm2, share of the slide."""
    coverage = run["coverage"]
    method = run["settings"]["tissue"]
    how = {"otsu": "found by its stain", "none": "not looked for"}.get(method, f"from {method}")
    rows = [("Slide", "slide_mm2"), (f"Tissue ({how})", "tissue_mm2"), ("Analysed", "analysed_mm2")]
    whole = coverage["slide_mm2"]
    return [
        (name, coverage[key], number(min(100.0, 100 * coverage[key] / whole))) for name, key in rows
    ]


def _jpeg(picture: Image.Image) -> str:
    data = io.BytesIO()
    picture.save(data, format="JPEG", quality=_JPEG_QUALITY, subsampling=0, optimize=True)
    return _data_uri("image/jpeg", data.getvalue())


def _nuclei(result: Result, fields: Sequence[Field]) -> dict[str, Any]:
    names, counts = size_bins(result.attributes)
    texts = [f"{count:,}" for count in counts]
    return {
        "classes": rows_of_classes(result),
        "sizes": _bars([f"{name} µm²" for name in names], counts, texts),
        "fields": [_jpeg(draw_field(result, field)) for field in fields],
        "field_um": width_um(result, fields),
    }


@dataclass(frozen=True)
class _Bar:
    """A line of a bar chart: its name, percent of the width, what is written beside it."""

    name: str
    percent: float
    text: str
    color: str = _BAR


def _area_chart(result: Result) -> list[_Bar]:
    areas = [result.attributes["area_mm2"][one.name] for one in result.classes]
    names = [one.name for one in result.classes]
    texts = [f"{number(area)} mm²" for area in areas]
    return _bars(names, areas, texts, [one.color for one in result.classes])


def _time_chart(seconds: dict[str, float]) -> list[_Bar]:
    stages = {name: spent for name, spent in seconds.items() if name != "total"}
    texts = [f"{spent:,.2f} s" for spent in stages.values()]
    return _bars(list(stages), list(stages.values()), texts)


def _bars(
    names: list[str], values: Sequence[float], texts: list[str], colors: list[str] | None = None
) -> list[_Bar]:
    longest = max(*values, 1e-9)
    shares = [round(_LONGEST_BAR * value / longest, 2) for value in values]
    return list(map(_Bar, names, shares, texts, colors or [_BAR] * len(names)))


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
