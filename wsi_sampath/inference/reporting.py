"""The report of a finished slide, with the slide itself behind the map where that is cheap."""

from __future__ import annotations

from pathlib import Path

from wsi_sampath.outputs.report import LONGEST_SIDE_PX, Backdrop, write_report
from wsi_sampath.outputs.result import open_result
from wsi_sampath.slides.slide import Slide

_MOST_DECODED_PX = 1_000_000_000


def report_slide(slide: Slide, maps: Path, target: Path, *, zarr_name: str) -> None:
    """Write the report of a slide.

    Parameters
    ----------
    slide
        The open slide.
    maps
        The complete zarr, published or not.
    target
        The HTML file to write.
    zarr_name
        Name of the published zarr.
    """
    write_report(open_result(maps), target, zarr_name=zarr_name, backdrop=_backdrop(slide))


def _backdrop(slide: Slide) -> Backdrop | None:
    width, height = slide.size
    extent = max(width * slide.mpp.x, height * slide.mpp.y)
    plan = slide.sampling(extent / LONGEST_SIDE_PX)
    level = slide.levels[plan.level]
    if level.width * level.height > _MOST_DECODED_PX:
        return None
    rgb, _, plan = slide.thumbnail(extent / LONGEST_SIDE_PX)
    return Backdrop(rgb, plan.mpp_x, plan.mpp_y)
