"""What the page is told of a result before it asks for any part of it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from wsi_sampath.viewer.layer_tiles import TILE
from wsi_sampath.viewer.level_places import level_places
from wsi_sampath.viewer.shelf import ShownResult


def described(shown: ShownResult) -> dict[str, Any]:
    """Return classes, layers with the places of their levels, areas and counts.

    Returns
    -------
    dict
        Levels, finest first, have ``origin`` and ``scale``: a pixel's corner lies at level-0 x =
        origin + scale * column, y likewise.
    """
    result = shown.result
    run = result.attributes
    levels = [asdict(one) for one in level_places(result)]
    return {
        "id": shown.id,
        "name": shown.name,
        "model": run["model"]["name"],
        "classes": [asdict(one) for one in result.classes],
        "layers": [
            {
                "name": one.name,
                "kind": one.kind,
                "classes": [asdict(meant) for meant in one.classes],
                "levels": levels,
                "tile": TILE,
            }
            for one in result.layers
        ],
        "nuclei": result.nuclei_table is not None,
        "areas_mm2": run["area_mm2"],
        "counts": run.get("nuclei") or {},
        "analysed_mm2": run["coverage"]["analysed_mm2"],
    }
