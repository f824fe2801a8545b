"""One run of this package: ours.py SLIDE OUT.zarr --stride N."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from stub_model import stub_model

from wsi_sampath.garbage_collection import collect_rarely
from wsi_sampath.inference.segmenter import segment_slide
from wsi_sampath.inference.settings import SegmentSettings

# As all commands do.
collect_rarely()
parser = argparse.ArgumentParser()
parser.add_argument("slide")
parser.add_argument("out")
parser.add_argument("--stride", type=int, default=1)
parser.add_argument("--polygons", action="store_true")
parser.add_argument("--probabilities", action="store_true")
arguments = parser.parse_args()

model = stub_model(pool=arguments.stride, tile=1024)
settings = SegmentSettings(
    tissue="none",
    output_mpp=0.5 * arguments.stride,
    polygons=arguments.polygons,
    probabilities=arguments.probabilities,
    report=False,
    device="cpu",
    workers=2,
)
result = segment_slide(arguments.slide, arguments.out, settings=settings, model=model)
print(result.attributes["reader"], result.attributes["seconds"])
