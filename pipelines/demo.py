"""The demo: a sample slide through the bundled model, and a picture of the result."""

from __future__ import annotations

import argparse
from contextlib import closing
from pathlib import Path

from wsi_sampath import SegmentSettings, segment_slide
from wsi_sampath.cli.progress import slide_screen
from wsi_sampath.synthetic.sample import sample_slide


def main() -> None:
    """Run the demo and say how to look at it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("demo"))
    out = parser.parse_args().out
    sample = sample_slide(out)
    print(f"slide: {sample.path.name}, {sample.origin}", flush=True)
    settings = SegmentSettings(force=True, overlay=True)
    with closing(slide_screen()) as screen:
        result = segment_slide(sample.path, out / "slide.zarr", settings=settings, progress=screen)
    run = result.attributes
    areas = ", ".join(f"{name} {area:.2f} mm2" for name, area in run["area_mm2"].items())
    print(
        f"""
{run["tiles"]["analysed"]} tiles, read by {run["reader"]}, {run["seconds"]["total"]:.1f} s: {areas}

  {result.zarr}      OME-Zarr: class probabilities and the class map, in microns
  {result.geojson}   {run["polygons"]} polygons
  {result.report}      report: areas, picture, settings; opens in a browser
  {out / "slide.png"}       picture: the map over the slide

QuPath   open {sample.path}, then drag {result.geojson.name if result.geojson else ""} onto it
napari   pip install "napari[all]" napari-ome-zarr; napari --plugin napari-ome-zarr {result.zarr}
"""
    )


if __name__ == "__main__":
    main()
