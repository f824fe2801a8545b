"""The report of a finished slide, with the slide itself behind the map where that is cheap."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from wsi_sampath.slides.slide import Slide

if TYPE_CHECKING:
    from wsi_sampath.outputs.report.report import Backdrop

_MOST_DECODED_PX = 250_000_000


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
    # matplotlib and pandas are slow to import, and many runs write no report.
    from wsi_sampath.outputs.report.report import write_report
    from wsi_sampath.outputs.result import open_maps

    result = open_maps(maps)
    try:
        write_report(result, target, zarr_name=zarr_name, backdrop=_backdrop(slide))
    except OSError as error:
        if error.errno is not None:
            raise
        # Pillow refuses pictures of a few pixels' width (very tall slides); the map still counts.
        write_report(result, target, zarr_name=zarr_name, backdrop=None)


def _backdrop(slide: Slide) -> Backdrop | None:
    from wsi_sampath.outputs.report.report import LONGEST_SIDE_PX, Backdrop

    width, height = slide.size
    extent = max(width * slide.mpp.x, height * slide.mpp.y)
    plan = slide.sampling(extent / LONGEST_SIDE_PX)
    level = slide.levels[plan.level]
    if level.width * level.height > _MOST_DECODED_PX:
        return None
    rgb, _, plan = slide.thumbnail(extent / LONGEST_SIDE_PX)
    return Backdrop(rgb, plan.mpp_x, plan.mpp_y)
