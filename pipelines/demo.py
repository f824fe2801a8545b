"""The demo: a sample slide through the bundled model, and a picture of the result."""

from __future__ import annotations

import argparse
from contextlib import closing
from pathlib import Path

from wsi_sampath import Result, SegmentSettings, Slide, segment_slide
from wsi_sampath.cli.progress import slide_screen
from wsi_sampath.outputs.report.backdrop import LONGEST_SIDE_PX, Backdrop
from wsi_sampath.outputs.report.overlay import render_overlay
from wsi_sampath.outputs.report.report import sample_labels
from wsi_sampath.synthetic.sample import sample_slide


def draw(slide_path: Path, result: Result, target: Path) -> None:
    """Draw the slide with its class map, outlines, scale bar and legend."""
    with Slide.open(slide_path) as slide:
        extent = max(
            side * mpp for side, mpp in zip(slide.size, (slide.mpp.x, slide.mpp.y), strict=True)
        )
        rgb, _, sampling = slide.thumbnail(extent / LONGEST_SIDE_PX)
    render_overlay(
        rgb,
        sample_labels(result, Backdrop(rgb, sampling.mpp_x, sampling.mpp_y)),
        class_names=[c.name for c in result.classes],
        class_colors=[c.color for c in result.classes],
        um_per_px=sampling.mpp_x,
        path=target,
        title=slide_path.name,
    )


def main() -> None:
    """Run the demo and say how to look at it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("demo"))
    out = parser.parse_args().out
    sample = sample_slide(out)
    print(f"slide: {sample.path.name}, {sample.origin}", flush=True)
    settings = SegmentSettings(force=True)
    with closing(slide_screen()) as screen:
        result = segment_slide(sample.path, out / "slide.zarr", settings=settings, progress=screen)
    overlay = out / "overlay.png"
    draw(sample.path, result, overlay)
    run = result.attributes
    areas = ", ".join(f"{name} {area:.2f} mm2" for name, area in run["area_mm2"].items())
    print(
        f"""
{run["tiles"]["analysed"]} tiles, read by {run["reader"]}, {run["seconds"]["total"]:.1f} s: {areas}

  {result.zarr}      OME-Zarr: class probabilities and the class map, in microns
  {result.geojson}   {run["polygons"]} polygons
  {result.report}      report: areas, picture, settings; opens in a browser
  {overlay}     picture

QuPath   open {sample.path}, then drag {result.geojson.name if result.geojson else ""} onto it
napari   pip install "napari[all]" napari-ome-zarr; napari --plugin napari-ome-zarr {result.zarr}
"""
    )


if __name__ == "__main__":
    main()
