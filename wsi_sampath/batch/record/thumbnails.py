"""A small picture of every finished slide for the batch's page."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

from PIL import Image

from wsi_sampath.files import replacing
from wsi_sampath.inference.finished import Finished
from wsi_sampath.outputs.report.overlay import draw_overlay
from wsi_sampath.outputs.report.region import region_shown
from wsi_sampath.outputs.report.report import blank_backdrop, sample_labels
from wsi_sampath.outputs.result import open_result

SIDE_PX = 240
_FIRST_PICTURE = re.compile(rb'data:image/jpeg;base64,([^"]+)"')


def write_thumbnail(result: Finished, target: Path) -> None:
    """Write a JPEG of at most `SIDE_PX` px per side, unless one newer than the result exists.

    The picture is the overlay of the slide's own report; where there is none, the class map.
    """
    if target.exists() and target.stat().st_mtime >= result.zarr.stat().st_mtime:
        return
    picture = (_from_report(result.report) if result.report else None) or _class_map(result.zarr)
    picture.thumbnail((SIDE_PX, SIDE_PX))
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target, shared=True) as growing:
        picture.convert("RGB").save(growing, format="JPEG", quality=85)


def _from_report(report: Path) -> Image.Image | None:
    found = _FIRST_PICTURE.search(report.read_bytes())
    if found is None:
        return None
    return Image.open(io.BytesIO(base64.b64decode(found[1])))


def _class_map(zarr: Path) -> Image.Image:
    result = open_result(zarr)
    paper = blank_backdrop(result)
    colors = [one.color for one in result.classes]
    labels = sample_labels(result, paper)
    return draw_overlay(
        paper.rgb,
        labels,
        class_colors=colors,
        um_per_px=paper.um_x,
        region=region_shown(result.attributes),
    )
