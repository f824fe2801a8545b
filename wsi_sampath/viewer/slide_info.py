"""What the page is told of a slide and its results before it asks for pixels."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from wsi_sampath.outputs.omezarr.layout import ResultClass
from wsi_sampath.viewer.layer_tiles import TILE
from wsi_sampath.viewer.level_places import level_places
from wsi_sampath.viewer.refusals import without_paths
from wsi_sampath.viewer.shelf import Shelf, ShownResult, ShownSlide
from wsi_sampath.viewer.slide_tiles import SlideTiles


def describe(shown: ShownSlide, tiles: SlideTiles) -> dict[str, Any]:
    """Return what the page needs to show a slide, as JSON values; lengths in level-0 px."""
    slide = shown.slide
    return {
        "id": shown.id,
        "name": shown.name,
        "width": slide.size[0],
        "height": slide.size[1],
        "mpp": None if shown.no_mpp else [slide.mpp.x, slide.mpp.y],
        "mpp_source": None if shown.no_mpp else slide.mpp.source,
        "reader": slide.reader.name,
        "background": "#{:02x}{:02x}{:02x}".format(*slide.background),
        "warnings": [without_paths(one) for one in shown.warnings],
        "levels": [
            {
                "width": one.width,
                "height": one.height,
                "scale": [one.sampling.zoom_x, one.sampling.zoom_y],
                "tile": list(one.tile),
            }
            for one in tiles.levels(shown)
        ],
        "results": [_result(one) for one in shown.results],
    }


def routes(shelf: Shelf, tiles: SlideTiles) -> list[Route]:
    """Return the route of what is known of a slide."""

    def info(request: Request) -> Response:
        with shelf.open(request.path_params["sid"], unscaled=True) as shown:
            return JSONResponse(describe(shown, tiles))

    return [Route("/api/slides/{sid}", info)]


def _result(shown: ShownResult) -> dict[str, Any]:
    result = shown.result
    levels = [
        {
            "width": one.width,
            "height": one.height,
            "scale": list(one.scale),
            "origin": list(one.origin),
        }
        for one in level_places(result)
    ]
    return {
        "id": shown.id,
        "name": shown.name,
        "model": result.attributes["model"]["name"],
        "classes": [_class(one) for one in result.classes],
        "layers": [
            {
                "name": one.name,
                "kind": one.kind,
                "classes": [_class(each) for each in one.classes],
                "levels": levels,
                "tile": TILE,
            }
            for one in result.layers
        ],
        "nuclei": result.nuclei_table is not None,
        "areas_mm2": result.attributes["area_mm2"],
        "counts": result.attributes.get("nuclei"),
        "analysed_mm2": result.attributes["coverage"]["analysed_mm2"],
    }


def _class(one: ResultClass) -> dict[str, Any]:
    return {"value": one.value, "name": one.name, "color": one.color}
