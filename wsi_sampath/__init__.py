"""Whole-slide segmentation: a slide in, an OME-Zarr class map and QuPath polygons out."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from wsi_sampath.version import __version__

if TYPE_CHECKING:
    from wsi_sampath.errors import WsiError
    from wsi_sampath.inference.prompting.prompter import Prompter
    from wsi_sampath.inference.segmenter import segment_slide
    from wsi_sampath.inference.settings import SegmentSettings
    from wsi_sampath.models.zoo import load_model
    from wsi_sampath.outputs.result import Result, open_result
    from wsi_sampath.slides.slide import Slide


__all__ = [
    "Prompter",
    "Result",
    "SegmentSettings",
    "Slide",
    "WsiError",
    "__version__",
    "load_model",
    "open_result",
    "segment_slide",
]

_HOMES = {
    "Prompter": "wsi_sampath.inference.prompting.prompter",
    "Result": "wsi_sampath.outputs.result",
    "SegmentSettings": "wsi_sampath.inference.settings",
    "Slide": "wsi_sampath.slides.slide",
    "WsiError": "wsi_sampath.errors",
    "load_model": "wsi_sampath.models.zoo",
    "open_result": "wsi_sampath.outputs.result",
    "segment_slide": "wsi_sampath.inference.segmenter",
}


def __getattr__(name: str) -> Any:
    # torch takes seconds to import, which `wsi-segment --help` must not wait for.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
