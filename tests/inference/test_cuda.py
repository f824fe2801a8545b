"""The same maps from the GPU; skipped where there is none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import zarr
from nucleus_stub import map_picture, nucleus_model, write_picture
from stub_network import make_stub

from wsi_sampath.inference.predictor import Predictor
from wsi_sampath.inference.segmenter import segment_slide
from wsi_sampath.inference.settings import SegmentSettings
from wsi_sampath.models.zoo import load_model
from wsi_sampath.slides.slide import Slide

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU"),
]


def labels(painted, folder, device, **values):
    made = segment_slide(
        painted.path,
        folder / f"{device}.zarr",
        settings=SegmentSettings.build({"device": device, "tissue": "none", **values}),
        model=make_stub(),
    )
    return zarr.open_group(made.zarr, mode="r")["labels/classes/0"][:]


def test_blending_on_the_gpu_gives_the_same_map(painted, tmp_path):
    values = {"precision": "fp32", "polygons": False}
    cpu = labels(painted, tmp_path, "cpu", **values)
    cuda = labels(painted, tmp_path, "cuda", **values)
    assert (cpu == cuda).mean() > 0.9999


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("compiled", [False, True], ids=["plain", "compiled"])
def test_half_precision_agrees_with_full(painted, precision, compiled):
    with Slide.open(painted.path) as slide:
        tile = slide.read(x0=500, y0=400, width=1024, height=1024, mpp=1.0)
    answers = [
        Predictor(
            load_model(),
            tile_px=1024,
            output_px=256,
            device="cuda",
            precision=one,
            compile=compiled,
        )(tile[None])
        for one in ("fp32", precision)
    ]
    full, half = (answer.argmax(1) for answer in answers)
    assert (full == half).float().mean() >= 0.995


def test_batches_do_not_change_the_answer(painted):
    with Slide.open(painted.path) as slide:
        tiles = np.stack(
            [slide.read(x0=x, y0=300, width=1024, height=1024, mpp=1.0) for x in (0, 400, 800)]
        )
    predictor = Predictor(
        load_model(), tile_px=1024, output_px=256, device="cuda", precision="fp32", batch_size=3
    )
    together = predictor(tiles)
    predictor.batch_size = 1
    assert torch.allclose(together, predictor(tiles), atol=1e-4)


def test_streams_change_nothing(painted, tmp_path):
    values = {"precision": "fp32", "polygons": False, "batch_size": 1, "overlap": 40}
    first = labels(painted, tmp_path / "a", "cuda", **values)
    for again in range(3):
        assert np.array_equal(first, labels(painted, tmp_path / str(again), "cuda", **values))


def test_nuclei_are_the_same_from_the_gpu(tmp_path):
    slide = write_picture(tmp_path / "maps.tif", map_picture(1100, 700, 500))
    found = {}
    for device in ("cpu", "cuda"):
        settings = SegmentSettings(device=device, precision="fp32", tissue="none", report=False)
        made = segment_slide(
            slide, tmp_path / f"{device}.zarr", settings=settings, model=nucleus_model(3)
        )
        found[device] = made.window("nuclei", 0, (0, 0, 700, 1100)), made.nuclei()
    assert np.array_equal(found["cpu"][0], found["cuda"][0])
    assert found["cpu"][1].select(["id", "class"]).equals(found["cuda"][1].select(["id", "class"]))


def test_half_precision_finds_the_nuclei_of_full(painted):
    with Slide.open(painted.path) as slide:
        tile = slide.read(x0=500, y0=400, width=256, height=256, mpp=0.5)
    full, half = (
        Predictor(
            load_model("nuclei-mini"), tile_px=192, output_px=192, device="cuda", precision=one
        )(tile[None])
        for one in ("fp32", "fp16")
    )
    assert ((full > 0.5) == (half > 0.5)).float().mean() >= 0.995
