"""The report of a finished slide, with the slide itself behind the map where that is cheap."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from wsi_sampath.outputs.report.backdrop import LONGEST_SIDE_PX, Backdrop
from wsi_sampath.slides.readers.base import TileError
from wsi_sampath.slides.slide import Slide

if TYPE_CHECKING:
    from wsi_sampath.outputs.report.nuclei import Field
    from wsi_sampath.outputs.result import Result

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
    # What draws is slow to import, and many runs write no report.
    from wsi_sampath.outputs.report.report import write_report
    from wsi_sampath.outputs.result import open_maps

    result = open_maps(maps)
    fields = _fields(slide, result) if "nuclei" in result.attributes else []
    try:
        backdrop = backdrop_of(slide)
        write_report(result, target, zarr_name=zarr_name, backdrop=backdrop, fields=fields)
    except OSError as error:
        if error.errno is not None:
            raise
        # Pillow refuses pictures of a few pixels' width (very tall slides); the map still counts.
        write_report(result, target, zarr_name=zarr_name, backdrop=None)


def overlay_slide(slide: Slide, maps: Path, target: Path) -> None:
    """Write the picture of a result: its map over the slide, with legend and scale bar.

    Parameters
    ----------
    slide
        The open slide.
    maps
        The complete zarr, published or not.
    target
        The PNG to write.
    """
    from wsi_sampath.outputs.report.overlay import render_overlay
    from wsi_sampath.outputs.report.region import region_shown
    from wsi_sampath.outputs.report.report import blank_backdrop, number, sample_labels
    from wsi_sampath.outputs.result import open_maps

    result = open_maps(maps)
    run = result.attributes
    backdrop = backdrop_of(slide) or blank_backdrop(result)
    if "nuclei" in run:
        figures = [f"{run['nuclei'][one.name]:,} found" for one in result.classes]
    else:
        figures = [f"{number(run['area_mm2'][one.name])} mm²" for one in result.classes]
    analysed = number(run["coverage"]["analysed_mm2"])
    render_overlay(
        backdrop.rgb,
        sample_labels(result, backdrop),
        class_names=[one.name for one in result.classes],
        class_colors=[one.color for one in result.classes],
        um_per_px=backdrop.um_x,
        path=target,
        title=f"{slide.path.name}\n{analysed} mm² analysed by {run['model']['name']}",
        figures=figures,
        region=region_shown(run),
        run_id=run["run_id"],
    )


def _fields(slide: Slide, result: Result) -> list[Field]:
    """Read a few parts of the slide as the network saw them; one that is damaged is left out."""
    from wsi_sampath.outputs.report.nuclei import Field, fields_to_show

    found, finest = [], result.levels[0]
    for x, y, width, height in fields_to_show(result):
        x0, y0 = x * finest.um_x / slide.mpp.x, y * finest.um_y / slide.mpp.y
        with suppress(TileError):
            rgb = slide.read(x0=x0, y0=y0, width=width, height=height, mpp=finest.um_x)
            found.append(Field((x, y, width, height), rgb))
    return found


def backdrop_of(slide: Slide) -> Backdrop | None:
    """Read a slide for pictures of it; None where it has no small level to read them from."""
    width, height = slide.size
    extent = max(width * slide.mpp.x, height * slide.mpp.y)
    plan = slide.sampling(extent / LONGEST_SIDE_PX)
    level = slide.levels[plan.level]
    if level.width * level.height > _MOST_DECODED_PX:
        return None
    rgb, _, plan = slide.thumbnail(extent / LONGEST_SIDE_PX)
    return Backdrop(rgb, plan.mpp_x, plan.mpp_y)
