"""One run of LazySlide's semantic segmentation: lazyslide_segmentor.py SLIDE OUT.zarr.

It keeps polygons, no map. With ``--paint MAP.zarr`` nothing is run: the polygons that OUT.zarr
holds are painted into a class map, for the comparison; 255 is where none lies.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

KEY = "anatomical_structures"


def segment(slide: str, out: str) -> None:
    """Run it."""
    import lazyslide
    from lazyslide_models.base import SegmentationModel, SegmentationOutput
    from stub import CLASSES, Stub
    from torchvision.transforms.v2 import Compose, ToDtype, ToImage
    from wsidata import open_wsi

    class Model(SegmentationModel):
        """The stub behind LazySlide's interface."""

        def __init__(self):
            self.model = Stub()

        def get_transform(self):
            """Colours in 0..1, as the stub wants them."""
            import torch

            return Compose([ToImage(), ToDtype(dtype=torch.float32, scale=True)])

        def segment(self, image):
            probabilities = self.model(image).softmax(1)
            return SegmentationOutput(probability_map=probabilities, classes=CLASSES)

    wsi = open_wsi(slide, store=out)
    lazyslide.pp.tile_tissues(
        wsi, 1024, stride_px=768, edge=True, mpp=0.5, tissue_key=None, background_filter=False
    )
    lazyslide.seg.semantic(
        wsi,
        Model(),
        # Its default, gaussian, divides by the number of tiles and not by their weights.
        mode="constant",
        ignore_index=None,
        class_names=list(CLASSES),
        batch_size=4,
        num_workers=0,
        device="cpu",
        amp=False,
        pbar=False,
        key_added=KEY,
    )
    wsi.write()


def paint(slide: str, out: str, painted: str) -> None:
    """Paint the polygons of a finished run, one band of rows after another."""
    import geopandas
    import openslide
    import zarr
    from rasterio.features import rasterize
    from rasterio.transform import Affine
    from stub import CLASSES

    table = next(Path(out).rglob(f"*{KEY}*/**/*.parquet"))
    found = geopandas.read_parquet(table)
    found["number"] = found["class"].map(CLASSES.index)
    width, height = openslide.OpenSlide(slide).dimensions
    store = zarr.open(
        painted, mode="w", shape=(height, width), chunks=(1024, 1024), dtype="u1", fill_value=255
    )
    for top in range(0, height, 1024):
        rows = min(1024, height - top)
        inside = found.cx[:, top : top + rows]
        shapes = [
            one for one in zip(inside.geometry, inside.number, strict=True) if not one[0].is_empty
        ]
        if shapes:
            store[top : top + rows] = rasterize(
                shapes,
                out_shape=(rows, width),
                fill=255,
                transform=Affine.translation(0, top),
                dtype="uint8",
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("slide")
    parser.add_argument("out")
    parser.add_argument("--paint", metavar="MAP.zarr")
    arguments = parser.parse_args()
    if arguments.paint:
        paint(arguments.slide, arguments.out, arguments.paint)
    else:
        segment(arguments.slide, arguments.out)
