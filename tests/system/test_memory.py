"""Peak memory depends on the width of a slide, not on its height."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from wsi_sampath.synthetic.svs_writer import write_svs

WIDTH = 1024
RUN = """
import json, sys
sys.path.insert(0, {tests!r})
from stub_network import make_stub
from wsi_sampath.inference.segmenter import segment_slide
from wsi_sampath.inference.settings import SegmentSettings

settings = SegmentSettings(tissue="none", device="cpu", workers=2, batch_size=4, report=False)
result = segment_slide({slide!r}, {out!r}, settings=settings, model=make_stub(tile=512))
print(json.dumps(result.attributes))
"""


def tall_slide(path: Path, height: int) -> Path:
    """A slide of repeated tiles: discs on a ground that is cut by a line in every tile."""
    y, x = np.mgrid[:256, :256]
    tile = np.full((256, 256, 3), (235, 225, 232), np.uint8)
    tile[(y - 128) ** 2 + (x - 128) ** 2 < 70**2] = (120, 60, 140)
    tile[:16] = (200, 120, 160)
    band = np.tile(tile, (1, WIDTH // 256, 1))
    bands = (band for _ in range(height // 256))
    return write_svs(path, bands, width=WIDTH, height=height, mpp=0.5, levels=(1,))


def run(tmp_path: Path, height: int) -> dict:
    tmp_path.mkdir()
    slide = tall_slide(tmp_path / f"{height}.svs", height)
    code = RUN.format(
        tests=str(Path(__file__).parents[1]), slide=str(slide), out=str(tmp_path / f"{height}.zarr")
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=550)
    assert done.returncode == 0, done.stderr
    slide.unlink()
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_ten_times_the_height_takes_the_same_memory(tmp_path):
    low, high = run(tmp_path / "low", 20_480), run(tmp_path / "high", 204_800)
    assert high["tiles"]["analysed"] > 9 * low["tiles"]["analysed"]
    assert high["polygons"] > 9 * low["polygons"]
    peak = low["peak_memory_mb"]
    if high["peak_memory_mb"] >= 1.1 * peak:
        # Allocators waver by a few per cent from run to run, so the low slide has another one.
        peak = max(peak, run(tmp_path / "again", 20_480)["peak_memory_mb"])
    assert high["peak_memory_mb"] < 1.1 * peak
    assert high["decoded_px"] <= 1.15 * WIDTH * 204_800
